"""Kafka: one client, reading, producing, compacted topics, snapshots; in group/ the members that work."""
