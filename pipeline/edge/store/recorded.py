"""What ClickHouse says of how far a partition was recorded: the questions, for the recorder and for an operator."""

from collections.abc import Awaitable, Callable, Mapping

from pipeline.core.ledger.names import mark, marked
from pipeline.core.ledger.resume import RecordedUpTo
from pipeline.edge.store.client import ClickHouse
from schemas.topics import AGGREGATES, ALERTS, EVENTS, HEARTBEATS, METADATA, VISION_EVENTS, Topic

Ask = Callable[[str], Awaitable[list[str]]]  # the lines of an answer, as TabSeparated

WINDOWS = "model_windows_1d"  # the last to forget: it says of all window tables how far they have come
TABLES: Mapping[Topic, str] = {
    EVENTS: "inferences",
    HEARTBEATS: "device_heartbeats",
    METADATA: "inference_metadata",
    ALERTS: "alerts",
    VISION_EVENTS: "vision_events",
    AGGREGATES: WINDOWS,
}


async def recorded(
    query: Ask, table: str, topic: str, partition: int, least: tuple[int, int] = (0, 0)
) -> RecordedUpTo | None:
    """The highest (epoch, offset) >= `least` that ClickHouse has of a partition; None if it has none."""
    if table == WINDOWS:
        sql = (
            f"SELECT maxOrNull(source[{partition}]) FROM {WINDOWS} "
            f"WHERE mapContains(source, {partition}) AND source[{partition}] >= {mark(*least)}"
        )
    else:
        there = f"kafka_partition = {partition} AND kafka_offset >= {least[1]}"
        sql = (
            f"SELECT maxOrNull(o) FROM (SELECT maxOrNull(kafka_offset) AS o FROM {table} WHERE {there} UNION ALL "
            f"SELECT maxOrNull(kafka_offset) FROM dead_letters WHERE kafka_topic = '{topic}' AND {there})"
        )
    (line,) = await query(sql)
    if line == r"\N":
        return None
    epoch, last = marked(int(line)) if table == WINDOWS else (least[0], int(line))
    return RecordedUpTo(epoch, last, await recorded_log(query, topic, partition))


async def recorded_log(query: Ask, topic: str, partition: int) -> str:
    """The id of the topic that rows of a partition came from last; "" if nobody has noted it."""
    (line,) = await query(
        f"SELECT argMax(topic_id, seen_at) FROM kafka_logs WHERE topic = '{topic}' AND partition = {partition}"
    )
    return line


async def note_log(query: Ask, topic: str, partition: int, topic_id: str) -> None:
    """From here on rows come from the topic of this id. Kafka forgets offsets with a topic; this it does not."""
    if topic_id and await recorded_log(query, topic, partition) != topic_id:
        values = f"('{topic}', {partition}, '{topic_id}')"
        await query(f"INSERT INTO kafka_logs (topic, partition, topic_id) VALUES {values}")


async def ask_recorded(store: ClickHouse, table: str, topic: str, partition: int) -> RecordedUpTo | None:
    """For an operator. Raises ClickHouseUnavailable."""

    async def query(sql: str) -> list[str]:
        rows = await store.ask(sql)
        return ["\t".join(r"\N" if value is None else str(value) for value in row) for row in rows]

    return await recorded(query, table, topic, partition)
