-- Records that were refused: why, which field, where they lie in Kafka, and their first 64 KiB (value_bytes = full size).
CREATE TABLE IF NOT EXISTS dead_letters {cluster}
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
ENGINE = {engine:MergeTree}
PARTITION BY toDate(kafka_time)
ORDER BY (kafka_topic, kafka_partition, kafka_offset)
TTL toDateTime(kafka_time) + toIntervalDay({ttl_inferences_days})
SETTINGS {deduplication},
         ttl_only_drop_parts = 1;

-- Dead letters that an operator has sent again, so that none is sent twice by accident: which, and where it went.
CREATE TABLE IF NOT EXISTS dead_letter_replays {cluster}
(
    kafka_topic        LowCardinality(String),
    kafka_partition    UInt16,
    kafka_offset       UInt64,
    kafka_time         DateTime64(3, 'UTC'),
    replayed_partition UInt16,
    replayed_offset    UInt64,
    replayed_at        DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = {engine:MergeTree}
PARTITION BY toDate(kafka_time)
ORDER BY (kafka_topic, kafka_partition, kafka_offset)
TTL toDateTime(kafka_time) + toIntervalDay({ttl_inferences_days})
SETTINGS {deduplication},
         ttl_only_drop_parts = 1;
