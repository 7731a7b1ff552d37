-- Windows of 10 seconds, and their rollups to 1 minute, 1 hour and 1 day (schemas/windows.py). Every column but the key
-- merges, so a correction is just another row: read with sum(), min(), max(), sumMap() and GROUP BY, or from the views
-- *_stats.
-- latency_histogram: key b covers (g^(b-1), g^b] microseconds, g = 1.01 / 0.99; key -2147483648 is 0 microseconds.
-- confidence_histogram: key = ppm div 10000. source: partition of inference.aggregates -> last offset in this row.

CREATE TABLE IF NOT EXISTS model_windows{window} {cluster}
(
    workspace             LowCardinality(String),
    model_id              LowCardinality(String),
    device_id             LowCardinality(String),
    window_start          DateTime('UTC'),
    inference_count       SimpleAggregateFunction(sum, UInt64),
    error_count           SimpleAggregateFunction(sum, UInt64),
    empty_count           SimpleAggregateFunction(sum, UInt64),
    detection_count       SimpleAggregateFunction(sum, UInt64),
    latency_count         SimpleAggregateFunction(sum, UInt64),
    latency_us_sum        SimpleAggregateFunction(sum, UInt64),
    latency_us_min        SimpleAggregateFunction(min, Nullable(UInt64)),
    latency_us_max        SimpleAggregateFunction(max, Nullable(UInt64)),
    latency_histogram     SimpleAggregateFunction(sumMap, Map(Int32, UInt64)),
    confidence_ppm_sum    SimpleAggregateFunction(sum, UInt64),
    confidence_ppm_sum_sq SimpleAggregateFunction(sum, UInt128),
    confidence_ppm_min    SimpleAggregateFunction(min, Nullable(UInt32)),
    confidence_ppm_max    SimpleAggregateFunction(max, Nullable(UInt32)),
    confidence_histogram  SimpleAggregateFunction(sumMap, Map(Int32, UInt64)),
    source                SimpleAggregateFunction(maxMap, Map(UInt16, UInt64))
)
ENGINE = {engine:AggregatingMergeTree}
PARTITION BY {window_partition}(window_start)
ORDER BY (workspace, model_id, device_id, window_start)
{window_ttl}
SETTINGS {deduplication},
         vertical_merge_algorithm_min_columns_to_activate = 1,
         ttl_only_drop_parts = 1;

CREATE TABLE IF NOT EXISTS class_windows{window} {cluster}
(
    workspace             LowCardinality(String),
    model_id              LowCardinality(String),
    class                 LowCardinality(String),
    window_start          DateTime('UTC'),
    detection_count       SimpleAggregateFunction(sum, UInt64),
    inference_count       SimpleAggregateFunction(sum, UInt64),
    confidence_ppm_sum    SimpleAggregateFunction(sum, UInt64),
    confidence_ppm_sum_sq SimpleAggregateFunction(sum, UInt128),
    confidence_ppm_min    SimpleAggregateFunction(min, Nullable(UInt32)),
    confidence_ppm_max    SimpleAggregateFunction(max, Nullable(UInt32)),
    confidence_histogram  SimpleAggregateFunction(sumMap, Map(Int32, UInt64)),
    source                SimpleAggregateFunction(maxMap, Map(UInt16, UInt64))
)
ENGINE = {engine:AggregatingMergeTree}
PARTITION BY {window_partition}(window_start)
ORDER BY (workspace, model_id, class, window_start)
{window_ttl}
SETTINGS {deduplication},
         vertical_merge_algorithm_min_columns_to_activate = 1,
         ttl_only_drop_parts = 1;

-- The recorder inserts here. Nothing hangs on a table that keeps rows: so each target can be asked, and mended, by itself.
CREATE TABLE IF NOT EXISTS {model|class}_windows_in {cluster} AS {model|class}_windows
ENGINE = Null;

-- No GROUP BY: optimize_on_insert merges the rows of a block that fall into one minute, hour or day.
CREATE MATERIALIZED VIEW IF NOT EXISTS {model|class}_windows{window}_mv {cluster} TO {model|class}_windows{window} AS
SELECT * REPLACE (toDateTime(intDiv(toUnixTimestamp(window_start), {window_s}) * {window_s}, 'UTC') AS window_start)
FROM {model|class}_windows_in;

-- Which models, devices and classes there are, for lists of choice: one row each, however much they do. Written beside
-- the windows; a row that is written again changes nothing.
CREATE TABLE IF NOT EXISTS model_devices {cluster}
(
    workspace    LowCardinality(String),
    model_id     LowCardinality(String),
    device_id    LowCardinality(String),
    first_window SimpleAggregateFunction(min, DateTime('UTC')),
    last_window  SimpleAggregateFunction(max, DateTime('UTC'))
)
ENGINE = {engine:AggregatingMergeTree}
ORDER BY (workspace, model_id, device_id)
SETTINGS {deduplication};

CREATE TABLE IF NOT EXISTS model_classes {cluster}
(
    workspace    LowCardinality(String),
    model_id     LowCardinality(String),
    class        LowCardinality(String),
    first_window SimpleAggregateFunction(min, DateTime('UTC')),
    last_window  SimpleAggregateFunction(max, DateTime('UTC'))
)
ENGINE = {engine:AggregatingMergeTree}
ORDER BY (workspace, model_id, class)
SETTINGS {deduplication};

CREATE MATERIALIZED VIEW IF NOT EXISTS model_devices_mv {cluster} TO model_devices AS
SELECT workspace, model_id, device_id, window_start AS first_window, window_start AS last_window FROM model_windows_in;

CREATE MATERIALIZED VIEW IF NOT EXISTS model_classes_mv {cluster} TO model_classes AS
SELECT workspace, model_id, class, window_start AS first_window, window_start AS last_window FROM class_windows_in;
