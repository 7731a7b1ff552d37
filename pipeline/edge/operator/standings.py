"""Where every role stands, also where Kafka has forgotten it: what inference.aggregates and ClickHouse say of it."""

from collections.abc import Iterable

from pipeline.core.ledger.names import AggregatorName
from pipeline.core.ledger.resume import RecordedUpTo
from pipeline.core.ledger.standing import AGGREGATOR, READS, Standing, standing
from pipeline.edge.kafka.aggregates import AggregatesTopic
from pipeline.edge.kafka.client import Kafka
from pipeline.edge.kafka.group import standings as groups
from pipeline.edge.store.client import ClickHouse, ClickHouseUnavailable
from pipeline.edge.store.recorded import TABLES, ask_recorded
from schemas.topics import AGGREGATES


async def standings(kafka: Kafka, roles: Iterable[str] = tuple(READS)) -> list[Standing]:
    """Every role in every partition that it reads, as its worker would find it.

    While ClickHouse does not answer, a recorder without a committed offset is one that has everything before it.
    """
    found = await groups.standings(kafka.settings, kafka, roles)
    aggregates = AggregatesTopic(kafka, kafka.settings.topic(AGGREGATES.name))
    try:
        async with ClickHouse(kafka.settings, "writer") as store:
            return [await _with_output(kafka, aggregates, store, one) for one in found]
    finally:
        await aggregates.stop()


async def _with_output(kafka: Kafka, aggregates: AggregatesTopic, store: ClickHouse, one: Standing) -> Standing:
    if one.name is not None or one.problem is not None:
        return one
    output: AggregatorName | RecordedUpTo | None
    if one.role == AGGREGATOR:
        output = await aggregates.last_name(one.partition)
    else:
        table = next(table for topic, table in TABLES.items() if kafka.settings.topic(topic.name) == one.topic)
        try:
            output = await ask_recorded(store, table, one.topic, one.partition)
        except ClickHouseUnavailable:
            output = None
    return standing(one.role, one.topic, one.partition, one.log, None, output)
