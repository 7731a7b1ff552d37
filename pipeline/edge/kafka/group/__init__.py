"""A member of a consumer group: its partitions, their names and commits."""
