"""Deliberate bugs, each put around code of ours that the simulation runs: what breaks a rule must be seen.

A bug is another `Bug`: roles that are employed otherwise, with a partition or a store that lies. Nothing is patched.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

from agents.aggregator import Aggregator
from agents.recorder import Recorder, RowsRoute
from agents.world import World
from pipeline.config import Settings
from pipeline.core.batch import Batch
from pipeline.core.ledger.names import AggregatorName, RecorderName
from pipeline.core.ledger.resume import LogSpan
from pipeline.core.rows.blocks import Block
from pipeline.core.rows.windows import record_aggregates
from pipeline.edge.kafka.aggregates import AggregatesTopic
from pipeline.edge.store.answers import Outcome
from pipeline.edge.store.inserts import Attempt, Writer
from schemas.topics import AGGREGATES, EVENTS
from tests.simulation.alert_bugs import ALERT_BUGS
from tests.simulation.lies import Anyones, Over, one, works_on
from tests.simulation.worker import (
    BOUNDS,
    IDLE_S,
    PART_BYTES,
    ROLES,
    Bug,
    Job,
    directly,
)

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

    async def committed_name(self) -> tuple[int, str] | None:
        """Without a cut."""
        at = await self._partition.committed_name()
        if at is None:
            return None
        name = AggregatorName.parse(*at)
        return name.low, name.done(name.low).metadata()


class RecorderIsDone(Over):
    """A named cut is taken for done."""

    async def committed_name(self) -> tuple[int, str] | None:
        """Without a cut."""
        at = await self._partition.committed_name()
        if at is None:
            return None
        name = RecorderName.parse(*at)
        return name.to_offset, replace(name, from_offset=name.to_offset).metadata()


class LowIsHigh(Over):
    """A restart begins after what is still open."""

    async def commit(self, offset: int, metadata: str) -> None:
        """At the end of what was read."""
        await self._partition.commit(AggregatorName.parse(offset, metadata).to_offset, metadata)


class HolesAreWaitedFor(Over):
    """The end of a log is its last record, not where the consumer has come to."""

    @property
    def next_offset(self) -> int:
        """Behind the last record that was taken."""
        return int(self.__dict__.get("taken", self._partition.next_offset))

    def seek(self, offset: int) -> None:
        """From there."""
        self.__dict__["taken"] = offset
        self._partition.seek(offset)

    async def take(self, records_max: int, until: int | None = None) -> list[Batch]:
        """Remembers the last."""
        found: list[Batch] = await self._partition.take(records_max, until)
        for fetched in found:
            self.__dict__["taken"] = fetched.next_offset
        return found


class AnyLogIsOurs(Over):
    """A log is known by its name, not by its topic's id."""

    async def log_span(self) -> LogSpan:
        """Without the id."""
        span: LogSpan = await self._partition.log_span()
        self.topic_id = ""
        return replace(span, topic_id="")


class Blind(AggregatesTopic):
    """Sees nothing of what it has published."""

    async def last_name(self, source: int) -> AggregatorName | None:
        """None."""
        return None


def a_name_turned_back_is_believed() -> Bug:
    """The aggregator does not look at what it has published."""

    def employ(settings: Settings, world: World) -> Job:
        role = Aggregator(settings, world, directly, BOUNDS, PART_BYTES)
        role.topic = Blind(world.log, settings.topic(AGGREGATES.name))
        return Job({settings.topic(EVENTS.name): role.work})

    return one("aggregator", employ)


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

    async def put(self, rows: Block, token: str, attempt: Attempt, named_ms: int, alive: Callable[[], None]) -> None:
        """No question is asked."""
        while await self._insert(rows, token, alive) is not Outcome.DONE:
            await asyncio.sleep(1)


class Trusting(Writer):
    """A cut is made again with its token, however old it is, before the data are asked."""

    async def put(self, rows: Block, token: str, attempt: Attempt, named_ms: int, alive: Callable[[], None]) -> None:
        """Nothing is old."""
        while attempt is Attempt.AGAIN and await self._insert(rows, token, alive) is not Outcome.DONE:
            await asyncio.sleep(1)
        await super().put(rows, token, attempt, named_ms, alive)


class Unasked(Writer):
    """What rows say of how far a partition had come is not heard."""

    async def query(self, sql: str, alive: Callable[[], None]) -> list[str]:
        """Nothing is there."""
        return [r"\N"] if "maxOrNull" in sql else await super().query(sql, alive)


def chain_is_not_checked() -> Bug:
    """A reader takes every record."""

    def employ(settings: Settings, world: World) -> Job:
        role = Recorder(settings, world, directly, IDLE_S)
        topic = settings.topic(AGGREGATES.name)
        role.routes[topic] = RowsRoute(
            lambda records, _, epoch: record_aggregates(records, {}, epoch), role.routes[topic].table
        )
        return Job(dict.fromkeys(role.routes, role.work))

    return one("recorder", employ)


AGGREGATOR, RECORDER = ROLES["aggregator"], ROLES["recorder"]
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
        "holes_are_waited_for": one("recorder", works_on(RECORDER, HolesAreWaitedFor)),
        "aggregator_takes_any_log_for_its_own": one("aggregator", works_on(AGGREGATOR, AnyLogIsOurs)),
        "recorder_takes_any_log_for_its_own": one("recorder", works_on(RECORDER, AnyLogIsOurs)),
        "a_name_turned_back_is_believed": a_name_turned_back_is_believed(),
        "rows_ahead_of_a_name_are_not_looked_at": stores(Unasked),
    },
    "alerting": ALERT_BUGS,
}
