"""`hub init`: from a database's catalogue to a commented configuration."""
