"""Topics that are deleted and created again, and the operator who says that this is as it should be."""

import asyncio
from collections.abc import Iterable, Mapping

from aiokafka.structs import OffsetAndMetadata, TopicPartition

from pipeline.core.ledger.names import AggregatorName
from pipeline.core.ledger.resume import LogSpan, Problem, RecordedUpTo
from pipeline.core.ledger.standing import AGGREGATOR, accepted, standing
from pipeline.edge.kafka.aggregates import AggregatesTopic
from pipeline.edge.store.recorded import recorded
from schemas.topics import AGGREGATES
from tests.simulation.clickhouse import ClickHouse
from tests.simulation.clients import Client
from tests.simulation.kafka import NOBODY, CommittedOffsets, Log
from tests.simulation.loop import Clock
from tests.simulation.luck import Luck, ViolationError


def make_anew(
    tps: Iterable[TopicPartition], logs: dict[TopicPartition, Log], groups: Iterable[CommittedOffsets], keeps: bool
) -> None:
    """Empty logs of another id. Kafka forgets what was committed to the old ones; `keeps`: somebody put it back."""
    for tp in tps:
        logs[tp] = logs[tp].made_anew()
        for group in groups:
            if not keeps:
                group.forget(tp)


class Operator:
    """Goes through the partitions that stand still, as `inferwatch topics accept-gap` does. Nothing goes wrong here."""

    def __init__(
        self,
        luck: Luck,
        clock: Clock,
        logs: dict[TopicPartition, Log],
        groups: Mapping[str, CommittedOffsets],
        clickhouse: ClickHouse,
    ) -> None:
        self._clock, self._logs, self._groups, self._clickhouse = clock, logs, groups, clickhouse
        self._client = Client(luck, self, logs, groups)

    async def gate(self) -> None:
        """Never frozen."""

    async def accept(self, tps: Iterable[TopicPartition]) -> None:
        """Both roles go on in the new logs. Raises ViolationError where one would have gone on by itself."""
        aggregates = AggregatesTopic(self._client, AGGREGATES.name)
        try:
            for tp in tps:
                for role in self._groups:
                    output = await (aggregates.last_name(tp.partition) if role == AGGREGATOR else self._recorded(tp))
                    self._accept(role, tp, output)
        finally:
            await aggregates.stop()

    async def _recorded(self, tp: TopicPartition) -> RecordedUpTo | None:
        async def query(sql: str) -> list[str]:
            await asyncio.sleep(0)
            return self._clickhouse.ask(sql).splitlines()

        return await recorded(query, "inferences", tp.topic, tp.partition)

    def _accept(self, role: str, tp: TopicPartition, output: AggregatorName | RecordedUpTo | None) -> None:
        group, log = self._groups[role], self._logs[tp]
        at = group.offsets.get(tp)
        span = LogSpan(0, log.end, log.topic_id(tp.topic))
        stands = standing(role, tp.topic, tp.partition, span, (at.offset, at.metadata) if at else None, output)
        if stands.problem is not Problem.ANEW:
            raise ViolationError(f"{role} {tp}: made anew, and it stands still for {stands.problem}")
        name = accepted(stands, self._clock.now_ms())
        said = {tp: OffsetAndMetadata(name.reads_from, name.metadata())}
        group.first_seen(NOBODY, said)
        if refused := group.commit(NOBODY, said):
            raise ViolationError(f"{role} {tp}: the operator is not heard: {refused}")
