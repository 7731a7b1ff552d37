"""ClickHouse: the client, tables, users, and the inserts that take a named cut once."""
