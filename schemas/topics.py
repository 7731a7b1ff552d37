"""Every Kafka topic: its name, its partitions, how long it keeps what."""

from dataclasses import dataclass

DAY_MS = 86_400_000
SEGMENT_BYTES = 128 << 20  # of a compacted topic


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic as we create it. `key` says what its records are keyed by, in words."""

    name: str  # without the configurable prefix
    key: str
    partitions: int
    retention_ms: int | None  # None: compacted, kept for ever
    record_bytes_max: int = 1_200_000  # 1 MiB of value plus key and headers
    can_grow: bool = False  # no state of ours lives with a key's partition, so keys may move to another

    def settings(self) -> dict[str, str]:
        """The broker's settings for this topic."""
        # The newest segment is never compacted: state that is large and written often would pile up in it.
        cleanup = {"cleanup.policy": "compact", "segment.bytes": str(SEGMENT_BYTES)}
        if self.retention_ms is not None:
            cleanup = {"cleanup.policy": "delete", "retention.ms": str(self.retention_ms)}
        return {
            **cleanup,
            "message.timestamp.type": "LogAppendTime",
            "max.message.bytes": str(self.record_bytes_max),
        }


EVENTS = Topic("inference.events", "device_id", 8, 3 * DAY_MS, can_grow=True)
HEARTBEATS = Topic("inference.heartbeats", "device_id", 4, 3 * DAY_MS)
METADATA = Topic("inference.metadata", "inference_id", 4, 3 * DAY_MS, can_grow=True)
AGGREGATES = Topic("inference.aggregates", "workspace/model", 8, 3 * DAY_MS, record_bytes_max=4_000_000)
ALERTS = Topic("inference.alerts", "fingerprint", 4, 30 * DAY_MS)
RULES = Topic("inference.rules", "rule_id", 1, None)
SILENCES = Topic("inference.silences", "id", 1, None)
ACCESS = Topic("inference.access", "key/ID, used/ID or user/NAME", 1, None)
VIEWS = Topic("inference.views", "workspace/id", 1, None)
VISION_EVENTS = Topic("inference.vision-events", "event_id", 4, 3 * DAY_MS)
USE_CASES = Topic("inference.use-cases", "[workspace, id] as JSON", 1, None)
DETECTOR_STATE = Topic("inference.detector-state", "internal", 8, None, record_bytes_max=4_000_000)

PARTITIONS_MAX = 200  # the name of a recorder's cut holds a position for each partition of events, in 4096 bytes
TOPICS = (
    EVENTS, HEARTBEATS, METADATA, AGGREGATES, ALERTS, RULES, SILENCES, ACCESS, VIEWS, VISION_EVENTS, USE_CASES,
    DETECTOR_STATE,
)  # fmt: skip
