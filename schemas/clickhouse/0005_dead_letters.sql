-- Records that were refused: why, which field, where they lie in Kafka, and their first 64 KiB (value_bytes = full size).
CREATE TABLE IF NOT EXISTS dead_letters
(
    reason          LowCardinality(String),
    field           String,
    kafka_topic     LowCardinality(String),
    kafka_partition UInt16,
    kafka_offset    UInt64,
    kafka_time      DateTime64(3, 'UTC'),
    key             String,
    value           String,
    value_bytes     UInt64,
    ingested_at     DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC'),

    INDEX kafka_offset kafka_offset TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toDate(kafka_time)
ORDER BY (kafka_topic, kafka_partition, kafka_offset)
TTL toDateTime(kafka_time) + toIntervalDay({ttl_inferences_days})
SETTINGS non_replicated_deduplication_window = 100000,
         ttl_only_drop_parts = 1;
