"""What is asked of ClickHouse: a module a subject, functions that take a Store and give typed rows back."""
