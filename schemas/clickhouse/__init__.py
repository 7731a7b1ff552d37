"""The ClickHouse tables and views: NNNN_name.sql, applied in order, never edited once released."""
