-- One row per heartbeat. Partitioned and kept by the broker's time: sent_at is the device's own clock.
CREATE TABLE IF NOT EXISTS device_heartbeats {cluster}
(
    workspace            LowCardinality(String),
    device_id            LowCardinality(String),
    sent_at              DateTime64(3, 'UTC'),
    interval_ms          UInt64,
    server_id            String,
    version              String,
    tags                 Array(LowCardinality(String)),
    boot_id              String,
    status               LowCardinality(String),
    expected_downtime_ms UInt64,
    kafka_partition      UInt16,
    kafka_offset         UInt64,
    kafka_time           DateTime64(3, 'UTC'),
    ingested_at          DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC'),

    INDEX sent_at      sent_at      TYPE minmax GRANULARITY 1,
    INDEX kafka_offset kafka_offset TYPE minmax GRANULARITY 1,

    -- The heartbeats of an hour in one row for each device: what was heard last, and when, without reading each beat.
    PROJECTION hourly
    (
        SELECT
            workspace,
            device_id,
            toStartOfHour(sent_at),
            count(),
            max(sent_at),
            max(interval_ms),
            argMax(version, sent_at),
            argMax(status, sent_at)
        GROUP BY workspace, device_id, toStartOfHour(sent_at)
    )
)
ENGINE = {engine:MergeTree}
PARTITION BY toDate(kafka_time)
ORDER BY (workspace, device_id, sent_at)
TTL toDateTime(kafka_time) + toIntervalDay({ttl_inferences_days})
SETTINGS {deduplication},
         ttl_only_drop_parts = 1;
