"""What ClickHouse says of how far a partition was recorded: the questions, for the recorder and for an operator."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class NotedLog:
    """Which log the rows of a partition came from last."""

    topic_id: str = ""  # "" if nobody has noted it
    epoch: int = 0  # when it was noted
    since_ms: int = 0  # rows that came in before are of another log of that name; 0: there was none


async def recorded(
    query: Ask, table: str, topic: str, partition: int, least: tuple[int, int] = (0, 0)
) -> RecordedUpTo | None:
    """The highest (epoch, offset) >= `least` that ClickHouse has of a partition's log; None if it has none.

    Of a log that is noted and was not the first of its name, nothing yet is an answer too: last is -1.
    """
    noted = await noted_log(query, topic, partition)
    if table == WINDOWS:
        from_mark = max(mark(*least), mark(noted.epoch, 0) if noted.since_ms else 0)
        sql = (
            f"SELECT maxOrNull(source[{partition}]) FROM {WINDOWS} "
            f"WHERE mapContains(source, {partition}) AND source[{partition}] >= {from_mark}"
        )
    else:
        there = f"kafka_partition = {partition} AND kafka_offset >= {least[1]}"
        if noted.since_ms:
            there += f" AND ingested_at >= fromUnixTimestamp64Milli(toInt64({noted.since_ms}))"
        sql = (
            f"SELECT maxOrNull(o) FROM (SELECT maxOrNull(kafka_offset) AS o FROM {table} WHERE {there} UNION ALL "
            f"SELECT maxOrNull(kafka_offset) FROM dead_letters WHERE kafka_topic = '{topic}' AND {there})"
        )
    (line,) = await query(sql)
    epoch = max(least[0], noted.epoch)
    if line == r"\N":
        return RecordedUpTo(epoch, -1, noted.topic_id) if noted.since_ms else None
    epoch, last = marked(int(line)) if table == WINDOWS else (epoch, int(line))
    return RecordedUpTo(epoch, last, noted.topic_id)


async def noted_log(query: Ask, topic: str, partition: int) -> NotedLog:
    """What `note_log` has kept."""
    (line,) = await query(
        "SELECT argMax(topic_id, seen_at), argMax(epoch, seen_at), "
        "if(uniqExact(topic_id) > 1, toUnixTimestamp64Milli(max(seen_at)), 0) "
        f"FROM kafka_logs WHERE topic = '{topic}' AND partition = {partition}"
    )
    topic_id, epoch, since_ms = line.split("\t")
    return NotedLog(topic_id, int(epoch), int(since_ms))


async def note_log(query: Ask, topic: str, partition: int, topic_id: str, epoch: int) -> None:
    """From here on rows come from the topic of this id. Kafka forgets offsets with a topic; this it does not.

    Before the first of them: so the time of this note tells them from those of the topic's earlier logs.
    """
    if topic_id and (await noted_log(query, topic, partition)).topic_id != topic_id:
        values = f"('{topic}', {partition}, '{topic_id}', {epoch})"
        await query(f"INSERT INTO kafka_logs (topic, partition, topic_id, epoch) VALUES {values}")


async def ask_recorded(store: ClickHouse, table: str, topic: str, partition: int) -> RecordedUpTo | None:
    """For an operator. Raises ClickHouseUnavailable."""

    async def query(sql: str) -> list[str]:
        rows = await store.ask(sql)
        return ["\t".join(r"\N" if value is None else str(value) for value in row) for row in rows]

    return await recorded(query, table, topic, partition)
