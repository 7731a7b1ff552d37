-- Windows for people and Grafana, every quantile computed; NULL where there is nothing to compute it from.
-- A percentile is the value of rank ceil(percent * count / 100), in integers; its estimate is that of the histogram's
-- bucket: 2 g^b / (g + 1) microseconds, g = 1.01 / 0.99; for a confidence the middle of its bin, and 1 for bin 100.
-- confidence_stddev is that of all the detections (n, not n - 1), of sums that are exact: integers until the square root.
-- Filters on workspace, model_id, device_id and window_start reach the primary key and the partitions of the table below.

CREATE OR REPLACE VIEW {model|device}_stats{window} {cluster} AS
SELECT
    workspace,
    model_id,
    {|device_id,}
    window_start,
    inference_count,
    error_count,
    empty_count,
    error_count / nullIf(inference_count, 0) AS error_rate,
    empty_count / nullIf(inference_count, 0) AS empty_rate,
    detection_count,
    latency_count,
    latency_us_sum / nullIf(latency_count, 0) / 1000 AS latency_mean_ms,
    if(latency_count = 0, NULL, latency_ms[1]) AS latency_p50_ms,
    if(latency_count = 0, NULL, latency_ms[2]) AS latency_p95_ms,
    if(latency_count = 0, NULL, latency_ms[3]) AS latency_p99_ms,
    latency_us_min / 1000 AS latency_min_ms,
    latency_us_max / 1000 AS latency_max_ms,
    confidence_ppm_sum / nullIf(detection_count, 0) / 1000000 AS confidence_mean,
    sqrt(toFloat64(detection_count * confidence_ppm_sum_sq - toUInt128(confidence_ppm_sum) * confidence_ppm_sum))
        / nullIf(detection_count, 0) / 1000000 AS confidence_stddev,
    if(detection_count = 0, NULL, confidence[1]) AS confidence_p5,
    if(detection_count = 0, NULL, confidence[2]) AS confidence_p50,
    if(detection_count = 0, NULL, confidence[3]) AS confidence_p95,
    confidence_ppm_min / 1000000 AS confidence_min,
    confidence_ppm_max / 1000000 AS confidence_max
FROM
(
    SELECT
        *,
        arrayCumSum(mapValues(latency_histogram)) AS latency_ranks,
        arrayMap(percent -> mapKeys(latency_histogram)[arrayFirstIndex(
            rank -> rank >= intDiv(latency_count * percent + 99, 100), latency_ranks)], [50, 95, 99]) AS latency_keys,
        arrayMap(key -> if(key = -2147483648, 0, 2 * pow(1.01 / 0.99, key) / (1.01 / 0.99 + 1) / 1000), latency_keys) AS latency_ms,
        arrayCumSum(mapValues(confidence_histogram)) AS confidence_ranks,
        arrayMap(percent -> mapKeys(confidence_histogram)[arrayFirstIndex(
            rank -> rank >= intDiv(detection_count * percent + 99, 100), confidence_ranks)], [5, 50, 95]) AS confidence_keys,
        arrayMap(key -> least(key * 10000 + 5000, 1000000) / 1000000, confidence_keys) AS confidence
    FROM
    (
        SELECT
            w.workspace AS workspace,
            w.model_id AS model_id,
            {|w.device_id AS device_id,}
            w.window_start AS window_start,
            sum(w.inference_count) AS inference_count,
            sum(w.error_count) AS error_count,
            sum(w.empty_count) AS empty_count,
            sum(w.detection_count) AS detection_count,
            sum(w.latency_count) AS latency_count,
            sum(w.latency_us_sum) AS latency_us_sum,
            min(w.latency_us_min) AS latency_us_min,
            max(w.latency_us_max) AS latency_us_max,
            sumMap(w.latency_histogram) AS latency_histogram,
            sum(w.confidence_ppm_sum) AS confidence_ppm_sum,
            sum(w.confidence_ppm_sum_sq) AS confidence_ppm_sum_sq,
            min(w.confidence_ppm_min) AS confidence_ppm_min,
            max(w.confidence_ppm_max) AS confidence_ppm_max,
            sumMap(w.confidence_histogram) AS confidence_histogram
        FROM model_windows{window} AS w
        GROUP BY workspace, model_id, {|device_id,} window_start
    )
);

-- class_share: of all the model's detections in the window.
CREATE OR REPLACE VIEW class_stats{window} {cluster} AS
SELECT
    workspace,
    model_id,
    class,
    window_start,
    detection_count,
    inference_count,
    detection_count / nullIf(model_detection_count, 0) AS class_share,
    confidence_ppm_sum / nullIf(detection_count, 0) / 1000000 AS confidence_mean,
    sqrt(toFloat64(detection_count * confidence_ppm_sum_sq - toUInt128(confidence_ppm_sum) * confidence_ppm_sum))
        / nullIf(detection_count, 0) / 1000000 AS confidence_stddev,
    if(detection_count = 0, NULL, confidence[1]) AS confidence_p5,
    if(detection_count = 0, NULL, confidence[2]) AS confidence_p50,
    if(detection_count = 0, NULL, confidence[3]) AS confidence_p95,
    confidence_ppm_min / 1000000 AS confidence_min,
    confidence_ppm_max / 1000000 AS confidence_max
FROM
(
    SELECT
        *,
        sum(detection_count) OVER (PARTITION BY workspace, model_id, window_start) AS model_detection_count,
        arrayCumSum(mapValues(confidence_histogram)) AS confidence_ranks,
        arrayMap(percent -> mapKeys(confidence_histogram)[arrayFirstIndex(
            rank -> rank >= intDiv(detection_count * percent + 99, 100), confidence_ranks)], [5, 50, 95]) AS confidence_keys,
        arrayMap(key -> least(key * 10000 + 5000, 1000000) / 1000000, confidence_keys) AS confidence
    FROM
    (
        SELECT
            w.workspace AS workspace,
            w.model_id AS model_id,
            w.class AS class,
            w.window_start AS window_start,
            sum(w.detection_count) AS detection_count,
            sum(w.inference_count) AS inference_count,
            sum(w.confidence_ppm_sum) AS confidence_ppm_sum,
            sum(w.confidence_ppm_sum_sq) AS confidence_ppm_sum_sq,
            min(w.confidence_ppm_min) AS confidence_ppm_min,
            max(w.confidence_ppm_max) AS confidence_ppm_max,
            sumMap(w.confidence_histogram) AS confidence_histogram
        FROM class_windows{window} AS w
        GROUP BY workspace, model_id, class, window_start
    )
);
