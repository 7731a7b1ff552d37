"""What a cut is in ClickHouse: tables, columns, blocks in its Native format."""
