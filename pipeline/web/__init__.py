"""The HTTP side: a request becomes records on Kafka or a question to ClickHouse, and an answer. Knows no engine."""
