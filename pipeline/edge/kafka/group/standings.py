"""Where every role stands on the broker, asked without joining a group; and the one way to move it by hand."""

import asyncio
from collections.abc import Iterable

import structlog
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from pipeline.config import Settings
from pipeline.core.ledger.names import AggregatorName, RecorderName
from pipeline.core.ledger.resume import LogSpan
from pipeline.core.ledger.standing import AGGREGATOR, READS, RECORDER, Standing, accepted, rewound, standing
from pipeline.edge.clock import Clock, now_ms
from pipeline.edge.kafka.client import Kafka
from pipeline.edge.kafka.connection import KafkaUnavailable, Log

log = structlog.get_logger()


async def standings(settings: Settings, log: Log, roles: Iterable[str] = tuple(READS)) -> list[Standing]:
    """Every role in every partition that it reads, by role, topic, partition; a missing topic is left out."""
    names = {role: [settings.topic(topic.name) for topic in READS[role]] for role in roles}
    topics = sorted({name for wanted in names.values() for name in wanted})
    logs, ids = await log.ends(topics), await log.topic_ids(topics)
    out = []
    for role, wanted in names.items():
        committed = await log.committed(role)
        for tp in sorted(tp for tp in logs if tp.topic in wanted):
            at = committed.get(tp)
            found = None if at is None else (at.offset, at.metadata)
            span = LogSpan(*logs[tp], ids.get(tp.topic, ""))
            out.append(standing(role, tp.topic, tp.partition, span, found))
    return out


async def recorder_offsets(log: Log, topic: str) -> dict[int, int]:
    """By partition: what the recorder has committed. Everything before is done. Raises ForeignMetadataError."""
    found = await log.committed(RECORDER)
    return {
        tp.partition: RecorderName.parse(at.offset, at.metadata).from_offset
        for tp, at in found.items()
        if tp.topic == topic
    }


async def aggregator_names(log: Log, topic: str) -> dict[int, AggregatorName]:
    """By partition: the aggregator's name. Raises ForeignMetadataError."""
    found = await log.committed(AGGREGATOR)
    return {tp.partition: AggregatorName.parse(at.offset, at.metadata) for tp, at in found.items() if tp.topic == topic}


async def accept_gap(kafka: Kafka, standing: Standing) -> None:
    """Lets a role go on where the log can be read. Raises GroupInUseError while a worker of the role runs."""
    name = accepted(standing, now_ms())
    partition = TopicPartition(standing.topic, standing.partition)
    await kafka.commit_for_empty_group(standing.role, partition, name.reads_from, name.metadata())


async def rewind(kafka: Kafka, since_ms: int) -> dict[TopicPartition, int]:
    """Lets the recorder look again at all that came since; by partition how many records. Raises GroupInUseError."""
    all_of_role = await standings(kafka.settings, kafka, [RECORDER])
    found = {TopicPartition(s.topic, s.partition): s for s in all_of_role}
    first = await kafka.first_since(list(found), since_ms)
    again = {}
    for tp, at in found.items():
        name = rewound(at, first[tp][0]) if tp in first else None
        if name is not None:
            await kafka.commit_for_empty_group(RECORDER, tp, name.from_offset, name.metadata())
            again[tp] = at.next_offset - name.from_offset
    return again


class FollowedStandings:
    """Where all roles stand, asked again and again, for one that cannot wait for a broker's answer."""

    def __init__(self, settings: Settings, log: Log, clock: Clock, every_s: float) -> None:
        self._settings, self._log, self._clock, self._every_s = settings, log, clock, every_s
        self._asked_at = 0.0
        self._asking: asyncio.Task[list[Standing]] | None = None

    def news(self) -> list[Standing] | None:
        """An answer, once; None while there is none. Asks again when it is time."""
        if self._asking is None:
            if self._clock.monotonic() - self._asked_at >= self._every_s:
                self._asked_at = self._clock.monotonic()
                self._asking = asyncio.create_task(standings(self._settings, self._log))
            return None
        if not self._asking.done():
            return None
        asked, self._asking = self._asking, None
        try:
            return asked.result()
        except (KafkaUnavailable, KafkaError, TimeoutError) as error:  # what it says then nobody knows
            log.warning("standings_unknown", error=str(error))
            return None

    async def stop(self) -> None:
        """Asks no more."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
            self._asking = None
