-- What dashboards stand on: views that read the one rollup that fits a range of time.

-- window_s: the rollup to read where points are step_s apart and the oldest is at `since`. The coarsest that shows every
-- point; a coarser one where that is not kept long enough (one that begins on the first day of all data holds all of it).
-- Known from the parts' own minima, not from rows.
CREATE OR REPLACE VIEW {model|class}_rollup {cluster} AS
WITH kept AS
(
    /* each window: UNION ALL */
    SELECT {window_s} AS window_s, if(count() = 0, now('UTC'), min(window_start)) AS first FROM {model|class}_windows{window}
    /* end */
)
SELECT
    toUInt32(argMax(window_s, if(window_s <= greatest({step_s:UInt32}, 10), window_s, -toInt64(window_s)))) AS window_s
FROM kept
WHERE toDate(first) <= greatest(toDate({since:DateTime('UTC')}), (SELECT toDate(argMax(first, window_s)) FROM kept));

-- The windows of a range of time from one rollup: SELECT ... FROM model_range(since = ..., until = ..., step_s = 60).
-- time: the point that a window belongs to; points are step_s apart, or a window, or whole windows. seconds: how much of
-- that point the range covers, to make a rate. Filters on workspace, model_id, device_id and class reach the primary key.
CREATE OR REPLACE VIEW {model|class}_range {cluster} AS
WITH
    (SELECT window_s FROM {model|class}_rollup(since = {since:DateTime('UTC')}, step_s = {step_s:UInt32})) AS rollup_s,
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
    /* each window: UNION ALL */
    SELECT *, {window_s} AS window_s FROM {model|class}_windows{window}
    /* end */
)
WHERE window_s = chosen_s AND window_start >= first AND window_start <= {until:DateTime('UTC')};
