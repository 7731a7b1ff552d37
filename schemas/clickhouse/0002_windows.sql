-- Windows of 10 seconds, and their rollups to 1 minute, 1 hour and 1 day. Every column but the key merges, so a
-- correction is just another row: read with sum(), min(), max(), sumMap() and GROUP BY, or from the views *_stats.
-- latency_histogram: key b covers (g^(b-1), g^b] microseconds, g = 1.01 / 0.99; key -2147483648 is 0 microseconds.
-- confidence_histogram: key = ppm div 10000. source: partition of inference.aggregates -> last offset in this row.

CREATE TABLE IF NOT EXISTS model_windows
(
    workspace            LowCardinality(String),
    model_id             LowCardinality(String),
    device_id            LowCardinality(String),
    window_start         DateTime('UTC'),
    inference_count      SimpleAggregateFunction(sum, UInt64),
    error_count          SimpleAggregateFunction(sum, UInt64),
    empty_count          SimpleAggregateFunction(sum, UInt64),
    detection_count      SimpleAggregateFunction(sum, UInt64),
    latency_count        SimpleAggregateFunction(sum, UInt64),
    latency_us_sum       SimpleAggregateFunction(sum, UInt64),
    latency_us_min       SimpleAggregateFunction(min, Nullable(UInt64)),
    latency_us_max       SimpleAggregateFunction(max, Nullable(UInt64)),
    latency_histogram    SimpleAggregateFunction(sumMap, Map(Int32, UInt64)),
    confidence_ppm_sum   SimpleAggregateFunction(sum, UInt64),
    confidence_ppm_min   SimpleAggregateFunction(min, Nullable(UInt32)),
    confidence_ppm_max   SimpleAggregateFunction(max, Nullable(UInt32)),
    confidence_histogram SimpleAggregateFunction(sumMap, Map(Int32, UInt64)),
    source               SimpleAggregateFunction(maxMap, Map(UInt16, UInt64))
)
ENGINE = AggregatingMergeTree
PARTITION BY toDate(window_start)
ORDER BY (workspace, model_id, device_id, window_start)
TTL window_start + toIntervalDay({ttl_windows_days})
SETTINGS non_replicated_deduplication_window = 100000,
         vertical_merge_algorithm_min_columns_to_activate = 1,
         ttl_only_drop_parts = 1;

CREATE TABLE IF NOT EXISTS model_windows_1m AS model_windows
ENGINE = AggregatingMergeTree
PARTITION BY toDate(window_start)
ORDER BY (workspace, model_id, device_id, window_start)
TTL window_start + toIntervalDay({ttl_windows_1m_days})
SETTINGS non_replicated_deduplication_window = 100000,
         vertical_merge_algorithm_min_columns_to_activate = 1,
         ttl_only_drop_parts = 1;

CREATE TABLE IF NOT EXISTS model_windows_1h AS model_windows
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(window_start)
ORDER BY (workspace, model_id, device_id, window_start)
TTL window_start + toIntervalDay({ttl_windows_1h_days})
SETTINGS non_replicated_deduplication_window = 100000,
         vertical_merge_algorithm_min_columns_to_activate = 1,
         ttl_only_drop_parts = 1;

CREATE TABLE IF NOT EXISTS model_windows_1d AS model_windows
ENGINE = AggregatingMergeTree
PARTITION BY toYear(window_start)
ORDER BY (workspace, model_id, device_id, window_start)
SETTINGS non_replicated_deduplication_window = 100000,
         vertical_merge_algorithm_min_columns_to_activate = 1;

CREATE TABLE IF NOT EXISTS class_windows
(
    workspace            LowCardinality(String),
    model_id             LowCardinality(String),
    class                LowCardinality(String),
    window_start         DateTime('UTC'),
    detection_count      SimpleAggregateFunction(sum, UInt64),
    inference_count      SimpleAggregateFunction(sum, UInt64),
    confidence_ppm_sum   SimpleAggregateFunction(sum, UInt64),
    confidence_ppm_min   SimpleAggregateFunction(min, Nullable(UInt32)),
    confidence_ppm_max   SimpleAggregateFunction(max, Nullable(UInt32)),
    confidence_histogram SimpleAggregateFunction(sumMap, Map(Int32, UInt64)),
    source               SimpleAggregateFunction(maxMap, Map(UInt16, UInt64))
)
ENGINE = AggregatingMergeTree
PARTITION BY toDate(window_start)
ORDER BY (workspace, model_id, class, window_start)
TTL window_start + toIntervalDay({ttl_windows_days})
SETTINGS non_replicated_deduplication_window = 100000,
         vertical_merge_algorithm_min_columns_to_activate = 1,
         ttl_only_drop_parts = 1;

CREATE TABLE IF NOT EXISTS class_windows_1m AS class_windows
ENGINE = AggregatingMergeTree
PARTITION BY toDate(window_start)
ORDER BY (workspace, model_id, class, window_start)
TTL window_start + toIntervalDay({ttl_windows_1m_days})
SETTINGS non_replicated_deduplication_window = 100000,
         vertical_merge_algorithm_min_columns_to_activate = 1,
         ttl_only_drop_parts = 1;

CREATE TABLE IF NOT EXISTS class_windows_1h AS class_windows
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(window_start)
ORDER BY (workspace, model_id, class, window_start)
TTL window_start + toIntervalDay({ttl_windows_1h_days})
SETTINGS non_replicated_deduplication_window = 100000,
         vertical_merge_algorithm_min_columns_to_activate = 1,
         ttl_only_drop_parts = 1;

CREATE TABLE IF NOT EXISTS class_windows_1d AS class_windows
ENGINE = AggregatingMergeTree
PARTITION BY toYear(window_start)
ORDER BY (workspace, model_id, class, window_start)
SETTINGS non_replicated_deduplication_window = 100000,
         vertical_merge_algorithm_min_columns_to_activate = 1;

-- The recorder inserts here. Nothing hangs on a table that keeps rows: so each target can be asked, and mended, by itself.

CREATE TABLE IF NOT EXISTS model_windows_in
(
    workspace            LowCardinality(String),
    model_id             LowCardinality(String),
    device_id            LowCardinality(String),
    window_start         DateTime('UTC'),
    inference_count      UInt64,
    error_count          UInt64,
    empty_count          UInt64,
    detection_count      UInt64,
    latency_count        UInt64,
    latency_us_sum       UInt64,
    latency_us_min       Nullable(UInt64),
    latency_us_max       Nullable(UInt64),
    latency_histogram    Map(Int32, UInt64),
    confidence_ppm_sum   UInt64,
    confidence_ppm_min   Nullable(UInt32),
    confidence_ppm_max   Nullable(UInt32),
    confidence_histogram Map(Int32, UInt64),
    source               Map(UInt16, UInt64)
)
ENGINE = Null;

CREATE TABLE IF NOT EXISTS class_windows_in
(
    workspace            LowCardinality(String),
    model_id             LowCardinality(String),
    class                LowCardinality(String),
    window_start         DateTime('UTC'),
    detection_count      UInt64,
    inference_count      UInt64,
    confidence_ppm_sum   UInt64,
    confidence_ppm_min   Nullable(UInt32),
    confidence_ppm_max   Nullable(UInt32),
    confidence_histogram Map(Int32, UInt64),
    source               Map(UInt16, UInt64)
)
ENGINE = Null;

-- No GROUP BY: optimize_on_insert merges the rows of a block that fall into one minute, hour or day.

CREATE MATERIALIZED VIEW IF NOT EXISTS model_windows_mv TO model_windows AS
SELECT * FROM model_windows_in;

CREATE MATERIALIZED VIEW IF NOT EXISTS model_windows_1m_mv TO model_windows_1m AS
SELECT * REPLACE (toStartOfMinute(window_start) AS window_start) FROM model_windows_in;

CREATE MATERIALIZED VIEW IF NOT EXISTS model_windows_1h_mv TO model_windows_1h AS
SELECT * REPLACE (toStartOfHour(window_start) AS window_start) FROM model_windows_in;

CREATE MATERIALIZED VIEW IF NOT EXISTS model_windows_1d_mv TO model_windows_1d AS
SELECT * REPLACE (toStartOfDay(window_start) AS window_start) FROM model_windows_in;

CREATE MATERIALIZED VIEW IF NOT EXISTS class_windows_mv TO class_windows AS
SELECT * FROM class_windows_in;

CREATE MATERIALIZED VIEW IF NOT EXISTS class_windows_1m_mv TO class_windows_1m AS
SELECT * REPLACE (toStartOfMinute(window_start) AS window_start) FROM class_windows_in;

CREATE MATERIALIZED VIEW IF NOT EXISTS class_windows_1h_mv TO class_windows_1h AS
SELECT * REPLACE (toStartOfHour(window_start) AS window_start) FROM class_windows_in;

CREATE MATERIALIZED VIEW IF NOT EXISTS class_windows_1d_mv TO class_windows_1d AS
SELECT * REPLACE (toStartOfDay(window_start) AS window_start) FROM class_windows_in;
