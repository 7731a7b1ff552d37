"""Deliberate bugs, each put around code of ours that the simulation runs: what breaks a rule must be seen.

A bug is another `Bug`: roles that are employed otherwise, with a partition or a store that lies. Nothing is patched.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

import msgspec
from aiokafka.structs import OffsetAndMetadata
from msgspec.structs import replace as changed

from agents.aggregator import Aggregator
from agents.checkpoint import Checkpoint
from agents.detector import Detector
from agents.notifier import NotifierWork
from agents.recorder import Recorder, Route
from agents.world import World
from pipeline.config import Settings
from pipeline.core.ledger.names import AggregatorName, RecorderName
from pipeline.core.rows.tables import TableRows
from pipeline.core.rows.windows import record_aggregates
from pipeline.edge.kafka.group.commits import Committer, FencedError
from pipeline.edge.kafka.group.partition import Partition
from pipeline.edge.store.inserts import Attempt, Writer
from schemas.topics import AGGREGATES, EVENTS
from tests.simulation.loop import pass_s
from tests.simulation.worker import (
    BOUNDS,
    IDLE_S,
    PART_BYTES,
    ROLES,
    TURN_S,
    Bug,
    Employ,
    Job,
    directly,
    notifying,
    watching,
)


class Over:
    """A partition, but for what a bug changes."""

    def __init__(self, partition: Partition) -> None:
        object.__setattr__(self, "_partition", partition)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._partition, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._partition, name, value)


def works_on(employ: Employ, over: type[Over]) -> Employ:
    """The role, with partitions that are not what they seem."""

    def employ_so(settings: Settings, world: World) -> Job:
        job = employ(settings, world)

        def lying(work: Any) -> Any:
            return lambda partition: work(cast(Partition, over(partition)))

        return Job({topic: lying(work) for topic, work in job.work.items()}, job.background)

    return employ_so


def one(role: str, employ: Employ) -> Bug:
    """A bug of one role."""
    return Bug({**ROLES, role: employ})


# -- names


class NamesComeAfter(Over):
    """Each name waits for the next: a cut is made before it is named."""

    async def commit(self, offset: int, metadata: str) -> None:
        """The one before."""
        held = self.__dict__.get("held")
        self.__dict__["held"] = offset, metadata
        if held is not None:
            await self._partition.commit(*held)


class AggregatorIsDone(Over):
    """A named cut is taken for done."""

    async def committed(self) -> OffsetAndMetadata | None:
        """Without a cut."""
        at = await self._partition.committed()
        if at is None:
            return None
        name = AggregatorName.parse(at.offset, at.metadata)
        return OffsetAndMetadata(name.low, name.done(name.low).metadata())


class RecorderIsDone(Over):
    """A named cut is taken for done."""

    async def committed(self) -> OffsetAndMetadata | None:
        """Without a cut."""
        at = await self._partition.committed()
        if at is None:
            return None
        name = RecorderName.parse(at.offset, at.metadata)
        name = replace(name, from_offset=name.to_offset)
        return OffsetAndMetadata(name.from_offset, name.metadata())


class LowIsHigh(Over):
    """A restart begins after what is still open."""

    async def commit(self, offset: int, metadata: str) -> None:
        """At the end of what was read."""
        await self._partition.commit(AggregatorName.parse(offset, metadata).to_offset, metadata)


class _Anyone(tuple[Any, ...]):
    """A member that equals every other."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    def __hash__(self) -> int:
        return 0


class Anyones(Committer):
    """Commits for whoever asks."""

    @property
    def member(self) -> Any:
        """Anybody."""
        return _Anyone(super().member)


def names_are_not_fenced() -> Bug:
    """Whoever commits is heard: neither we nor the broker look at the generation."""
    return Bug(fencing=False, committer=Anyones)


def cuts_show_who_made_them() -> Bug:
    """How a cut is split depends on who makes it."""

    def employ(settings: Settings, world: World) -> Job:
        part_bytes = PART_BYTES - world.clock.now_ms() % 1000
        return Job({settings.topic(EVENTS.name): Aggregator(settings, world, directly, BOUNDS, part_bytes).work})

    return one("aggregator", employ)


# -- the store


def stores(change: Callable[[Settings, Any], Writer]) -> Bug:
    """A recorder with another writer."""

    def employ(settings: Settings, world: World) -> Job:
        store = cast(Writer, world.store)
        return ROLES["recorder"](settings, replace(world, store=change(settings, store._post)))

    return one("recorder", employ)


class Believing(Writer):
    """An insert counts when it is acknowledged, whatever was before."""

    async def put(self, rows: TableRows, token: str, attempt: Attempt, alive: Callable[[], None]) -> None:
        """No question is asked."""
        await self._insert(rows, token, alive)


class Trusting(Writer):
    """A cut is made again with its token, however old it is."""

    async def put(self, rows: TableRows, token: str, attempt: Attempt, alive: Callable[[], None]) -> None:
        """Nothing is old."""
        await super().put(rows, token, Attempt.AGAIN if attempt is Attempt.AGAIN_OLD else attempt, alive)


def chain_is_not_checked() -> Bug:
    """A reader takes every record."""

    def employ(settings: Settings, world: World) -> Job:
        role = Recorder(settings, world, directly, IDLE_S)
        topic = settings.topic(AGGREGATES.name)
        role.routes[topic] = Route(
            lambda records, _, epoch: record_aggregates(records, {}, epoch), role.routes[topic].table
        )
        return Job(dict.fromkeys(role.routes, role.work))

    return one("recorder", employ)


# -- alerts


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


AGGREGATOR, RECORDER, DETECTOR = ROLES["aggregator"], ROLES["recorder"], ROLES["detector"]
# By the scene that must see it.
BUGS: Mapping[str, Mapping[str, Bug]] = {
    "counting": {
        "aggregator_does_not_redo": one("aggregator", works_on(AGGREGATOR, AggregatorIsDone)),
        "aggregator_names_come_after": one("aggregator", works_on(AGGREGATOR, NamesComeAfter)),
        "low_water_mark_is_high": one("aggregator", works_on(AGGREGATOR, LowIsHigh)),
        "cuts_show_who_made_them": cuts_show_who_made_them(),
        "names_are_not_fenced": names_are_not_fenced(),
        "recorder_does_not_redo": one("recorder", works_on(RECORDER, RecorderIsDone)),
        "recorder_names_come_after": one("recorder", works_on(RECORDER, NamesComeAfter)),
        "retries_are_believed": stores(Believing),
        "forgotten_tokens_are_trusted": stores(Trusting),
        "chain_is_not_checked": chain_is_not_checked(),
    },
    "alerting": {
        "what_people_say_is_taken_in_at_once": one("detector", works_on(DETECTOR, Forgets)),
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
    },
}
