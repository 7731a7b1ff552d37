"""What a detector and a notifier save, commit and tell, so that a crash or a zombie repeats and never contradicts.

A commit comes first, always: it is refused if somebody else is active by now. It carries the offset up to which was
told, and where the newest snapshot lies.
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
        self._told_until = 0

    async def load(self, kind: type[S]) -> tuple[int, S | None]:
        """(up to where those before us have told, the newest snapshot of this layout or None)."""
        committed = await self._partition.committed()
        if committed is None:
            return 0, await self._snapshots.load(self._key, kind)
        end = (await self._partition.log_span()).end
        self._told_until = min(committed.offset, end)  # a log that was made anew is shorter
        return self._told_until, await self._snapshots.load(self._key, kind, committed.metadata)

    async def commit(self) -> None:
        """How far has been told. Raises FencedError if the partition is another's by now.

        After a restart from an old snapshot that is further than we have read: it must not be forgotten.
        """
        self._told_until = max(self._told_until, self._partition.next_offset)
        await self._partition.commit(self._told_until, self._snapshots.note(self._key))

    async def save(self, state: Callable[[], msgspec.Struct]) -> None:
        """Commits, saves what `state` says then, and commits that it is saved. Raises FencedError.

        Whoever takes over after that goes on from here. Without the second commit one who is frozen on the way to its
        snapshot would tell what follows from it while another goes on from the one before.
        """
        await self.commit()
        await self._snapshots.save(self._key, state(), self._partition.alive)
        await self.commit()

    async def tell(self, events: Sequence[AlertEvent]) -> None:
        """Returns when inference.alerts has them. Whoever tells has committed or saved what they follow from."""
        records = [OutRecord(event.fingerprint.encode(), alert.encode(event)) for event in events]
        await self._output.send(self._alerts, records, self._partition.alive)
        for event in events:
            self._metrics.ALERTS.labels(event.kind.value, event.state.value).inc()
            log.info("alert", id=event.id, state=event.state.value, summary=event.summary)
