"""What is asked of ClickHouse: a module a subject, functions that take the connection and give typed rows back."""
