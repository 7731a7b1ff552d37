"""The records of one request: looked at one by one, grouped by partition, sent, and what became of those not taken."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from pipeline.edge.clock import Clock
from pipeline.edge.kafka.batches import Batches, KeyedRecords
from pipeline.edge.kafka.publish import partition_of
from pipeline.edge.metrics import INGESTED, NOT_INGESTED
from pipeline.web.ingest.kinds import Kind, NotTaken, looked_at

PLACES_MAX = 100_000  # keys whose partition is remembered
TURN_RECORDS = 1000  # other requests get a turn after so many
NOT_ACKNOWLEDGED = "not_acknowledged"
REFUSED, RETRY = "refused", "retry"


class Places:
    """Where the records of a kind go: murmur2 of a key is computed once."""

    def __init__(self, topic: str) -> None:
        """`topic` as on the broker."""
        self.topic = topic
        self.count = 0
        self._known: dict[str, tuple[bytes, int]] = {}

    def of(self, key: str) -> tuple[bytes, int]:
        """Its bytes and its partition."""
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= PLACES_MAX:
                self._known.clear()
            raw = key.encode()
            found = self._known[key] = raw, partition_of(raw, self.count)
        return found

    def set_count(self, count: int) -> None:
        """So many partitions there are now."""
        if count != self.count:
            self.count = count
            self._known.clear()


@dataclass(slots=True)
class Taken:
    """What became of a request's records. `results` names those that were not taken, by line."""

    accepted: int = 0
    results: list[dict[str, Any]] = field(default_factory=list)

    @property
    def nothing_came(self) -> bool:
        """Is all that was sound to be sent again?"""
        return not self.accepted and any(result["status"] == RETRY for result in self.results)

    @property
    def body(self) -> bytes:
        """The JSON that is answered."""
        self.results.sort(key=lambda result: result["line"])
        return orjson.dumps({"accepted": self.accepted, "results": self.results})

    def refuse(self, kind: Kind, line: int, problem: NotTaken) -> None:
        """This record will never be taken."""
        self.results.append({"line": line, "status": REFUSED, "reason": problem.reason, "field": problem.field})
        NOT_INGESTED.labels(kind.name, problem.reason).inc()


@dataclass(slots=True)
class _Bound:
    """What goes to one partition, and the lines it came from."""

    part: KeyedRecords = field(default_factory=KeyedRecords)
    lines: list[int] = field(default_factory=list)


class Intake:
    """Takes records of one kind for one workspace at a time."""

    def __init__(self, batches: Batches, clock: Clock) -> None:
        self._batches, self._clock = batches, clock
        self._places: dict[str, Places] = {}

    async def take(
        self, kind: Kind, topic: str, workspace: str, numbered: Sequence[tuple[int, bytes]], outcome: Taken
    ) -> None:
        """Returns when Kafka has answered. Raises KafkaUnavailable where nothing could be sent at all."""
        places = self._places.setdefault(topic, Places(topic))
        places.set_count(await self._batches.partitions(topic))
        now_ms = self._clock.now_ms()
        bound: dict[int, _Bound] = {}
        for start in range(0, len(numbered), TURN_RECORDS):
            if start:
                await asyncio.sleep(0)
            for line, raw in numbered[start : start + TURN_RECORDS]:
                found = looked_at(kind, raw, workspace, now_ms)
                if isinstance(found, NotTaken):
                    outcome.refuse(kind, line, found)
                    continue
                sound, value = found
                key, number = places.of(kind.key(sound))
                to = bound.get(number)
                if to is None:
                    to = bound[number] = _Bound()
                to.part.keys.append(key)
                to.part.values.append(value)
                to.lines.append(line)
        failed = await self._batches.send(topic, {number: to.part for number, to in bound.items()}, now_ms)
        for number, to in bound.items():
            if number not in failed:
                outcome.accepted += len(to.lines)
                INGESTED.labels(kind.name).inc(len(to.lines))
                continue
            NOT_INGESTED.labels(kind.name, NOT_ACKNOWLEDGED).inc(len(to.lines))
            outcome.results += [
                {"line": line, "status": RETRY, "reason": NOT_ACKNOWLEDGED, "field": ""} for line in to.lines
            ]
