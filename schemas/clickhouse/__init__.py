"""The ClickHouse tables and views: NNNN_name.sql, applied in order by pipeline.edge.migrations, never edited once released."""
