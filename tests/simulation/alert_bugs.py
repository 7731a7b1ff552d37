"""Deliberate bugs of detector and notifier: what breaks a rule of theirs must be seen."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import msgspec
from aiokafka.structs import OffsetAndMetadata
from msgspec.structs import replace as changed

from agents.checkpoint import Checkpoint
from agents.detector import Detector
from agents.notifier import NotifierWork
from agents.world import World
from pipeline.config import Settings
from pipeline.edge.kafka.group.commits import FencedError
from pipeline.edge.kafka.group.partition import Partition
from tests.simulation.lies import Anyones, Over, one, works_on
from tests.simulation.loop import pass_s
from tests.simulation.worker import ROLES, TURN_S, Bug, Job, directly, notifying, watching


class Forgets(Over):
    """How far was told is not known after a restart: what people say now is taken in at once."""

    async def committed(self) -> OffsetAndMetadata | None:
        """Nothing was told."""
        at = await self._partition.committed()
        return None if at is None else OffsetAndMetadata(0, at.metadata)


class Unfenced(Over):
    """Whoever is refused goes on."""

    async def commit(self, offset: int, metadata: str) -> None:
        """No matter."""
        with suppress(FencedError):
            await self._partition.commit(offset, metadata)


def keeps(change: Callable[[Checkpoint], None], role: str) -> Bug:
    """A detector or a notifier with checkpoints that were changed."""

    def employ(settings: Settings, world: World) -> Job:
        worker = Detector(settings, world, directly) if role == "detector" else NotifierWork(settings, world, TURN_S)
        make = worker._checkpoints.of

        def of(partition: Partition, key: str) -> Checkpoint:
            checkpoint = make(partition, key)
            change(checkpoint)
            return checkpoint

        worker._checkpoints.of = of  # type: ignore[method-assign]
        return watching(settings, worker) if isinstance(worker, Detector) else notifying(settings, worker)

    return one(role, employ)


def loads(change: Callable[[int, Any], Any]) -> Callable[[Checkpoint], None]:
    """What is loaded is not what was saved."""

    def alter(checkpoint: Checkpoint) -> None:
        load = checkpoint.load

        async def altered(kind: type[Any]) -> tuple[int, Any]:
            told_until, state = await load(kind)
            return told_until, None if state is None else change(told_until, state)

        checkpoint.load = altered  # type: ignore[method-assign]

    return alter


def _skips(told_until: int, state: Any) -> Any:
    return changed(state, next_offset=max(told_until, state.next_offset))


def _drops_untold(_: int, state: Any) -> Any:
    return changed(state, news=changed(state.news, untold=[]))


def _drops_outbox(_: int, state: Any) -> Any:
    return changed(state, notifier=changed(state.notifier, outbox=[]))


def _renames_outbox(_: int, state: Any) -> Any:
    outbox = [replace(one, idempotency_key=f"{one.idempotency_key[:-1]}x") for one in state.notifier.outbox]
    return changed(state, notifier=changed(state.notifier, outbox=outbox))


def _saves_late(checkpoint: Checkpoint) -> None:
    """The snapshot is made by another turn, after what follows from it was told."""
    save = checkpoint.save

    async def later(state: Callable[[], msgspec.Struct]) -> None:
        held = getattr(checkpoint, "held", None)
        kept = state()
        checkpoint.held = lambda: kept  # type: ignore[attr-defined]
        if held is not None:
            await save(held)

    checkpoint.save = later  # type: ignore[method-assign]


def _saves_unasked(checkpoint: Checkpoint) -> None:
    """Whoever saves does not ask whether the partition is still its own."""

    async def once(state: Callable[[], msgspec.Struct]) -> None:
        await checkpoint._snapshots.save(checkpoint._key, state(), checkpoint._partition.alive)
        with suppress(FencedError):
            await checkpoint.commit()

    checkpoint.save = once  # type: ignore[method-assign]


def _goes_back(checkpoint: Checkpoint) -> None:
    """After a restart from an old snapshot the offset is committed as read: as it was, too."""

    async def commit() -> None:
        await checkpoint._partition.commit(
            checkpoint._partition.next_offset, checkpoint._snapshots.note(checkpoint._key)
        )

    checkpoint.commit = commit  # type: ignore[method-assign]


class Muddled(NotifierWork):
    """Tells, then saves what is in the outbox."""

    async def _save(self, desk: Any) -> None:
        desk.changed, desk.saved_at = False, self._clock.monotonic()
        saving = asyncio.create_task(self._save_later(desk))
        saving.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _save_later(self, desk: Any) -> None:
        await pass_s(10.0)
        await desk.checkpoint.save(desk.state)


def told_by(kind: type[NotifierWork]) -> Bug:
    """Another notifier."""
    return one("notifier", lambda settings, world: notifying(settings, kind(settings, world, TURN_S)))


ALERT_BUGS: Mapping[str, Bug] = {
    "what_people_say_is_taken_in_at_once": one("detector", works_on(ROLES["detector"], Forgets)),
    "detector_goes_on_where_it_has_told": keeps(loads(_skips), "detector"),
    "detector_drops_what_it_had_not_told": keeps(loads(_drops_untold), "detector"),
    "detector_saves_late": keeps(_saves_late, "detector"),
    "detector_saves_what_is_not_its_own": keeps(_saves_unasked, "detector"),
    "detector_commits_less_than_was_told": keeps(_goes_back, "detector"),
    "alerts_are_not_fenced": Bug(fencing=False, committer=Anyones),
    "notifier_forgets_its_outbox": keeps(loads(_drops_outbox), "notifier"),
    "notifier_forgets_what_it_told": keeps(loads(lambda *_: None), "notifier"),
    "notifier_saves_after_it_told": told_by(Muddled),
    "sent_again_under_another_key": keeps(loads(_renames_outbox), "notifier"),
}
