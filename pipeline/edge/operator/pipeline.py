"""How the pipeline stands: how far each role is behind, in records and in seconds, and up to when all is complete."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiokafka.structs import TopicPartition

from pipeline.core.audit import through_by_partition
from pipeline.core.ledger.names import AggregatorName
from pipeline.core.ledger.standing import AGGREGATOR, Standing
from pipeline.core.span import Span
from pipeline.edge.kafka.client import GroupState, Kafka
from pipeline.edge.kafka.group.standings import standings
from pipeline.edge.kafka.reader import Reader
from schemas.roles import ROLE_NAMES

LOOK_S = 5.0  # for the oldest records that wait


@dataclass(frozen=True, slots=True)
class Behind:
    """A role in a partition; how long the oldest record has waited for it (None: not known)."""

    standing: Standing
    lag_s: float | None


@dataclass(frozen=True, slots=True)
class PipelineState:
    """As of `at_ms`. Windows that end by `complete_through_ms` are complete, but for late events; 0: none is."""

    at_ms: int
    partitions: Sequence[Behind]
    complete_through_ms: int
    groups: Mapping[str, GroupState]  # by role


async def look(kafka: Kafka, now_ms: int) -> PipelineState:
    """Asks Kafka alone. Raises KafkaUnavailable."""
    found = await standings(kafka.settings, kafka)
    groups = {role: await kafka.group(role) for role in ROLE_NAMES}
    waiting = {_partition(one): _taken(one) for one in found if one.lag}
    since_ms = await _times(kafka, waiting) if waiting else {}
    logs = {one.partition: Span(one.log.start, one.log.end) for one in found if one.role == AGGREGATOR}
    names = {one.partition: one.name for one in found if isinstance(one.name, AggregatorName)}
    return PipelineState(
        now_ms,
        [Behind(one, _seconds(one, since_ms, now_ms)) for one in found],
        min(through_by_partition(names, logs).values(), default=0),
        groups,
    )


def _partition(one: Standing) -> tuple[str, TopicPartition]:
    return one.role, TopicPartition(one.topic, one.partition)


def _taken(one: Standing) -> int:
    """The first offset that waits."""
    return one.log.end - one.lag


def _seconds(one: Standing, since_ms: Mapping[tuple[str, TopicPartition], int], now_ms: int) -> float | None:
    if not one.lag:
        return 0.0
    first_ms = since_ms.get(_partition(one))
    return None if first_ms is None else max(0.0, (now_ms - first_ms) / 1000)


async def _times(
    kafka: Kafka, waiting: Mapping[tuple[str, TopicPartition], int]
) -> dict[tuple[str, TopicPartition], int]:
    """The broker's time of the first record that waits; left out where it is not found in time."""
    found: dict[tuple[str, TopicPartition], int] = {}
    for role in {role for role, _ in waiting}:
        offsets: dict[TopicPartition, int | None] = {tp: at for (r, tp), at in waiting.items() if r == role}
        reader = Reader(kafka, offsets)
        try:
            async with asyncio.timeout(LOOK_S):
                await reader.start()
                while not reader.caught_up and len([r for r, _ in found if r == role]) < len(offsets):
                    for record in await reader.read(0.2):
                        found.setdefault((role, TopicPartition(record.topic, record.partition)), record.timestamp)
        except TimeoutError:
            pass
        finally:
            await reader.stop()
    return found
