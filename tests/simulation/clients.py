"""Clients without a group: a reader of partitions that are given, and all that one worker reaches Kafka by."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from aiokafka.structs import OffsetAndMetadata, TopicPartition

from pipeline.edge.kafka.connection import KafkaUnavailable
from tests.simulation.kafka import CommittedOffsets, Log, Producer
from tests.simulation.loop import pass_s
from tests.simulation.luck import Luck, Sender

T = TypeVar("T")


class Found(NamedTuple):
    """A record as a consumer has it."""

    partition: int
    offset: int
    timestamp: int
    key: bytes
    value: bytes | None


class Reader:
    """A consumer without a group. One that follows a topic is woken by what comes: asking costs turns of the loop."""

    def __init__(self, luck: Luck, sender: Sender, logs: dict[TopicPartition, Log], follows: bool) -> None:
        self._luck, self._sender, self._logs, self._follows = luck, sender, logs, follows
        self._positions: dict[TopicPartition, int] = {}

    async def start(self) -> None:
        """Nothing is to be opened."""

    async def stop(self) -> None:
        """Nothing is open."""

    def assign(self, tps: Sequence[TopicPartition]) -> None:
        """What to read."""
        self._positions = dict.fromkeys(tps, 0)

    async def beginning_offsets(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """The first offsets."""
        return dict.fromkeys(tps, 0)

    async def end_offsets(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """The next offsets."""
        await self._sender.gate()
        await self._luck.pause(0.02)
        return {tp: self._logs[tp].end for tp in tps}

    def seek(self, tp: TopicPartition, offset: int) -> None:
        """The next record to read."""
        self._positions[tp] = offset

    async def position(self, tp: TopicPartition) -> int:
        """The next record to read."""
        return self._positions[tp]

    async def getmany(
        self, *_: TopicPartition, timeout_ms: int, max_records: int = 5
    ) -> dict[TopicPartition, list[Found]]:
        """Some records."""
        await self._luck.pause(0.02)
        found = self._found(max_records)
        if not found and self._positions:
            if self._follows:
                await asyncio.wait([self._logs[tp].grows() for tp in self._positions], timeout=60)
            else:
                await pass_s(timeout_ms / 1000)
            found = self._found(max_records)
        await self._sender.gate()
        for tp, at in self._positions.items():
            log = self._logs[tp]
            self._positions[tp] = log.position(at, len(found.get(tp, ())))
        return found

    def _found(self, count: int) -> dict[TopicPartition, list[Found]]:
        found = {}
        for tp, position in self._positions.items():
            log = self._logs[tp]
            there = log.slice(position, count)
            records = zip(log.records[there], log.keys[there], strict=True)
            if some := [Found(tp.partition, r.offset, r.time_ms, key, r.value) for r, key in records]:
                found[tp] = some
        return found


class Client:
    """Kafka as one worker reaches it."""

    where = "a small world"

    def __init__(
        self, luck: Luck, sender: Sender, logs: dict[TopicPartition, Log], groups: Mapping[str, CommittedOffsets]
    ) -> None:
        self._luck, self._sender, self._logs, self._groups = luck, sender, logs, groups

    def consumer(self, **options: Any) -> Any:
        """A consumer without a group."""
        return Reader(self._luck, self._sender, self._logs, options.get("auto_offset_reset") == "none")

    def producer(self, **_: Any) -> Any:
        """A producer."""
        return Producer(self._luck, self._sender, self._logs)

    async def ends(self, topics: Sequence[str]) -> dict[TopicPartition, tuple[int, int]]:
        """The ends of all partitions."""
        return await self._ask(lambda: {tp: (0, log.end) for tp, log in self._logs.items() if tp.topic in topics})

    async def topic_ids(self, topics: Iterable[str]) -> Mapping[str, str]:
        """The ids of their logs; what this world does not need is left out."""
        logs = {tp.topic: log for tp, log in self._logs.items()}
        return await self._ask(lambda: {t: logs[t].topic_id(t) for t in topics if t in logs})

    async def committed(self, role: str) -> dict[TopicPartition, OffsetAndMetadata]:
        """What a role has committed."""
        return await self._ask(lambda: dict(self._groups[role].offsets))

    async def _ask(self, answer: Callable[[], T]) -> T:
        if self._luck.strikes(0.03, "question_lost"):
            await self._luck.request(self._sender, lambda: None)
            raise KafkaUnavailable("it does not answer")
        return await self._luck.request(self._sender, answer)

    async def close(self) -> None:
        """Nothing is open."""
