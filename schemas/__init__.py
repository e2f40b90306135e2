"""Data shapes that outlive the code: Avro schemas of everything on the log, and the canonical entities."""
