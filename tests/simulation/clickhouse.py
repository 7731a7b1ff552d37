"""ClickHouse as the recorder sees it, by the rules that were measured on the real one.

A table remembers the tokens of its last inserts, a token for each partition that an insert touched; a repeat is
acknowledged and dropped, whatever it holds. The token is logged before the part is visible: a server that is killed
in between acknowledges the repeat, and has nothing. An insert into a Null table feeds the targets of its views one by
one, each with tokens of its own. An insert may break anywhere between two parts.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any

from pipeline.edge.store.answers import Answer, Outcome
from tests.native_reader import read_block
from tests.simulation.loop import now_s
from tests.simulation.luck import Luck, Sender, ViolationError

Row = dict[str, Any]

ROLLUPS_S = {"": 10, "_1m": 60, "_1h": 3600, "_1d": 86_400}
WINDOW_TABLES = tuple(f"{kind}_windows{rollup}" for kind in ("model", "class") for rollup in ROLLUPS_S)
_PARTITION_FORMATS = {"_1h": "%Y-%m", "_1d": "%Y"}  # toYYYYMM, toYear; all others are by day


class ServerDied(Exception):
    """It was killed, or lost the connection, at this point of an insert."""


class Table:
    """What one table keeps. Rows of window tables are merged by key at once: merges change no answer."""

    def __init__(self, name: str, tokens_max: int) -> None:
        self.name, self._tokens_max = name, tokens_max
        self.rows: list[Row] = []
        self.windows: dict[tuple[Any, ...], dict[str, Any]] = {}
        self.tokens: OrderedDict[tuple[str, str], None] = OrderedDict()

    def insert(self, token: str, rows: list[Row], breaks: Callable[[], None], dies: Callable[[], None]) -> None:
        """Part after part, as the server does it. `breaks` is asked before each, `dies` after its token is logged."""
        parts: dict[str, list[Row]] = {}
        for row in rows:
            parts.setdefault(self._partition(row), []).append(row)
        for partition, part in parts.items():
            breaks()
            if (partition, token) in self.tokens:
                continue
            self.tokens[partition, token] = None
            if len(self.tokens) > self._tokens_max:
                self.tokens.popitem(last=False)
            dies()
            for row in part:
                self._add(row)

    def _partition(self, row: Row) -> str:
        at_s = row["window_start"] if "window_start" in row else row[_time_column(row)] // 1000
        return _partition(at_s, _PARTITION_FORMATS.get(self.name[-3:], "%Y-%m-%d"))

    def _add(self, row: Row) -> None:
        if "window_start" not in row:
            self.rows.append({**row, "ingested_ms": _now_ms()})
            return
        key = row["workspace"], row["model_id"], row.get("device_id", row.get("class")), row["window_start"]
        merged = self.windows.get(key)
        if merged is None:
            self.windows[key] = {n: dict(v) if isinstance(v, dict) else v for n, v in row.items()}
        else:
            for name, value in row.items():
                merged[name] = _merge(name, merged[name], value)


def _time_column(row: Row) -> str:
    return "event_time" if "event_time" in row else "kafka_time"


@cache
def _partition(at_s: int, form: str) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime(form)


def _merge(name: str, old: Any, new: Any) -> Any:
    if name.endswith(("_count", "_sum", "_sum_sq")):
        return old + new
    if name.endswith(("_min", "_max")):
        known = [value for value in (old, new) if value is not None]
        return (min if name.endswith("_min") else max)(known, default=None)
    if name.endswith("_histogram"):
        return {key: old.get(key, 0) + new.get(key, 0) for key in old.keys() | new.keys()}
    if name == "source":
        return {key: max(old.get(key, 0), new.get(key, 0)) for key in old.keys() | new.keys()}
    return old


@lru_cache(maxsize=256)
def _rows(body: bytes) -> list[Row]:
    return read_block(body, _text)[1]


def _text(raw: bytes) -> str:
    return raw.decode(errors="surrogateescape")


class ClickHouse:
    """All tables, and the ways in which a request can end."""

    def __init__(self, luck: Luck, tokens_max: int) -> None:
        self._luck = luck
        names = ("inferences", "dead_letters", *WINDOW_TABLES)
        self.tables = {name: Table(name, tokens_max) for name in names}
        self._contents: dict[tuple[str, str], bytes] = {}
        self.noted: dict[tuple[str, str], list[tuple[str, str, int]]] = {}  # ids of topics, epochs, since when
        self.is_up = True

    def forget_tokens(self) -> None:
        """A long time has passed."""
        for table in self.tables.values():
            table.tokens.clear()

    async def answer(self, sender: Sender, params: Mapping[str, str], body: bytes) -> Answer:
        """What the writer hears of a request."""
        luck = self._luck
        await sender.gate()
        if not self.is_up or luck.strikes(0.03, "clickhouse_away"):
            await luck.request(sender, lambda: None)
            return Answer(Outcome.NOT_SENT)
        is_insert = "insert_deduplication_token" in params
        effect = self._insert(params, body) if is_insert else self._question(body.decode())
        if luck.strikes(0.03, "request_lost"):
            await luck.request(sender, lambda: None)
            return Answer(Outcome.UNKNOWN)
        if is_insert and luck.strikes(0.03, "insert_late"):
            luck.later(effect)
            await luck.request(sender, lambda: None)
            return Answer(Outcome.UNKNOWN)
        answer = await luck.request(sender, effect)
        return Answer(Outcome.UNKNOWN) if luck.strikes(0.04, "answer_lost") else answer

    # -- inserts

    def _insert(self, params: Mapping[str, str], body: bytes) -> Callable[[], Answer]:
        found = re.fullmatch(r"INSERT INTO (\w+) \(.*\) FORMAT Native", params["query"])
        assert found, params["query"]
        name, token = found[1], params["insert_deduplication_token"]
        assert (params["insert_deduplicate"], params["async_insert"]) == ("1", "0")
        if not re.search(r":r\d+$", token):
            self._check_pure(name, token, body)
        return lambda: self._arrive(name, token, _rows(body))

    def _check_pure(self, table: str, token: str, body: bytes) -> None:
        if self._contents.setdefault((table, token), body) != body:
            raise ViolationError(f"cut {token} of {table} has another content now")

    def _arrive(self, name: str, token: str, rows: list[Row]) -> Answer:
        luck = self._luck
        targets = [(name, 1)]
        if name.endswith("_in"):
            targets = [(name.removesuffix("_in") + rollup, seconds) for rollup, seconds in ROLLUPS_S.items()]
            luck.rng.shuffle(targets)
        try:
            for target, seconds in targets:
                mine = rows if seconds == 1 else [_floored(row, seconds) for row in rows]
                self.tables[target].insert(token, mine, self._may_break, self._may_die)
        except ServerDied:
            luck.tell("broke", name, token)
            return Answer(Outcome.UNKNOWN)
        luck.tell("insert", name, token, len(rows))
        return Answer(Outcome.DONE)

    def _may_break(self) -> None:
        if self._luck.strikes(0.01, "insert_broke"):
            raise ServerDied

    def _may_die(self) -> None:
        if self._luck.strikes(0.03, "token_without_part"):
            raise ServerDied

    # -- questions: those that we ask, no others

    def ask(self, sql: str) -> str:
        """What somebody else is answered, who does not go through the worker's lines."""
        return self._question(sql)().text

    def _question(self, sql: str) -> Callable[[], Answer]:
        if found := re.fullmatch(_NOTE, sql):
            topic, partition, topic_id, epoch = found.groups()
            return lambda: self._note((topic, partition), topic_id, epoch)
        if found := re.fullmatch(_NOTED, sql):
            place = found[1], found[2]
            return lambda: Answer(Outcome.DONE, self._noted(place))
        for pattern, ask in _QUESTIONS:
            if found := re.fullmatch(pattern, sql):
                values = found.groupdict()
                return lambda: Answer(Outcome.DONE, "".join(f"{line}\n" for line in ask(self.tables, values)))
        raise AssertionError(f"not a question that this model knows: {sql}")

    def _note(self, place: tuple[str, str], topic_id: str, epoch: str) -> Answer:
        self.noted.setdefault(place, []).append((topic_id, epoch, _now_ms()))
        return Answer(Outcome.DONE)

    def _noted(self, place: tuple[str, str]) -> str:
        rows = self.noted.get(place, [("", "0", 0)])
        topic_id, epoch, since_ms = rows[-1]
        return f"{topic_id}\t{epoch}\t{since_ms if len({row[0] for row in rows}) > 1 else 0}\n"


def _now_ms() -> int:
    return round(now_s() * 1000)


def _floored(row: Row, seconds: int) -> Row:
    return {**row, "window_start": row["window_start"] // seconds * seconds}


def _offsets(tables: Mapping[str, Table], asked: Mapping[str, str]) -> list[int]:
    partition, first, last, since, until = (int(asked[n]) for n in ("partition", "first", "last", "since", "until"))
    return [
        row["kafka_offset"]
        for row in tables[asked["table"]].rows
        if row["kafka_partition"] == partition
        and first <= row["kafka_offset"] <= last
        and since <= row["kafka_time"] <= until
        and asked["topic"] in (None, row.get("kafka_topic"))
    ]


def _windows(tables: Mapping[str, Table], asked: Mapping[str, str]) -> list[str]:
    partition, since, until = (int(asked[n]) for n in ("partition", "since", "until"))
    reached: dict[int, int] = {}
    for row in tables[asked["table"]].windows.values():
        start = row["window_start"]
        if since <= start <= until and partition in row["source"]:
            reached[start] = max(row["source"][partition], reached.get(start, 0))
    return [f"{start}\t{mark}" for start, mark in sorted(reached.items())]


def _windows_recorded(tables: Mapping[str, Table], asked: Mapping[str, str]) -> list[Any]:
    partition, least = int(asked["partition"]), int(asked["least"])
    names = [asked[name] for name in ("models", "classes") if name in asked]
    found = [row["source"].get(partition, -1) for name in names for row in tables[name].windows.values()]
    return [max((offset for offset in found if offset >= least), default=r"\N")]


def _rows_recorded(tables: Mapping[str, Table], asked: Mapping[str, str]) -> list[Any]:
    partition, least, topic = int(asked["partition"]), int(asked["least"]), asked["topic"]
    found = [
        row["kafka_offset"]
        for name in (asked["table"], "dead_letters")
        for row in tables[name].rows
        if row["kafka_partition"] == partition and row.get("kafka_topic", topic) == topic
        if row["ingested_ms"] >= int(asked["since"] or 0)
    ]
    return [max((offset for offset in found if offset >= least), default=r"\N")]


_NOTE = r"INSERT INTO kafka_logs \(topic, partition, topic_id, epoch\) VALUES \('([^']+)', (\d+), '([^']+)', (\d+)\)"
_NOTED = (
    r"SELECT argMax\(topic_id, seen_at\), argMax\(epoch, seen_at\), "
    r"if\(uniqExact\(topic_id\) > 1, toUnixTimestamp64Milli\(max\(seen_at\)\), 0\) "
    r"FROM kafka_logs WHERE topic = '([^']+)' AND partition = (\d+)"
)
_SOURCE = r"maxOrNull\(source\[(?P<partition>\d+)\]\)"
_SAME_SOURCE = r"maxOrNull\(source\[(?P=partition)\]\)"
_SINCE = r"mapContains\(source, (?P=partition)\) AND source\[(?P=partition)\] >= (?P<least>\d+)"
_SAME_SINCE = _SINCE.replace(r"(?P<least>\d+)", "(?P=least)")
_MS = r"fromUnixTimestamp64Milli\(toInt64\((?P<{}>\d+)\)\)"
_QUESTIONS: tuple[tuple[str, Callable[[Mapping[str, Table], Mapping[str, str]], list[Any]]], ...] = (
    (
        r"SELECT kafka_offset FROM (?P<table>\w+) WHERE kafka_partition = (?P<partition>\d+) "
        r"AND kafka_offset BETWEEN (?P<first>\d+) AND (?P<last>\d+) "
        rf"AND kafka_time BETWEEN {_MS.format('since')} AND {_MS.format('until')}"
        r"(?: AND kafka_topic = '(?P<topic>[^']+)')?",
        _offsets,
    ),
    (
        r"SELECT toUnixTimestamp\(window_start\), max\(source\[(?P<partition>\d+)\]\) FROM (?P<table>\w+) "
        r"WHERE window_start BETWEEN toDateTime\((?P<since>\d+)\) AND toDateTime\((?P<until>\d+)\) "
        r"AND mapContains\(source, (?P=partition)\) GROUP BY window_start",
        _windows,
    ),
    (rf"SELECT {_SOURCE} FROM (?P<models>model_windows_1d) WHERE {_SINCE}", _windows_recorded),
    (
        rf"SELECT maxOrNull\(o\) FROM \(SELECT {_SOURCE} AS o FROM (?P<models>model_windows_1d) WHERE {_SINCE} "
        rf"UNION ALL SELECT {_SAME_SOURCE} FROM (?P<classes>class_windows_1d) WHERE {_SAME_SINCE}\)",
        _windows_recorded,
    ),
    (
        r"SELECT maxOrNull\(o\) FROM \(SELECT maxOrNull\(kafka_offset\) AS o FROM (?P<table>\w+) "
        r"WHERE kafka_partition = (?P<partition>\d+) AND kafka_offset >= (?P<least>\d+)"
        rf"(?: AND ingested_at >= {_MS.format('since')})? UNION ALL "
        r"SELECT maxOrNull\(kafka_offset\) FROM dead_letters WHERE kafka_topic = '(?P<topic>[^']+)' "
        r"AND kafka_partition = (?P=partition) AND kafka_offset >= (?P=least)(?: AND ingested_at >= .*)?\)",
        _rows_recorded,
    ),
)
