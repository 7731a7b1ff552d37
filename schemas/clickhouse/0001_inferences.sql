-- One row per event. Detections are parallel arrays (NaN in a box = not given); detections_extra holds the rest as JSON.
-- Sorted by model, device, time: time first would interleave the rows of all parts and double the cost of merges.
-- device_id '', error '', image_width 0 = not given.
CREATE TABLE IF NOT EXISTS inferences {cluster}
(
    event_id                    String,
    event_time                  DateTime64(3, 'UTC'),
    workspace                   LowCardinality(String),
    model_id                    LowCardinality(String),
    device_id                   LowCardinality(String),
    latency_us                  Nullable(UInt64),
    `detections.class`          Array(LowCardinality(String)),
    `detections.confidence_ppm` Array(UInt32),
    `detections.x`              Array(Float32),
    `detections.y`              Array(Float32),
    `detections.width`          Array(Float32),
    `detections.height`         Array(Float32),
    detections_extra            String,
    error                       String,
    image_width                 UInt32,
    image_height                UInt32,
    image_url                   String,
    metadata                    Map(LowCardinality(String), String),
    tags                        Array(LowCardinality(String)),
    source                      LowCardinality(String),
    deployment                  LowCardinality(String),
    server_version              LowCardinality(String),
    kafka_partition             UInt16,
    kafka_offset                UInt64,
    kafka_time                  DateTime64(3, 'UTC'),
    ingested_at                 DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC'),

    latency_ms                  Nullable(Float64) ALIAS latency_us / 1000,
    detections_confidence       Array(Float64) ALIAS arrayMap(ppm -> ppm / 1000000, `detections.confidence_ppm`),

    INDEX event_id        event_id            TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX device_id       device_id           TYPE bloom_filter(0.01)  GRANULARITY 1,
    INDEX class           `detections.class`  TYPE bloom_filter(0.01)  GRANULARITY 1,
    INDEX metadata_keys   mapKeys(metadata)   TYPE bloom_filter(0.01)  GRANULARITY 1,
    INDEX metadata_values mapValues(metadata) TYPE bloom_filter(0.01)  GRANULARITY 1,
    INDEX kafka_offset    kafka_offset        TYPE minmax              GRANULARITY 1,
    INDEX ingested_at     ingested_at         TYPE minmax              GRANULARITY 1,

    -- How far each partition of Kafka is recorded, without reading a month.
    PROJECTION recorded
    (
        SELECT kafka_partition, count(), max(kafka_offset), max(kafka_time) GROUP BY kafka_partition
    )
)
ENGINE = {engine:MergeTree}
PARTITION BY toDate(event_time)
ORDER BY (workspace, model_id, device_id, event_time)
TTL toDateTime(event_time) + toIntervalDay({ttl_inferences_days})
SETTINGS {deduplication},
         -- Live inserts are small: merge more parts at once, and columns one by one (7 -> 3 times written).
         merge_selector_base = 12,
         vertical_merge_algorithm_min_columns_to_activate = 1,
         vertical_merge_algorithm_min_rows_to_activate = 1,
         ttl_only_drop_parts = 1,
         lightweight_mutation_projection_mode = 'rebuild';
