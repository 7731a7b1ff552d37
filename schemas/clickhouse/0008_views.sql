-- Views for people and Grafana that are about no single table of windows.

-- Single inferences with the metadata that came later: the last value of each field wins over the event's own.
-- Meant for few inferences: by event_id (the filter reaches both tables), or in a narrow range of time (ClickHouse builds
-- the hash table from those inferences and reads only their metadata; it skips more with the query's setting
-- enable_join_runtime_filters_index_analysis = 1, which has no effect in here). To search the event's own metadata by
-- value, ask the table inferences: its indexes do not see through the merged map.
CREATE OR REPLACE VIEW inference_details {cluster} AS
SELECT
    i.event_id AS event_id,
    i.event_time AS event_time,
    i.workspace AS workspace,
    i.model_id AS model_id,
    i.device_id AS device_id,
    i.latency_us / 1000 AS latency_ms,
    i.`detections.class` AS class,
    arrayMap(ppm -> ppm / 1000000, i.`detections.confidence_ppm`) AS confidence,
    i.`detections.x` AS x,
    i.`detections.y` AS y,
    i.`detections.width` AS width,
    i.`detections.height` AS height,
    i.detections_extra AS detections_extra,
    i.error AS error,
    i.image_width AS image_width,
    i.image_height AS image_height,
    i.image_url AS image_url,
    mapUpdate(i.metadata, m.metadata) AS metadata,
    i.tags AS tags,
    i.source AS source,
    i.deployment AS deployment,
    i.server_version AS server_version,
    i.kafka_partition AS kafka_partition,
    i.kafka_offset AS kafka_offset,
    i.kafka_time AS kafka_time,
    i.ingested_at AS ingested_at
FROM inferences AS i
LEFT JOIN
(
    SELECT
        workspace,
        inference_id,
        CAST((groupArray(field), groupArray(value)), 'Map(LowCardinality(String), String)') AS metadata
    FROM
    (
        SELECT workspace, inference_id, field, argMax(value, (sent_at, kafka_offset)) AS value
        FROM inference_metadata
        GROUP BY workspace, inference_id, field
    )
    GROUP BY workspace, inference_id
) AS m ON i.workspace = m.workspace AND i.event_id = m.inference_id;

-- Each partition of inference.events: how far it is recorded, and how long rows took to get here, over those that came in
-- the last 5 minutes (of events of the last day: a backlog that is replayed says nothing about the pipeline).
CREATE OR REPLACE VIEW pipeline_lag {cluster} AS
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

-- A model_id is the model's name and, after its last slash, its version.
CREATE OR REPLACE VIEW models {cluster} AS
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
CREATE OR REPLACE VIEW table_parts {cluster} DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
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
