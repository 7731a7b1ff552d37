"""The promises, held against an independent count of the log."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from aiokafka.structs import TopicPartition

from pipeline.core.ledger.names import Position
from schemas import aggregate
from schemas.aggregate import AggregateRecord
from tests.builders import LogRecord
from tests.recount import Rows, accepted, merged, new_row, recount, window_s
from tests.simulation.clickhouse import ROLLUPS_S, ClickHouse
from tests.simulation.kafka import Log
from tests.simulation.luck import ViolationError

Link = tuple[int, ...]  # epoch, offset, through_ms, part
Logs = Mapping[TopicPartition, Log]


def everything(
    events: Sequence[TopicPartition], aggregates: Sequence[TopicPartition], logs: Logs, clickhouse: ClickHouse
) -> Counter[str]:
    """Raises ViolationError unless every promise is kept; what was met on the way."""
    _once(events, logs, clickhouse)
    expected = recount(record for tp in events for record in logs[tp].all_records)
    taken, met = _chains(aggregates, logs)
    _equal("inference.aggregates", merged(taken), expected)
    for kind in ("model", "class"):
        for rollup, seconds in ROLLUPS_S.items():
            table = clickhouse.tables[f"{kind}_windows{rollup}"]
            _equal(table.name, _window_rows(kind, table.windows), _rolled_up(kind, expected, seconds))
    return met


# -- single inferences


def _once(events: Sequence[TopicPartition], logs: Logs, clickhouse: ClickHouse) -> None:
    rows: Counter[tuple[Any, ...]] = Counter()
    for tp in events:
        for record in logs[tp].all_records:
            event = accepted(record)
            rows["dead_letters" if event is None else "inferences", tp.topic, tp.partition, record.offset] += 1
    found = Counter(
        (table, row.get("kafka_topic", events[0].topic), row["kafka_partition"], row["kafka_offset"])
        for table in ("inferences", "dead_letters")
        for row in clickhouse.tables[table].rows
    )
    _no_difference("rows", rows - found, found - rows)


# -- the chain


def chain_ends(aggregates: Iterable[TopicPartition], logs: Logs) -> dict[tuple[int, int], Any]:
    """How far each source has come in each partition of inference.aggregates, by its newest link."""
    ends: dict[tuple[int, int], Any] = {}
    for target in aggregates:
        for record in logs[target].records:
            link = _link(record)
            at = ends.get((link.source, target.partition))
            end = Position(*link.end)
            ends[link.source, target.partition] = end if at is None else max(at, end)
    return ends


def _chains(aggregates: Iterable[TopicPartition], logs: Logs) -> tuple[list[AggregateRecord], Counter[str]]:
    """The links that a reader takes. Raises ViolationError at a gap, and if a cut was not made as before."""
    taken, met = [], Counter[str]()
    for target in aggregates:
        at: dict[int, Link] = {}
        contents: dict[tuple[int, Link], bytes | None] = {}
        for record in logs[target].records:
            link = _link(record)
            start = tuple(link.start)
            if contents.setdefault((link.source, start), record.value) != record.value:
                raise ViolationError(f"the cut of {link.source} at {start} has another content now")
            here = at.get(link.source, start if logs[target].came_later else (0, 0, 0, 0))
            if start > here and start[0] == here[0]:  # a later epoch is an operator's word
                raise ViolationError(f"gap: {link.source} is at {here} in {target}, and {start} comes next")
            if start < here:
                met["repeat"] += 1
                continue
            at[link.source] = tuple(link.end)
            taken.append(link)
    return taken, met


@lru_cache(maxsize=1000)
def _decoded(value: bytes | None) -> object:
    return aggregate.decode(value)


def _link(record: LogRecord) -> AggregateRecord:
    link = _decoded(record.value)
    assert isinstance(link, AggregateRecord)
    return link


# -- windows


def last_window_end_ms(logs: Iterable[Log]) -> int:
    """When the last window with an event ends."""
    starts_s = [window_s(event) for log in logs for record in log.records if (event := accepted(record)) is not None]
    return (max(starts_s, default=0) + 10) * 1000


def _window_rows(kind: str, windows: Mapping[tuple[Any, ...], Mapping[str, Any]]) -> Rows:
    """A table's rows as the recount has them."""
    columns = new_row(kind).keys()
    return {
        (kind, start_s, workspace, model, last): {name: row[name] for name in columns}
        for (workspace, model, last, start_s), row in windows.items()
    }


def _rolled_up(kind: str, rows: Rows, seconds: int) -> Rows:
    rolled: Rows = {}
    for (of, start_s, *rest), row in rows.items():
        if of != kind:
            continue
        into = rolled.setdefault((kind, start_s // seconds * seconds, *rest), new_row(kind))  # type: ignore[arg-type]
        for name, value in row.items():
            into[name] = _sum(name, into[name], value)
    return rolled


def _sum(name: str, old: Any, new: Any) -> Any:
    if name.endswith(("_min", "_max")):
        return (min if name.endswith("_min") else max)([v for v in (old, new) if v is not None], default=None)
    return old + new


def _equal(what: str, found: Rows, expected: Rows) -> None:
    if found == expected:
        return
    for key in found.keys() | expected.keys():
        mine, right = found.get(key, {}), expected.get(key, {})
        wrong = {n: (mine.get(n), right.get(n)) for n in mine.keys() | right.keys() if mine.get(n) != right.get(n)}
        if wrong:
            raise ViolationError(f"{what} {key}: (found, right) = {wrong}")


def _no_difference(what: str, missing: Counter[Any], more: Counter[Any]) -> None:
    if missing or more:
        raise ViolationError(f"{what}: missing {dict(missing)}, too many {dict(more)}")
