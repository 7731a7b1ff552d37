"""Our workers in a small world where time, Kafka, ClickHouse and bad luck are made from a seed."""
