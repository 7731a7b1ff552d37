-- One row per step in the life of an alert, in the words of the topic inference.alerts. Kept for ever: they are few.
CREATE TABLE IF NOT EXISTS alerts {cluster}
(
    fingerprint     String,
    episode         DateTime64(3, 'UTC'),
    sequence        UInt32,
    state           LowCardinality(String),
    previous_state  LowCardinality(String),
    at              DateTime64(3, 'UTC'),
    starts_at       DateTime64(3, 'UTC'),
    kind            LowCardinality(String),
    rule_id         String,
    workspace       LowCardinality(String),
    model_id        LowCardinality(String),
    device_id       LowCardinality(String),
    class           LowCardinality(String),
    metric          LowCardinality(String),
    value           Nullable(Float64),
    expected        Nullable(Float64),
    threshold       Nullable(Float64),
    severity        LowCardinality(String),
    labels          Map(LowCardinality(String), String),
    summary         String,
    evidence        String,
    kafka_partition UInt16,
    kafka_offset    UInt64,
    kafka_time      DateTime64(3, 'UTC'),
    ingested_at     DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC'),

    INDEX kafka_offset kafka_offset TYPE minmax GRANULARITY 1
)
ENGINE = {engine:MergeTree}
PARTITION BY toYYYYMM(at)
ORDER BY (workspace, fingerprint, episode, sequence)
SETTINGS {deduplication};

-- The last step of each alert.
CREATE OR REPLACE VIEW alert_state {cluster} AS
SELECT * FROM alerts
ORDER BY episode DESC, sequence DESC
LIMIT 1 BY workspace, fingerprint;

CREATE OR REPLACE VIEW open_alerts {cluster} AS
SELECT * FROM alert_state
WHERE state != 'resolved';
