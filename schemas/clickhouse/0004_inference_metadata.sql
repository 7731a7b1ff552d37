-- What became known about an inference after it was published; the view inference_details folds it in.
CREATE TABLE IF NOT EXISTS inference_metadata {cluster}
(
    workspace       LowCardinality(String),
    inference_id    String,
    field           LowCardinality(String),
    value           String,
    sent_at         DateTime64(3, 'UTC'),
    kafka_partition UInt16,
    kafka_offset    UInt64,
    kafka_time      DateTime64(3, 'UTC'),
    ingested_at     DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC'),

    INDEX inference_id inference_id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX kafka_offset kafka_offset TYPE minmax              GRANULARITY 1
)
ENGINE = {engine:MergeTree}
PARTITION BY toDate(kafka_time)
ORDER BY (workspace, inference_id, field, sent_at)
TTL toDateTime(kafka_time) + toIntervalDay({ttl_inferences_days})
SETTINGS {deduplication},
         ttl_only_drop_parts = 1;
