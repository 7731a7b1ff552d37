"""What crosses a boundary: records on Kafka, tables in ClickHouse. Pure; imports nothing of ours."""
