"""What a detector and a notifier save, commit and tell: in this order, so that a crash repeats and never contradicts.

A commit comes first, always: it is refused if somebody else is active by now. It carries the offset that was read to,
and where the newest snapshot lies.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
import structlog

from agents.world import Metrics, World
from pipeline.config import Settings
from pipeline.edge.kafka.group.partition import Partition
from pipeline.edge.kafka.producer import OutRecord, Producer
from pipeline.edge.kafka.snapshots import SnapshotTopic
from schemas import alert
from schemas.alert import AlertEvent
from schemas.topics import ALERTS, DETECTOR_STATE

log = structlog.get_logger()

S = TypeVar("S", bound=msgspec.Struct)


class Checkpoints:
    """A worker's way to inference.alerts and inference.detector-state."""

    def __init__(self, settings: Settings, world: World, output: Producer) -> None:
        """Both go out through `output`."""
        self._alerts, self._output, self._metrics = settings.topic(ALERTS.name), output, world.metrics
        self._snapshots = SnapshotTopic(world.log, settings.topic(DETECTOR_STATE.name), output)

    def of(self, partition: Partition, key: str) -> "Checkpoint":
        """For one assignment of a partition; `key`: of its snapshots."""
        return Checkpoint(self._snapshots, self._output, self._alerts, self._metrics, partition, key)


class Checkpoint:
    """The work on one partition, for one assignment, as it is saved and told."""

    def __init__(
        self,
        snapshots: SnapshotTopic,
        output: Producer,
        alerts: str,
        metrics: Metrics,
        partition: Partition,
        key: str,
    ) -> None:
        """Made by `Checkpoints.of`."""
        self._snapshots, self._output, self._alerts, self._metrics = snapshots, output, alerts, metrics
        self._partition, self._key = partition, key

    async def load(self, kind: type[S]) -> tuple[int | None, S | None]:
        """(the offset that was committed, the newest snapshot of this layout), as far as there are any."""
        committed = await self._partition.committed()
        if committed is None:
            return None, await self._snapshots.load(self._key, kind)
        return committed.offset, await self._snapshots.load(self._key, kind, committed.metadata)

    async def commit(self) -> None:
        """How far we have read. Raises FencedError if the partition is another's by now."""
        await self._partition.commit(self._partition.next_offset, self._snapshots.note(self._key))

    async def save(self, state: Callable[[], msgspec.Struct]) -> None:
        """Commits, then saves what `state` says then. Raises FencedError."""
        await self.commit()
        await self._snapshots.save(self._key, state(), self._partition.alive)

    async def tell(self, events: Sequence[AlertEvent]) -> None:
        """Returns when inference.alerts has them. Whoever tells has committed or saved what they follow from."""
        records = [OutRecord(event.fingerprint.encode(), alert.encode(event)) for event in events]
        await self._output.send(self._alerts, records, self._partition.alive)
        for event in events:
            self._metrics.ALERTS.labels(event.kind.value, event.state.value).inc()
            log.info("alert", id=event.id, state=event.state.value, summary=event.summary)
