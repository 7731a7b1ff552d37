-- Which topic (by Kafka's id) the rows of a partition came from: one that is deleted and created again has another id,
-- and Kafka forgets committed offsets with it.
CREATE TABLE IF NOT EXISTS kafka_logs {cluster}
(
    topic     LowCardinality(String),
    partition UInt16,
    topic_id  String,
    seen_at   DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = {engine:ReplacingMergeTree}
ORDER BY (topic, partition, topic_id)
SETTINGS {deduplication};
