"""The door for Roboflow's servers: answered once it is on the disk, sent to Kafka until all of it is there."""

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, cast

import orjson
from aiokafka.errors import KafkaConnectionError

from pipeline.config import Settings
from pipeline.edge.kafka.batches import Batches
from pipeline.edge.store.questions import Questions
from pipeline.web.access import door as doors
from pipeline.web.access.credentials import make_key
from pipeline.web.asgi import Message, Refused
from pipeline.web.roboflow.courier import Courier
from pipeline.web.roboflow.part import Roboflow
from schemas.access import Scope
from tests import roboflow
from tests.in_process import Topic, book_of
from tests.unit.test_batches import NOW, Broker


class Clock:
    """Stands still; waits are real."""

    def now_ms(self) -> int:
        return NOW

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


class Log(Broker):
    """With two partitions of each topic."""

    async def partitions_for(self, topic: str) -> set[int]:
        return {0, 1}

    @property
    def values(self) -> list[Any]:
        """All records that it has."""
        return [orjson.loads(value) for _, values in self.sent for value in values]

    @property
    def ids(self) -> list[str]:
        """Of the events among them."""
        return sorted(record["event_id"] for record in self.values if "event_id" in record)


class Side:
    """A part, its broker, and requests to it."""

    def __init__(self, folder: Path, broker: Broker, **settings: Any) -> None:
        self.topic = Topic({})
        self.settings = Settings(web_spool_dir=folder, **settings)
        self.courier = Courier(self.settings, Batches(cast(Any, broker), 60), Clock())
        door = doors.Door(book_of(self.topic, "secret"), Clock())
        self.part = Roboflow(self.settings, door, self.courier, Questions(self.settings), None, Clock())

    async def post(self, body: dict[str, Any], path: str = "/inference-stats", key: str = "secret") -> int:
        """The status."""
        scope = {"method": "POST", "path": path, "query_string": f"api_key={key}".encode(), "headers": []}
        told: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": orjson.dumps(body), "more_body": False}

        async def send(message: Message) -> None:
            told.append(message)

        found = self.part.find(path)
        assert found is not None
        try:
            await found(scope, receive, send)
        except Refused as refused:
            return refused.status
        return int(told[0]["status"])


def with_part(
    folder: Path, broker: Broker, story: Callable[[Side], Coroutine[Any, Any, None]], **settings: Any
) -> None:
    async def run() -> None:
        side = Side(folder, broker, **settings)
        work = asyncio.create_task(side.part.work())
        try:
            await story(side)
        finally:
            work.cancel()
            with suppress(asyncio.CancelledError):
                await work
            await side.part.stop()

    asyncio.run(asyncio.wait_for(run(), 20))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def is_empty(folder: Path) -> bool:
    """Whether nothing waits in a spool."""
    with closing(sqlite3.connect(folder / "entries.sqlite")) as rows:
        return bool(rows.execute("SELECT count(*) FROM entries").fetchone() == (0,))


def many(name: str, count: int, **more: Any) -> dict[str, Any]:
    """A pingback; events of a device share a partition, so there are several devices' in what tests send."""
    return roboflow.pingback([roboflow.result(roboflow.SEEN, inference_id=f"{name}{n}") for n in range(count)], **more)


def test_a_report_is_answered_before_kafka_has_acknowledged(tmp_path: Path) -> None:
    broker = Log()
    broker.silent = True

    async def story(side: Side) -> None:
        assert await side.post(many("a", 3)) == 200
        assert await side.post(many("b", 3)) == 200
        await until(lambda: bool(broker.sent))
        assert side.courier.waiting_bytes > 0
        broker.silent = False
        for future in broker.on_their_way:
            future.set_result(None)
        await until(lambda: side.courier.waiting_bytes == 0)

    with_part(tmp_path, broker, story)
    assert broker.ids == ["a0", "a1", "a2", "b0", "b1", "b2"]


def test_what_kafka_did_not_acknowledge_goes_again_and_the_rest_does_not(tmp_path: Path) -> None:
    broker = Log()

    async def story(side: Side) -> None:
        broker.answers = [None, KafkaConnectionError(), None, KafkaConnectionError()]
        for number in range(6):
            assert await side.post(many(f"{number}-", 2, device_id=f"cam-{number}")) == 200
        await until(lambda: side.courier.waiting_bytes == 0)

    with_part(tmp_path, broker, story)
    assert broker.ids == sorted(f"{number}-{n}" for number in range(6) for n in range(2))


def test_what_another_process_left_behind_is_brought_to_kafka(tmp_path: Path) -> None:
    broker, dead = Log(), Log()

    async def before(side: Side) -> None:
        dead.silent = True
        assert await side.post(many("left", 2)) == 200

    with_part(tmp_path, dead, before)
    (tmp_path / "0").rename(tmp_path / "7")

    async def after(side: Side) -> None:
        await until(lambda: broker.ids == ["left0", "left1"])
        await until(lambda: is_empty(tmp_path / "7"))

    with_part(tmp_path, broker, after)


def test_a_report_without_room_is_refused_and_is_new_when_it_comes_again(tmp_path: Path) -> None:
    broker = Log()

    async def story(side: Side) -> None:
        spool = side.courier._spool
        assert spool is not None
        spool._bytes_max = 10
        assert await side.post(many("a", 2)) == 503
        spool._bytes_max = 1 << 20
        assert await side.post(many("a", 2)) == 200
        assert await side.post(many("a", 3)) == 200  # two of them are repeats
        await until(lambda: side.courier.waiting_bytes == 0)

    with_part(tmp_path, broker, story)
    assert broker.ids == ["a0", "a1", "a2"]


def test_without_a_folder_it_is_not_ready_and_says_so_to_who_sends(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    async def story(side: Side) -> None:
        assert "INFERWATCH_WEB_SPOOL_DIR" in side.part.not_ready()[0]
        assert await side.post(many("a", 2)) == 503

    with_part(tmp_path / "file", Log(), story)


def test_a_key_s_limit_counts_here_too(tmp_path: Path) -> None:
    async def story(side: Side) -> None:
        assert await side.post(many("a", 10)) == 200
        assert await side.post(many("b", 10)) == 429

    with_part(tmp_path, Log(), story, ingest_rate=1.0)


def test_an_entry_that_cannot_be_read_any_more_holds_nothing_up(tmp_path: Path) -> None:
    broker = Log()

    async def story(side: Side) -> None:
        spool = side.courier._spool
        assert spool is not None
        await spool.append([b"not ours"])
        assert await side.post(many("a", 1)) == 200
        await until(lambda: side.courier.waiting_bytes == 0)

    with_part(tmp_path, broker, story)
    assert broker.ids == ["a0"]


def test_a_key_is_known_again_while_kafka_is_away_until_kafka_says_otherwise(tmp_path: Path) -> None:
    made = make_key("hall 2", "acme", [Scope.INGEST], NOW)
    new = make_key("hall 3", "acme", [Scope.INGEST], NOW)

    async def before(side: Side) -> None:
        assert await side.post(many("a", 1), key=made.text) == 503  # no key is known yet
        side.topic.put(made.key)
        assert await side.post(many("a", 1), key=made.text) == 200
        await until(side.part._keys_file.exists)

    async def after(side: Side) -> None:
        assert await side.post(many("b", 1), key=made.text) == 200
        assert await side.post(many("b", 1), key=made.text[:-1]) == 401
        assert await side.post(many("b", 1), key=new.text) == 503
        side.topic.put(new.key)
        assert await side.post(many("b", 1), key=new.text) == 200
        assert await side.post(many("b", 1), key=made.text) == 401  # it was revoked meanwhile

    with_part(tmp_path, Log(), before)
    assert (tmp_path / "keys.msgpack").stat().st_mode & 0o777 == 0o600
    assert made.text.split("_", 2)[2].encode() not in (tmp_path / "keys.msgpack").read_bytes()
    with_part(tmp_path, Log(), after)


def test_remembered_keys_that_cannot_be_read_are_none(tmp_path: Path) -> None:
    (tmp_path / "keys.msgpack").write_bytes(b"\xff\xff")

    async def story(side: Side) -> None:
        assert await side.post(many("a", 1)) == 200

    with_part(tmp_path, Log(), story)
