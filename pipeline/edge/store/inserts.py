"""The recorder's inserts: each named cut once, whatever ClickHouse answers or does not.

A token alone is not enough: a ClickHouse that is killed between logging a token and publishing the part acknowledges
the repeat and drops it. And ClickHouse remembers a number of tokens: while an attempt waits, others may push it out.
So an insert is believed only if its first attempt left soon after it was named and was acknowledged cleanly. Before
and after any other attempt the data are asked. While the token is surely remembered the whole cut goes under it once
more: a late first attempt can do no harm then, its token is spent. What is missing after that, or if the token may be
forgotten, is put back under a further one.

This is why the HTTP here is our own: clickhouse-connect repeats a broken insert by itself, and does not tell.
"""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from enum import Enum

import aiohttp
import numpy as np
import structlog

from pipeline.config import Settings
from pipeline.core.ledger.tokens import is_remembered
from pipeline.core.rows.blocks import Block
from pipeline.edge import metrics
from pipeline.edge.clock import Clock, SystemClock
from pipeline.edge.store import client as clickhouse
from pipeline.edge.store.answers import WHOLE, Answer, Outcome, classify, whole, written
from schemas.windows import SIZES

log = structlog.get_logger()

SYSTEM = SystemClock()

CONCURRENT_MAX = 8  # inserts under way at once, of one worker
WAIT_S_FIRST, WAIT_S_MAX = 0.1, 10.0

_ROWS = ("inferences", "device_heartbeats", "inference_metadata", "alerts", "vision_events", "dead_letters")
_WINDOWS = ("model_windows", "class_windows")


class InsertRefusedError(Exception):
    """ClickHouse will never take this insert: a broken promise of our own, or a setting."""


class Attempt(Enum):
    """Whether somebody may have made this cut before."""

    FIRST = "first"
    AGAIN = "again"
    AGAIN_OLD = "again_old"  # under another name, or long ago: no token of it is known, and nothing is under way


Post = Callable[[Mapping[str, str], bytes], Awaitable[Answer]]  # a request's parameters and body


class Writer:
    """Puts rows into ClickHouse as the writer user. One a process; `reachable` says how the last attempt went."""

    def __init__(self, settings: Settings, post: Post | None = None, clock: Clock = SYSTEM) -> None:
        """Nothing is opened before `start`. Requests go out by `post`, which is HTTP if nothing else is given."""
        self._settings, self._clock = settings, clock
        self._post = post or self._http
        self._session: aiohttp.ClientSession | None = None
        self._slots = asyncio.Semaphore(CONCURRENT_MAX)
        self.reachable = True

    async def start(self) -> None:
        """Opens the connection pool."""
        metrics.watch_tables(
            inserted=[*_ROWS, *(f"{table}_in" for table in _WINDOWS)],
            mended=[*_ROWS, *(table + size.suffix for table in _WINDOWS for size in SIZES)],
            outcomes=[outcome.value for outcome in Outcome],
        )
        user, password = clickhouse.credentials(self._settings, "writer")
        secure = self._settings.clickhouse_url.startswith("https")
        context = ssl.create_default_context(cafile=self._settings.clickhouse_ca_file) if secure else None
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._settings.clickhouse_insert_timeout_s, connect=5),
            connector=aiohttp.TCPConnector(limit=2 * CONCURRENT_MAX, keepalive_timeout=2, ssl=context or True),
            headers={"X-ClickHouse-User": user, "X-ClickHouse-Key": password},
        )

    async def stop(self) -> None:
        """Closes the pool."""
        if self._session:
            await self._session.close()

    async def put(self, rows: Block, token: str, attempt: Attempt, named_ms: int, alive: Callable[[], None]) -> None:
        """Returns when the rows are in their table (and in all that it feeds), once.

        `named_ms`: when the cut got its name; nobody can have tried before. Waits as long as it takes; `alive` is
        called after each attempt. Raises InsertRefusedError.
        """
        table, wait_s = rows.table, WAIT_S_FIRST
        outcome = Outcome.NOT_SENT
        while (
            attempt is Attempt.FIRST and outcome is Outcome.NOT_SENT and is_remembered(named_ms, self._clock.now_ms())
        ):
            outcome = await self._insert(rows, token, alive)
            if outcome is Outcome.DONE:
                return
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, WAIT_S_MAX)
        # Only the data are believed from here on, before an attempt and after it. A mend can be acknowledged and
        # dropped like any other insert: whoever mended this cut before us may have spent the token, and left no rows.
        under_way = (
            None if attempt is Attempt.AGAIN_OLD else named_ms
        )  # since when a try may be, under the token of now
        mending, wait_s = 0, WAIT_S_FIRST
        while missing := await self._missing(rows, alive):
            if under_way is None or not is_remembered(under_way, self._clock.now_ms()):
                mending, under_way = mending + 1, self._clock.now_ms()
            if mending:
                log.warning("rows_missing", table=table, rows=sum(map(len, missing)), token=token)
                outcomes = {await self._mend(part, f"{token}:r{mending}", alive) for part in missing}
            else:
                outcomes = {await self._insert(rows, token, alive)}
            if outcomes == {Outcome.DONE}:
                under_way = None
            else:
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, WAIT_S_MAX)

    async def _mend(self, part: Block, token: str, alive: Callable[[], None]) -> Outcome:
        outcome = await self._insert(part, token, alive)
        if outcome is Outcome.DONE:
            metrics.ROWS_MENDED.labels(part.table).inc(len(part))
        return outcome

    async def _insert(self, rows: Block, token: str, alive: Callable[[], None]) -> Outcome:
        """One attempt. Raises InsertRefusedError."""
        names = ", ".join(f"`{name}`" for name in rows.names)
        params = {
            "query": f"INSERT INTO {rows.table} ({names}) FORMAT Native",
            "insert_deduplication_token": token,
            "insert_deduplicate": "1",
            "deduplicate_blocks_in_dependent_materialized_views": "1",
            "async_insert": "0",
            "max_partitions_per_insert_block": "0",  # late events and wrong clocks may touch many days at once
            "wait_end_of_query": "1",
        }
        async with self._slots:
            started = time.monotonic()
            answer = await self._post(params, rows.body)
        if answer.outcome is Outcome.DONE and answer.written is not None and answer.written < len(rows):
            said = f"{answer.written} of {len(rows)} rows arrived"  # the body was lost on its way, and nobody noticed
            answer = Answer(Outcome.UNKNOWN, said)
        metrics.INSERT_SECONDS.labels(rows.table).observe(time.monotonic() - started)
        metrics.INSERTS.labels(rows.table, answer.outcome.value).inc()
        alive()
        if answer.outcome is Outcome.REFUSED:
            raise InsertRefusedError(f"ClickHouse refuses rows for {rows.table}: {answer.text}")
        if answer.outcome is Outcome.DONE:
            metrics.INSERT_ROWS.labels(rows.table).inc(len(rows))
        else:
            log.warning("insert_retry", table=rows.table, token=token, outcome=answer.outcome.value, said=answer.text)
        return answer.outcome

    async def _http(self, params: Mapping[str, str], body: bytes) -> Answer:
        assert self._session is not None, "start() first"
        params = {**params, "database": self._settings.clickhouse_database}
        if "query" not in params:  # in the address: a body that loses its end may be another question
            params, body = params | {"query": body.decode()} | WHOLE, b""
        try:
            async with self._session.post(self._settings.clickhouse_url + "/", params=params, data=body) as response:
                text = (await response.read()).decode(errors="replace")
                answer = classify(response.status, response.headers.get("X-ClickHouse-Exception-Code"), text)
                if answer.outcome is Outcome.DONE and params["query"].startswith("SELECT"):
                    answer = whole(text)
                elif answer.outcome is Outcome.DONE:
                    answer = Answer(Outcome.DONE, text, written(response.headers.get("X-ClickHouse-Summary")))
        except aiohttp.ClientConnectorError as error:
            answer = Answer(Outcome.NOT_SENT, str(error))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            answer = Answer(Outcome.UNKNOWN, repr(error))
        self.reachable = answer.outcome is Outcome.DONE
        return answer

    async def query(self, sql: str, alive: Callable[[], None]) -> list[str]:
        """The lines that ClickHouse answers, tab-separated. Asks until it does. Raises InsertRefusedError."""
        wait_s = WAIT_S_FIRST
        while True:
            answer = await self._post({}, sql.encode())
            alive()
            if answer.outcome is Outcome.DONE:
                return answer.text.splitlines()
            if answer.outcome is Outcome.REFUSED:
                raise InsertRefusedError(f"ClickHouse refuses to answer: {answer.text}")
            log.warning("query_retry", outcome=answer.outcome.value, said=answer.text)
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, WAIT_S_MAX)

    async def _missing(self, rows: Block, alive: Callable[[], None]) -> list[Block]:
        """What of `rows` is in none of the tables where it should be, table by table."""
        if not rows.table.endswith("_in"):
            return _some([rows.take(np.flatnonzero(~np.isin(rows.offsets, await self._offsets_in(rows, alive))))])
        found = []
        for size in SIZES:
            target = rows.floored(rows.table.removesuffix("_in") + size.suffix, size.seconds)
            there = await self._windows_in(target, alive)
            reached = np.array([there.get(start, -1) for start in target.place.times.tolist()])
            found.append(target.take(np.flatnonzero(reached < target.place.marks(target.offsets))))
        return _some(found)

    async def _offsets_in(self, rows: Block, alive: Callable[[], None]) -> list[int]:
        place, times = rows.place, rows.place.times
        # The time too: a topic that was made anew has the same offsets again.
        where = (
            f"kafka_partition = {place.partition} AND kafka_offset BETWEEN {rows.offsets[0]} AND {rows.offsets[-1]} "
            f"AND kafka_time BETWEEN fromUnixTimestamp64Milli(toInt64({times.min()})) "
            f"AND fromUnixTimestamp64Milli(toInt64({times.max()}))"
        )
        if place.topic:
            where += f" AND kafka_topic = '{place.topic}'"
        return [int(line) for line in await self.query(f"SELECT kafka_offset FROM {rows.table} WHERE {where}", alive)]

    async def _windows_in(self, rows: Block, alive: Callable[[], None]) -> dict[int, int]:
        """How far each window has come, as a mark: an insert is atomic within a table partition, so in a window.

        Cuts go in one after another, so a window that has come to a mark has all rows of the records up to there,
        whatever cuts they came with: after a lost commit the cuts have other ends.
        """
        starts, partition = rows.place.times, rows.place.partition
        lines = await self.query(
            f"SELECT toUnixTimestamp(window_start), max(source[{partition}]) FROM {rows.table} "
            f"WHERE window_start BETWEEN toDateTime({starts.min()}) AND toDateTime({starts.max()}) "
            f"AND mapContains(source, {partition}) GROUP BY window_start",
            alive,
        )
        return {int(start): int(reached) for start, reached in (line.split("\t") for line in lines)}


def _some(tables: list[Block]) -> list[Block]:
    return [rows for rows in tables if len(rows)]
