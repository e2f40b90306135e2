"""PostgreSQL: any database of one's own, read by logical decoding or by triggers, written in transactions."""
