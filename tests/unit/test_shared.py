"""A compacted topic that many write: a change is refused that was made from what is no longer there."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.structs import TopicPartition

from pipeline.edge.kafka.producer import Producer, within
from pipeline.edge.kafka.shared import ChangedMeanwhile, NotReadYet, SharedTopic
from pipeline.web.board.records import Records
from schemas import view
from schemas.view import View

PARTITION = TopicPartition("views", 0)


class OnePartition:
    """A log of one partition in memory. `first`: what somebody else writes just before our next record."""

    where = "memory"

    def __init__(self) -> None:
        self.records: list[Any] = []
        self.grown = asyncio.Event()
        self.first: list[tuple[bytes, bytes | None]] = []

    def write(self, key: bytes, value: bytes | None) -> int:
        self.records.append(SimpleNamespace(key=key, value=value, offset=len(self.records)))
        self.grown.set()
        return len(self.records) - 1

    def producer(self, **_: Any) -> "OnePartition":
        return self

    def consumer(self, **_: Any) -> "Consumer":
        return Consumer(self)

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def send(self, topic: str, value: bytes | None, key: bytes, partition: int | None) -> "asyncio.Future[Any]":
        while self.first:
            self.write(*self.first.pop())
        future = asyncio.get_running_loop().create_future()
        future.set_result(SimpleNamespace(offset=self.write(key, value)))
        return future


class Consumer:
    """Reads it."""

    def __init__(self, log: OnePartition) -> None:
        self.log, self.at = log, 0

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def assign(self, partitions: Any) -> None: ...

    def seek(self, partition: Any, offset: int) -> None:
        self.at = offset

    async def beginning_offsets(self, partitions: Any) -> dict[TopicPartition, int]:
        return {PARTITION: 0}

    async def end_offsets(self, partitions: Any) -> dict[TopicPartition, int]:
        return {PARTITION: len(self.log.records)}

    async def position(self, partition: Any) -> int:
        return self.at

    async def getmany(self, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[Any]]:
        if self.at == len(self.log.records):
            self.log.grown.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.log.grown.wait(), timeout_ms / 1000)
        found, self.at = self.log.records[self.at :], len(self.log.records)
        return {PARTITION: found}


def play(story: Callable[[SharedTopic, OnePartition], Awaitable[None]]) -> None:
    async def whole() -> None:
        log = OnePartition()
        log.write(b"k", b"1")
        topic = SharedTopic(cast(Any, log), "views", Producer(cast(Any, log), within(5)))
        with pytest.raises(NotReadYet):
            await topic.put(b"k", b"2", b"1")
        following = asyncio.create_task(topic.followed.follow_forever())
        try:
            await topic.followed.ready.wait()
            await story(topic, log)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    asyncio.run(asyncio.wait_for(whole(), 20))


def test_a_change_is_there_when_it_is_said_to_be() -> None:
    async def story(topic: SharedTopic, log: OnePartition) -> None:
        await topic.put(b"k", b"2", b"1")
        assert topic.followed.values == {b"k": b"2"}
        await topic.put(b"k", None, b"2")
        assert topic.followed.values == {}
        await topic.put(b"k", b"3", None)
        assert topic.followed.values == {b"k": b"3"}

    play(story)


def test_a_change_of_what_is_no_longer_there_is_refused_and_not_written() -> None:
    async def story(topic: SharedTopic, log: OnePartition) -> None:
        for seen in (None, b"0"):
            with pytest.raises(ChangedMeanwhile):
                await topic.put(b"k", b"2", seen)
        assert len(log.records) == 1

    play(story)


def test_of_two_changes_in_one_process_the_second_is_refused() -> None:
    async def story(topic: SharedTopic, log: OnePartition) -> None:
        both = (topic.put(b"k", value, b"1") for value in (b"2", b"3"))
        first, second = await asyncio.gather(*both, return_exceptions=True)
        assert first is None
        assert isinstance(second, ChangedMeanwhile)
        assert topic.followed.values == {b"k": b"2"}

    play(story)


@pytest.mark.parametrize("theirs", [b"theirs", None])
def test_who_finds_that_another_process_came_first_puts_theirs_back(theirs: bytes | None) -> None:
    async def story(topic: SharedTopic, log: OnePartition) -> None:
        log.first.append((b"k", theirs))
        with pytest.raises(ChangedMeanwhile):
            await topic.put(b"k", b"ours", b"1")
        assert topic.followed.values.get(b"k") == theirs
        assert [record.value for record in log.records] == [b"1", theirs, b"ours", theirs]

    play(story)


def test_another_key_is_nobodys_conflict() -> None:
    async def story(topic: SharedTopic, log: OnePartition) -> None:
        log.first.append((b"other", b"x"))
        await topic.put(b"k", b"2", b"1")
        assert topic.followed.values == {b"k": b"2", b"other": b"x"}

    play(story)


def test_records_are_known_by_content_and_what_is_unsound_is_not_there() -> None:
    async def story(topic: SharedTopic, log: OnePartition) -> None:
        records = Records(topic, view.decode)
        assert records.all == {}
        first = View(workspace="acme", id="mine", name="Mine")
        await records.put("acme/mine", view.encode(first), None)
        kept = records.all["acme/mine"]
        assert kept.value == first
        with pytest.raises(ChangedMeanwhile):
            await records.put("acme/mine", b"{}", None)
        await records.put("acme/mine", b"{}", kept)
        assert records.all == {}

    play(story)


def test_a_change_whose_asker_went_away_is_still_looked_after_and_holds_up_nobody() -> None:
    async def story(topic: SharedTopic, log: OnePartition) -> None:
        log.first.append((b"k", b"theirs"))
        gone = asyncio.create_task(topic.put(b"k", b"ours", b"1"))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        await topic.put(b"other", b"x", None)
        assert topic.followed.values == {b"k": b"theirs", b"other": b"x"}

    play(story)
