-- Dead letters that an operator has sent again, so that none is sent twice by accident: which, and where it went.
CREATE TABLE IF NOT EXISTS dead_letter_replays
(
    kafka_topic        LowCardinality(String),
    kafka_partition    UInt16,
    kafka_offset       UInt64,
    kafka_time         DateTime64(3, 'UTC'),
    replayed_partition UInt16,
    replayed_offset    UInt64,
    replayed_at        DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = MergeTree
PARTITION BY toDate(kafka_time)
ORDER BY (kafka_topic, kafka_partition, kafka_offset)
TTL toDateTime(kafka_time) + toIntervalDay({ttl_inferences_days})
SETTINGS ttl_only_drop_parts = 1;
