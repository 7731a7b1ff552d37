"""The topics that hold state, on a real broker: snapshots in two slots, followed topics, a reader."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from zlib import crc32

import msgspec
import pytest
from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.structs import TopicPartition

from pipeline.config import Settings
from pipeline.edge.kafka.client import Kafka
from pipeline.edge.kafka.compacted import FollowedTopic, read_compacted, write_compacted
from pipeline.edge.kafka.producer import OutRecord, Producer
from pipeline.edge.kafka.reader import Reader
from pipeline.edge.kafka.snapshots import SnapshotTopic
from schemas.topics import DETECTOR_STATE, RULES
from tests.integration.compaction import compact, read
from tests.integration.receivers import true

pytestmark = pytest.mark.integration


def alive() -> None:
    """Nothing watches over these tests."""


@asynccontextmanager
async def sending(settings: Settings) -> Any:
    """An output that is closed afterwards."""
    output = Producer(Kafka(settings))
    try:
        yield output
    finally:
        await output.stop()


def snapshots(settings: Settings, output: Producer, **options: int) -> SnapshotTopic:
    """The topic of state."""
    return SnapshotTopic(Kafka(settings), settings.topic("inference.detector-state"), output, **options)


class Torn(Producer):
    """Loses the last record of what it is given."""

    async def send(self, topic: str, records: Sequence[OutRecord], alive: Callable[[], None] = alive) -> list[int]:
        return await super().send(topic, records[:-1], alive)


class State(msgspec.Struct):
    mark: int
    noise: list[int] = []


class Grown(State):
    more: int = 0


def large(mark: int) -> State:
    """A state of several parts; compressed it stays large."""
    rng = random.Random(mark)
    return State(mark, [rng.getrandbits(60) for _ in range(2000)])


def test_snapshots(world: Settings) -> None:
    async def play() -> None:
        async with sending(world) as output, sending(world) as other:
            one = snapshots(world, output, part_bytes=4000)
            assert await one.load("models/0", State) is None
            for mark in (1, 2, 3):
                await one.save("models/0", large(mark), alive)
            await one.save("models/00", large(9), alive)
            after = snapshots(world, other, part_bytes=4000)
            assert await after.load("models/0", State) == large(3)
            assert await after.load("models/1", State) is None
            await after.save("models/0", State(4), alive)  # fewer parts; the rest of an old one lies behind them
            assert await snapshots(world, output).load("models/0", State) == State(4)
            assert await snapshots(world, output).load("models/00", State) == large(9)
            foreign = [(b"models/0:0:x", 1), (b"models/0:0", 1), (b"models/0:9:0", 10**18), (b"models/0:8:0", -1)]
            heads = [msgspec.json.encode([2, 99, 0, parts, 0]) + b"\n" for _, parts in foreign]
            topic = world.topic("inference.detector-state")
            at = crc32(b"models/0") % await output.partitions(topic)
            strange = [OutRecord(key, head, at) for (key, _), head in zip(foreign, heads, strict=True)]
            await output.send(topic, strange, alive)  # what others put there is no snapshot, and ends no load
            assert await snapshots(world, output).load("models/0", State) == State(4)
            upgraded = snapshots(world, output)  # of another layout it is no snapshot, and the next one stands
            assert await upgraded.load("models/0", Grown) is None
            await upgraded.save("models/0", Grown(5, [], 6), alive)
            assert await snapshots(world, output).load("models/0", Grown) == Grown(5, [], 6)

    asyncio.run(asyncio.wait_for(play(), 60))


def test_a_torn_snapshot_leaves_the_one_before(world: Settings) -> None:
    async def play() -> None:
        async with sending(world) as output:
            one = snapshots(world, output, part_bytes=4000)
            for mark in (1, 2):
                await one.save("notifier", large(mark), alive)
            torn = Torn(Kafka(world))
            for mark in (3, 4):  # each of these dies before its last part is out
                dying = snapshots(world, torn, part_bytes=4000)
                assert await dying.load("notifier", State) == large(2)
                await dying.save("notifier", large(mark), alive)
            await torn.stop()
            after = snapshots(world, output, part_bytes=4000)
            assert await after.load("notifier", State) == large(2)
            await after.save("notifier", large(5), alive)
            assert await snapshots(world, output).load("notifier", State) == large(5)

    asyncio.run(asyncio.wait_for(play(), 60))


def test_a_late_snapshot_of_one_who_was_frozen_stands_back(world: Settings) -> None:
    async def play(saves: int) -> None:
        async with sending(world) as output:
            key = f"models/{saves}"
            frozen, after = (snapshots(world, output, part_bytes=4000) for _ in range(2))
            assert await frozen.load(key, State) is None
            for mark in (1, 2):
                await frozen.save(key, large(mark), alive)
            assert await after.load(key, State) == large(2)
            for mark in range(10, 10 + saves):
                await after.save(key, large(mark), alive)
            await frozen.save(key, large(3), alive)
            assert await snapshots(world, output).load(key, State) == large(9 + saves)
            await after.save(key, large(99), alive)
            assert await snapshots(world, output).load(key, State) == large(99)

    async def whole() -> None:
        for saves in (1, 2, 3, 4):
            await play(saves)

    asyncio.run(asyncio.wait_for(whole(), 60))


def test_a_load_begins_where_the_note_says(world: Settings) -> None:
    async def play() -> None:
        async with sending(world) as output:
            one = snapshots(world, output, part_bytes=4000)
            assert await one.load("models/0", State, one.note("models/0")) is None
            notes = []
            for mark in range(4):
                await one.save("models/0", large(mark), alive)
                notes.append(one.note("models/0"))
            assert len(set(notes)) == 4
            after = snapshots(world, output, part_bytes=4000)
            for mark, note in enumerate(notes):  # what is newer may be of one who had lost the partition
                assert await after.load("models/0", State, note) == large(mark)
            for note in ("", "s1:", "s1:999999", "d1"):  # such as say nothing
                assert await after.load("models/0", State, note) == large(3), note
            assert await after.load("models/0", State, notes[-1]) == large(3)
            await after.save("models/0", State(4), alive)
            assert await snapshots(world, output).load("models/0", State, after.note("models/0")) == State(4)
            assert await snapshots(world, output).load("models/0", State, notes[-1]) == large(3)
            assert await snapshots(world, output).load("models/0", State) == State(4)

    asyncio.run(asyncio.wait_for(play(), 60))


def test_a_followed_topic_has_the_last_value_of_every_key(world: Settings) -> None:
    topic = world.topic("inference.rules")

    async def play(followed: FollowedTopic) -> None:
        following = asyncio.create_task(followed.follow_forever())
        try:
            await followed.ready.wait()
            assert followed.values == {b"b": b"2"}
            version = followed.version
            await write_compacted(world, topic, {b"c": b"3", b"b": None})
            await true(lambda: followed.values == {b"c": b"3"})
            assert followed.version > version
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def whole() -> None:
        for values in ({b"a": b"1", b"b": b"1"}, {b"a": None, b"b": b"2"}):
            await write_compacted(world, topic, values)
        await play(FollowedTopic(Kafka(world), topic))

    asyncio.run(asyncio.wait_for(whole(), 60))


def test_an_empty_followed_topic_is_ready(world: Settings) -> None:
    async def play() -> None:
        followed = FollowedTopic(Kafka(world), world.topic("inference.silences"))
        following = asyncio.create_task(followed.follow_forever())
        await asyncio.wait_for(followed.ready.wait(), 20)
        assert followed.values == {}
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    asyncio.run(play())


def test_topics_whose_last_records_are_compacted_away_are_read_to_their_end(world: Settings) -> None:
    rules, state = world.topic(RULES.name), world.topic(DETECTOR_STATE.name)

    async def play(followed: FollowedTopic) -> None:
        for values in ({b"a": b"1", b"b": b"2"}, {b"b": None}):
            await write_compacted(world, rules, values)
        async with sending(world) as output:
            one = snapshots(world, output, part_bytes=4000)
            for mark in (1, 2, 3, 4):
                await one.save("models/0", large(mark), alive)
            assert await compact(world, state, DETECTOR_STATE.partitions) > 0
            assert await compact(world, rules, 1) == 2  # b and its end, the last that was written
            assert [(record.key, record.offset) for record in await read(world, rules, 1)] == [(b"a", 0)]

            assert await read_compacted(Kafka(world), rules) == {b"a": b"1"}
            following = asyncio.create_task(followed.follow_forever())
            await asyncio.wait_for(followed.ready.wait(), 20)
            assert followed.values == {b"a": b"1"}
            await write_compacted(world, rules, {b"c": b"3"})
            await true(lambda: followed.values == {b"a": b"1", b"c": b"3"})
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

            after = snapshots(world, output, part_bytes=4000)
            assert await after.load("models/0", State) == large(4)
            await after.save("models/0", State(5), alive)
            assert await snapshots(world, output).load("models/0", State) == State(5)

    asyncio.run(asyncio.wait_for(play(FollowedTopic(Kafka(world), rules)), 90))


def test_a_reader_begins_where_it_is_told(world: Settings) -> None:
    topic = world.topic("inference.alerts")

    async def read_all(offsets: dict[int, int | None]) -> list[tuple[int, bytes]]:
        reader = Reader(Kafka(world), {TopicPartition(topic, number): offset for number, offset in offsets.items()})
        await reader.start()
        try:
            found = []
            while not reader.caught_up:
                found += [(record.partition, record.value) for record in await reader.read(0.2)]
            return sorted(found)
        finally:
            await reader.stop()

    async def play() -> None:
        async with sending(world) as output:
            for number in (0, 1):
                records = [OutRecord(b"key", str(i).encode(), number) for i in range(3)]
                await output.send(topic, records, alive)
        assert await read_all({0: None, 1: 2, 2: None}) == [(0, b"0"), (0, b"1"), (0, b"2"), (1, b"2")]
        assert await read_all({0: 3, 1: 3}) == []
        assert await read_all({0: 99, 1: 3}) == [(0, b"0"), (0, b"1"), (0, b"2")]  # that log is another one

    asyncio.run(asyncio.wait_for(play(), 60))


def test_what_cannot_be_sent_is_an_error_and_no_endless_wait(world: Settings) -> None:
    async def play() -> None:
        async with sending(world) as output:
            send: Callable[..., Awaitable[None]] = output.send
            with pytest.raises(MessageSizeTooLargeError):
                await send(world.topic("inference.alerts"), [OutRecord(b"k", bytes(9 << 20))], alive)
            await send(world.topic("inference.alerts"), [OutRecord(b"k", b"v")], alive)

    asyncio.run(asyncio.wait_for(play(), 60))
