-- The epoch in which a log was accepted: marks of windows that came from the logs before it are smaller.
ALTER TABLE kafka_logs {cluster} ADD COLUMN IF NOT EXISTS epoch UInt32 DEFAULT 0 AFTER topic_id;
