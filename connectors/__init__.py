"""Connectors: one folder per system, on the shared kit."""
