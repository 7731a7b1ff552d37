-- Each partition of inference.events: how far it is recorded, and how long rows took to get here, over those that came in
-- the last 5 minutes (of events of the last day: a backlog that is replayed says nothing about the pipeline).
CREATE OR REPLACE VIEW pipeline_lag AS
SELECT
    p.kafka_partition AS kafka_partition,
    p.last_offset AS last_offset,
    p.last_kafka_time AS last_kafka_time,
    r.row_count AS row_count,
    if(row_count = 0, NULL, r.event_to_row_ms[1]) AS event_to_row_p50_ms,
    if(row_count = 0, NULL, r.event_to_row_ms[2]) AS event_to_row_p99_ms,
    if(row_count = 0, NULL, r.kafka_to_row_ms[1]) AS kafka_to_row_p50_ms,
    if(row_count = 0, NULL, r.kafka_to_row_ms[2]) AS kafka_to_row_p99_ms
FROM
(
    SELECT kafka_partition, max(kafka_offset) AS last_offset, max(kafka_time) AS last_kafka_time
    FROM inferences
    GROUP BY kafka_partition
) AS p
LEFT JOIN
(
    SELECT
        kafka_partition,
        count() AS row_count,
        quantiles(0.5, 0.99)(dateDiff('millisecond', event_time, ingested_at)) AS event_to_row_ms,
        quantiles(0.5, 0.99)(dateDiff('millisecond', kafka_time, ingested_at)) AS kafka_to_row_ms
    FROM inferences
    WHERE ingested_at >= now() - INTERVAL 5 MINUTE AND event_time >= now() - INTERVAL 1 DAY
    GROUP BY kafka_partition
) AS r ON p.kafka_partition = r.kafka_partition;
