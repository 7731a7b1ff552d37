-- What dashboards stand on: small tables for lists of choice, and views that read the one rollup that fits a range of time.

-- Which models, devices and classes there are, for lists of choice: one row each, however much they do. Written beside
-- the windows; a row that is written again changes nothing.
CREATE TABLE IF NOT EXISTS model_devices
(
    workspace    LowCardinality(String),
    model_id     LowCardinality(String),
    device_id    LowCardinality(String),
    first_window SimpleAggregateFunction(min, DateTime('UTC')),
    last_window  SimpleAggregateFunction(max, DateTime('UTC'))
)
ENGINE = AggregatingMergeTree
ORDER BY (workspace, model_id, device_id)
SETTINGS non_replicated_deduplication_window = 100000;

CREATE TABLE IF NOT EXISTS model_classes
(
    workspace    LowCardinality(String),
    model_id     LowCardinality(String),
    class        LowCardinality(String),
    first_window SimpleAggregateFunction(min, DateTime('UTC')),
    last_window  SimpleAggregateFunction(max, DateTime('UTC'))
)
ENGINE = AggregatingMergeTree
ORDER BY (workspace, model_id, class)
SETTINGS non_replicated_deduplication_window = 100000;

CREATE MATERIALIZED VIEW IF NOT EXISTS model_devices_mv TO model_devices AS
SELECT workspace, model_id, device_id, window_start AS first_window, window_start AS last_window FROM model_windows_in;

CREATE MATERIALIZED VIEW IF NOT EXISTS model_classes_mv TO model_classes AS
SELECT workspace, model_id, class, window_start AS first_window, window_start AS last_window FROM class_windows_in;

-- What was there before these tables were.
INSERT INTO model_devices
SELECT workspace, model_id, device_id, min(window_start), max(window_start) FROM model_windows_1d
GROUP BY workspace, model_id, device_id;

INSERT INTO model_classes
SELECT workspace, model_id, class, min(window_start), max(window_start) FROM class_windows_1d
GROUP BY workspace, model_id, class;

-- The heartbeats of an hour in one row for each device: what was heard last, and when, without reading each beat.
ALTER TABLE device_heartbeats ADD PROJECTION IF NOT EXISTS hourly
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
);

ALTER TABLE device_heartbeats MATERIALIZE PROJECTION hourly;

-- A model_id is the model's name and, after its last slash, its version.
CREATE OR REPLACE VIEW models AS
SELECT
    workspace,
    replaceRegexpOne(model_id, '/[^/]*$', '') AS model,
    if(model = model_id, '', substring(model_id, length(model) + 2)) AS version,
    model_id,
    min(d.first_window) AS first_window,
    max(d.last_window) AS last_window
FROM model_devices AS d
GROUP BY workspace, model_id;

-- Parts on disk of each table. The definer's rights, since system.parts is nothing that a reader may ask.
CREATE OR REPLACE VIEW table_parts DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT
    table,
    count() AS parts,
    uniqExact(partition_id) AS partitions,
    toUInt64(max(parts_of_partition)) AS parts_max,
    sum(rows) AS rows,
    sum(bytes_on_disk) AS bytes
FROM
(
    SELECT table, partition_id, rows, bytes_on_disk, count() OVER (PARTITION BY table, partition_id) AS parts_of_partition
    FROM system.parts
    WHERE active AND database = currentDatabase()
)
GROUP BY table;

-- window_s: the rollup to read where points are step_s apart and the oldest is at `since`. The coarsest that shows every
-- point; a coarser one where that is not kept long enough (one that begins on the first day of all data holds all of it).
-- Known from the parts' own minima, not from rows.
CREATE OR REPLACE VIEW model_rollup AS
WITH kept AS
(
    SELECT 10 AS window_s, if(count() = 0, now('UTC'), min(window_start)) AS first FROM model_windows
    UNION ALL
    SELECT 60 AS window_s, if(count() = 0, now('UTC'), min(window_start)) AS first FROM model_windows_1m
    UNION ALL
    SELECT 3600 AS window_s, if(count() = 0, now('UTC'), min(window_start)) AS first FROM model_windows_1h
    UNION ALL
    SELECT 86400 AS window_s, if(count() = 0, now('UTC'), min(window_start)) AS first FROM model_windows_1d
)
SELECT
    toUInt32(argMax(window_s, if(window_s <= greatest({step_s:UInt32}, 10), window_s, -toInt64(window_s)))) AS window_s
FROM kept
WHERE toDate(first) <= greatest(toDate({since:DateTime('UTC')}), (SELECT toDate(argMax(first, window_s)) FROM kept));

CREATE OR REPLACE VIEW class_rollup AS
WITH kept AS
(
    SELECT 10 AS window_s, if(count() = 0, now('UTC'), min(window_start)) AS first FROM class_windows
    UNION ALL
    SELECT 60 AS window_s, if(count() = 0, now('UTC'), min(window_start)) AS first FROM class_windows_1m
    UNION ALL
    SELECT 3600 AS window_s, if(count() = 0, now('UTC'), min(window_start)) AS first FROM class_windows_1h
    UNION ALL
    SELECT 86400 AS window_s, if(count() = 0, now('UTC'), min(window_start)) AS first FROM class_windows_1d
)
SELECT
    toUInt32(argMax(window_s, if(window_s <= greatest({step_s:UInt32}, 10), window_s, -toInt64(window_s)))) AS window_s
FROM kept
WHERE toDate(first) <= greatest(toDate({since:DateTime('UTC')}), (SELECT toDate(argMax(first, window_s)) FROM kept));

-- The windows of a range of time from one rollup: SELECT ... FROM model_range(since = ..., until = ..., step_s = 60).
-- time: the point that a window belongs to; points are step_s apart, or a window, or whole windows. seconds: how much of
-- that point the range covers, to make a rate. Filters on workspace, model_id, device_id and class reach the primary key.
CREATE OR REPLACE VIEW model_range AS
WITH
    (SELECT window_s FROM model_rollup(since = {since:DateTime('UTC')}, step_s = {step_s:UInt32})) AS rollup_s,
    greatest(assumeNotNull(rollup_s), 1) AS chosen_s, -- 1: what a subquery is while the query is only looked at
    toUInt32(intDiv({step_s:UInt32} + chosen_s - 1, chosen_s) * chosen_s) AS point_s,
    toDateTime(intDiv(toUnixTimestamp({since:DateTime('UTC')}), chosen_s) * chosen_s, 'UTC') AS first
SELECT
    *,
    toDateTime(intDiv(toUnixTimestamp(window_start), point_s) * point_s, 'UTC') AS time,
    greatest(
        toUnixTimestamp(least(time + point_s, {until:DateTime('UTC')}, now('UTC'))) - toUnixTimestamp(greatest(time, first)),
        toInt64(chosen_s)) AS seconds
FROM
(
    SELECT *, 10 AS window_s FROM model_windows
    UNION ALL
    SELECT *, 60 AS window_s FROM model_windows_1m
    UNION ALL
    SELECT *, 3600 AS window_s FROM model_windows_1h
    UNION ALL
    SELECT *, 86400 AS window_s FROM model_windows_1d
)
WHERE window_s = chosen_s AND window_start >= first AND window_start <= {until:DateTime('UTC')};

CREATE OR REPLACE VIEW class_range AS
WITH
    (SELECT window_s FROM class_rollup(since = {since:DateTime('UTC')}, step_s = {step_s:UInt32})) AS rollup_s,
    greatest(assumeNotNull(rollup_s), 1) AS chosen_s, -- 1: what a subquery is while the query is only looked at
    toUInt32(intDiv({step_s:UInt32} + chosen_s - 1, chosen_s) * chosen_s) AS point_s,
    toDateTime(intDiv(toUnixTimestamp({since:DateTime('UTC')}), chosen_s) * chosen_s, 'UTC') AS first
SELECT
    *,
    toDateTime(intDiv(toUnixTimestamp(window_start), point_s) * point_s, 'UTC') AS time,
    greatest(
        toUnixTimestamp(least(time + point_s, {until:DateTime('UTC')}, now('UTC'))) - toUnixTimestamp(greatest(time, first)),
        toInt64(chosen_s)) AS seconds
FROM
(
    SELECT *, 10 AS window_s FROM class_windows
    UNION ALL
    SELECT *, 60 AS window_s FROM class_windows_1m
    UNION ALL
    SELECT *, 3600 AS window_s FROM class_windows_1h
    UNION ALL
    SELECT *, 86400 AS window_s FROM class_windows_1d
)
WHERE window_s = chosen_s AND window_start >= first AND window_start <= {until:DateTime('UTC')};
