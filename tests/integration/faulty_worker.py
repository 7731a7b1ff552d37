"""`python -m tests.integration.faulty_worker ROLE STRIKES`: a worker that breaks itself at a step of a cut.

The faults are put around the production code, which has no hooks for them. STRIKES is a file: a line for each strike,
written before it.
"""

import os
import random
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import numpy as np
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from agents.main import main
from agents.recorder import Recorder
from pipeline.core.ledger.names import AggregatorName, ForeignMetadataError, RecorderName
from pipeline.core.rows.blocks import Block, read
from pipeline.core.rows.native import Maps, Numbers, Strings
from pipeline.edge.kafka.aggregates import AggregatesTopic
from pipeline.edge.kafka.producer import Producer
from pipeline.edge.store.answers import Answer, Outcome
from pipeline.edge.store.inserts import Writer
from schemas.topics import EVENTS
from tests.integration.workers import FAULT, Action, Fault, Step

JUNK = "~junk"  # what the oracle leaves out
_rows: ContextVar[Block] = ContextVar("rows that are being put")
_puts: ContextVar[list[str]] = ContextVar("tables of the cut under way")


class Fate:
    """Counts occasions, and strikes."""

    def __init__(self, fault: Fault, strikes: str) -> None:
        self.fault = fault
        self._file = os.open(strikes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._random = random.Random(fault.seed)
        self._count = 0

    def strikes(self, step: Step, topic: str) -> bool:
        """Whether this is the occasion."""
        fault = self.fault
        if step is not fault.step or not topic.endswith(fault.topic):
            return False
        self._count += 1
        hit = self._random.random() < fault.probability if fault.probability else self._count == fault.nth
        if hit:
            os.write(self._file, f"{step} {topic} {self._count}\n".encode())
        return hit

    def at(self, step: Step, topic: str) -> None:
        """A step is reached."""
        if not self.strikes(step, topic):
            return
        match self.fault.action:
            case Action.KILL:
                os._exit(9)
            case Action.FREEZE:
                os.kill(os.getpid(), signal.SIGSTOP)
            case Action.RAISE:
                raise RuntimeError("a fault of the test")
            case _:
                raise AssertionError(self.fault)


def names_a_cut(offset: int, metadata: str) -> bool:
    """Whether a commit names a cut, or only says what is done."""
    for kind in (AggregatorName, RecorderName):
        with suppress(ForeignMetadataError):
            return not kind.parse(offset, metadata).is_empty
    return False


def around_commits(fate: Fate) -> None:
    """The last moment before an OffsetCommit is built, and the first one after its answer."""
    send = GroupCoordinator._do_commit_offsets

    async def faulty(self: Any, assignment: Any, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        topics = sorted({tp.topic for tp, at in offsets.items() if names_a_cut(at.offset, at.metadata)})
        for topic in topics:
            fate.at(Step.NAMING, topic)
        await send(self, assignment, offsets)
        for topic in topics:
            fate.at(Step.NAMED, topic)

    GroupCoordinator._do_commit_offsets = faulty


def around_aggregates(fate: Fate) -> None:
    """Half of a cut's records are acknowledged, the other half is not sent."""
    send = AggregatesTopic.send

    async def faulty(self: Any, topic: str, records: Any, alive: Any) -> None:
        listed = list(records)
        half = len(listed) // 2
        await send(self, topic, listed[:half], alive)
        fate.at(Step.BETWEEN, EVENTS.name)
        await send(self, topic, listed[half:], alive)
        fate.at(Step.DONE, EVENTS.name)

    AggregatesTopic.send = faulty  # type: ignore[method-assign, assignment]  # it passes on what it is given


def around_output(fate: Fate) -> None:
    """A detector's or a notifier's records: what follows from the last commit is not out yet; and: it is."""
    send = Producer.send

    async def faulty(self: Any, topic: str, records: Any, alive: Any) -> list[int]:
        fate.at(Step.NAMED, topic)
        offsets = await send(self, topic, records, alive)
        fate.at(Step.DONE, topic)
        return offsets

    Producer.send = faulty  # type: ignore[method-assign, assignment]  # it passes on what it is given


def around_inserts(fate: Fate) -> None:
    """A cut's first table is in, its second is not; and: all are in."""
    record, put = Recorder._record, Writer.put

    async def faulty_record(self: Any, partition: Any, *rest: Any) -> None:
        _puts.set([])
        await record(self, partition, *rest)
        fate.at(Step.DONE, partition.topic)

    async def faulty_put(self: Any, rows: Any, token: str, *rest: Any) -> None:
        if _puts.get():
            fate.at(Step.BETWEEN, token.split(":")[0])
        _puts.get().append(rows.table)
        await put(self, rows, token, *rest)

    Recorder._record = faulty_record  # type: ignore[method-assign, assignment]  # it passes on what it is given
    Writer.put = faulty_put  # type: ignore[method-assign, assignment]  # it passes on what it is given


def around_posts(fate: Fate) -> None:
    """As ClickHouse killed between logging a token and publishing the part: the token is spent, the data are not in."""
    put, post = Writer.put, Writer._http

    async def faulty_put(self: Any, rows: Any, *rest: Any) -> None:
        _rows.set(rows)
        await put(self, rows, *rest)

    async def faulty_post(self: Any, params: Mapping[str, str], body: bytes) -> Answer:
        token = params.get("insert_deduplication_token", "")
        if token and ":r" not in token and fate.strikes(Step.INSERT, token.split(":")[0]):
            answer = await post(self, params, junk(_rows.get()).body)
            assert answer.outcome is Outcome.DONE, answer
            return Answer(Outcome.UNKNOWN, "a fault of the test")
        return await post(self, params, body)

    Writer.put = faulty_put  # type: ignore[method-assign, assignment]  # it passes on what it is given
    Writer._http = faulty_post  # type: ignore[method-assign]


def junk(rows: Block) -> Block:
    """As many rows, in the same partitions of the table, that are nobody's."""
    names = Strings([JUNK] * len(rows))
    nowhere = Numbers("UInt16", np.full(len(rows), 900))
    columns = read(rows.body)
    for name in ("workspace", "kafka_topic"):
        columns |= {name: names} if name in columns else {}
    if rows.table.endswith("_in"):
        columns["source"] = Maps(np.ones(len(rows), np.int64), nowhere, Numbers("UInt64", np.zeros(len(rows))))
    else:
        columns["kafka_partition"] = nowhere
    return Block.of(rows.table, columns, rows.offsets, rows.place)


def run() -> None:
    """The worker, with its fault around it."""
    role, strikes = sys.argv[1:3]
    fate = Fate(Fault.read(os.environ.pop(FAULT)), strikes)
    around_commits(fate)
    if role in ("detector", "notifier"):
        around_output(fate)
    elif role == "aggregator":
        around_aggregates(fate)
    elif fate.fault.action is Action.POISON:
        around_posts(fate)
    else:
        around_inserts(fate)
    sys.argv[1:] = ["worker", role]
    main()


if __name__ == "__main__":
    run()
