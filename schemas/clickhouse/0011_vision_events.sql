-- One row a version of a vision event: of those with the same event_id the last one (kafka_time, kafka_offset) counts, and
-- where that is deleted nothing does. By kafka_time, since an event may be a year old. Values of maps are JSON text.
CREATE TABLE IF NOT EXISTS vision_events {cluster}
(
    workspace       LowCardinality(String),
    event_id        String,
    event_time      DateTime64(3, 'UTC'),
    use_case_id     LowCardinality(String),
    event_type      LowCardinality(String),
    device_id       LowCardinality(String),
    stream_id       LowCardinality(String),
    workflow_id     LowCardinality(String),
    external_id     String,
    classes         Array(LowCardinality(String)),
    confidences_ppm Array(UInt32),
    event_data      Map(LowCardinality(String), String),
    custom_metadata Map(LowCardinality(String), String),
    image_metadata  Map(LowCardinality(String), String),
    warnings        Array(String),
    deleted         UInt8,
    body            String,
    kafka_partition UInt16,
    kafka_offset    UInt64,
    kafka_time      DateTime64(3, 'UTC'),
    ingested_at     DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC'),

    INDEX event_id     event_id     TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX external_id  external_id  TYPE bloom_filter(0.01)  GRANULARITY 1,
    INDEX kafka_offset kafka_offset TYPE minmax              GRANULARITY 1
)
ENGINE = {engine:MergeTree}
PARTITION BY toDate(kafka_time)
ORDER BY (workspace, use_case_id, event_time)
TTL toDateTime(kafka_time) + toIntervalDay({ttl_inferences_days})
SETTINGS {deduplication},
         ttl_only_drop_parts = 1;
