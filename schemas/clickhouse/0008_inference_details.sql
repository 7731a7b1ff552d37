-- Single inferences with the metadata that came later: the last value of each field wins over the event's own.
-- Meant for few inferences: by event_id (the filter reaches both tables), or in a narrow range of time (ClickHouse builds
-- the hash table from those inferences and reads only their metadata; it skips more with the query's setting
-- enable_join_runtime_filters_index_analysis = 1, which has no effect in here). To search the event's own metadata by
-- value, ask the table inferences: its indexes do not see through the merged map.
CREATE OR REPLACE VIEW inference_details AS
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
