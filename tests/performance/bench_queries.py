"""`make bench-queries`: what the questions of people and dashboards take over 100 million inferences and their rollups.

Loads a month once (bench_queries_data.py) into a ClickHouse of its own, then asks as the reader: what the dashboards
ask, the SQL of README.md and docs/queries.md, searches for single inferences; and what the query API asks, as its user,
bound by row policies.
"""

import argparse
import http.client
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import orjson
from clickhouse_connect.driver.client import Client
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from pipeline.config import Settings, load
from pipeline.edge.clock import now_ms
from pipeline.edge.local.clickhouse import EmbeddedClickHouse, Passwords
from pipeline.edge.local.layout import kept_secrets, settings_for
from pipeline.edge.local.ports import free_ports
from pipeline.edge.store import tenancy
from pipeline.edge.store.client import credentials
from tests.documents import ROOT
from tests.integration.outside import connect, migrate
from tests.performance import bench_queries_data as data
from tests.performance.bench_queries_asked import Question, questions
from tests.performance.system import cpu_s, wait_settled

LIMIT_MS = 300.0
TIMES = 5
LOADED_A_S = 100_000  # inferences, about: the data end when loading ends
SERVER_MEMORY = 8_000_000_000
KEPT_SETTINGS = {"ttl_inferences_days": 3650, "ttl_windows_days": 3650}  # a directory that is kept stays as it is


@dataclass(frozen=True, slots=True)
class Answer:
    """What one question cost. `cpu_ms`: of the server, each time. `error`: why there is none."""

    question: Question
    ms: tuple[float, ...] = ()
    cpu_ms: float = 0.0
    rows: int = 0
    read_rows: int = 0
    read_bytes: int = 0
    error: str = ""

    @property
    def median_ms(self) -> float:
        """Of all the times that it was asked."""
        return statistics.median(self.ms) if self.ms else float("nan")

    @property
    def verdict(self) -> str:
        """In a word."""
        return "error" if self.error else "ok" if self.median_ms <= LIMIT_MS else "slow"


class Reader:
    """Asks over HTTP as the reader does, or as the HTTP side does, and hears what was read for it."""

    def __init__(self, server: EmbeddedClickHouse, settings: Settings) -> None:
        self._server = server
        self._settings = settings
        # The summary is whole only when the answer waits for the end; what an earlier query found must not help.
        options = {"database": settings.clickhouse_database, "wait_end_of_query": 1, "use_query_condition_cache": 0}
        self._options = options
        parts = urlsplit(settings.clickhouse_url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=120)

    def close(self) -> None:
        """No more."""
        self._connection.close()

    def ask(self, question: Question, times: int) -> Answer:
        """The question so many times, in a row."""
        took: list[float] = []
        used_s = cpu_s(self._server)
        sql = question.sql.rstrip().rstrip(";")
        if not re.search(r"\bFORMAT \w+\s*$", sql):
            sql += "\nFORMAT JSONCompactEachRow"
        user, password = credentials(self._settings, "query" if question.workspace else "reader")
        headers = {"X-ClickHouse-User": user, "X-ClickHouse-Key": password}
        bound = {f"param_{name}": value for name, value in question.parameters.items()}
        if question.workspace:
            bound |= {tenancy.SETTING: question.workspace, "param_workspace": question.workspace}
        path = "/?" + urlencode({**self._options, **bound})
        for _ in range(times):
            began = time.monotonic()
            self._connection.request("POST", path, body=sql.encode(), headers=headers)
            response = self._connection.getresponse()
            body = response.read()
            took.append((time.monotonic() - began) * 1000)
            if response.status != http.HTTPStatus.OK:
                return Answer(question, error=body.decode(errors="replace").strip().splitlines()[0][:200])
        summary = orjson.loads(response.headers["X-ClickHouse-Summary"])
        read = int(summary["read_rows"]), int(summary["read_bytes"])
        used_ms = (cpu_s(self._server) - used_s) * 1000 / times
        return Answer(question, tuple(took), used_ms, int(summary["result_rows"]), *read)


def main() -> int:
    """0; 1 when an answer was slow or there was none."""
    options = _options()
    console = Console(width=None if sys.stdout.isatty() else 160)
    with _directory(options.data_dir) as directory, _clickhouse(directory) as (server, settings):
        month = _loaded(settings, directory, int(options.rows))
        if options.load_only:
            return 0
        asked = [q for q in questions(month.end_s, month.rows) if re.search(options.only, f"{q.source} {q.what}")]
        with closing(Reader(server, settings)) as reader:
            answers = list(_watched(reader, asked))
    console.print(
        _table(answers, f"over {month.rows:,} inferences, median of {TIMES}, limit {LIMIT_MS:.0f} ms; {_about()}")
    )
    for answer in answers:
        if answer.error:
            console.print(f"{answer.question.source}, {answer.question.what}: {answer.error}", markup=False)
    bad = [answer for answer in answers if answer.verdict != "ok"]
    console.print(f"{len(answers) - len(bad)} of {len(answers)} ok")
    if options.json:
        options.json.write_bytes(orjson.dumps([_as_json(answer) for answer in answers], option=orjson.OPT_INDENT_2))
    if options.write_docs:
        _write_docs(answers, month.rows)
    return 1 if bad or not answers else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.performance.bench_queries", description=__doc__)
    parser.add_argument("--rows", type=float, default=1e8, help="inferences (default: 1e8; some 10 GB of disk)")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="keep the data there, and use what is there")
    parser.add_argument("--load-only", action="store_true", help="with --data-dir: load, ask nothing")
    parser.add_argument("--only", default="", metavar="REGEX", help="ask only these")
    parser.add_argument("--write-docs", action="store_true", help="put the figures of docs/queries.md there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    return parser.parse_args()


@contextmanager
def _directory(told: Path | None) -> Iterator[Path]:
    """The one told, or one that is removed afterwards."""
    if told is not None:
        told.mkdir(parents=True, exist_ok=True)
        yield told
        return
    made = Path(tempfile.mkdtemp(prefix="inferwatch-bench-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def _clickhouse(directory: Path) -> Iterator[tuple[EmbeddedClickHouse, Settings]]:
    """A migrated ClickHouse in the directory, and the settings that reach it; it ends with the block."""
    passwords: Passwords = kept_secrets(directory).passwords
    http_port, native_port = free_ports(2)
    settings = settings_for(load({}), "", f"http://127.0.0.1:{http_port}", passwords).model_copy(update=KEPT_SETTINGS)
    server = EmbeddedClickHouse(
        directory / "clickhouse",
        http_port,
        native_port=native_port,
        passwords=passwords,
        databases=[settings.clickhouse_database],
        memory_bytes=SERVER_MEMORY,
    )
    server.start()
    try:
        migrate(settings)
        yield server, settings
    finally:
        server.stop()


def _loaded(settings: Settings, directory: Path, rows: int) -> data.Month:
    """The month that is in the directory, else a new one of about `rows` inferences."""
    kept = directory / "month.json"
    with closing(connect(settings, "admin", send_receive_timeout=3600)) as client:
        if kept.exists():
            there = data.Month(**orjson.loads(kept.read_bytes()))
        else:
            there = data.month(rows, now_ms() // 1000 + rows // LOADED_A_S)
            _load(client, there)
            data.check(client, there)
            kept.write_bytes(orjson.dumps(there))
        wait_settled(client)
    return there


def _load(client: Client, month: data.Month) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task(f"loading {month.rows:,} inferences", total=1.0)
        for done in data.fill(client, month):
            progress.update(task, completed=done)


def _watched(reader: Reader, asked: Sequence[Question]) -> Iterator[Answer]:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("asking", total=len(asked))
        for question in asked:
            progress.update(task, description=f"{question.source}: {question.what}")
            yield reader.ask(question, TIMES)
            progress.advance(task)


def _table(answers: Sequence[Answer], title: str) -> Table:
    out = Table(title=title, title_justify="left")
    for name in ("asked by", "what", "range"):
        out.add_column(name)
    for name in ("ms", "worst", "CPU ms", "rows", "rows read", "MB read"):
        out.add_column(name, justify="right", no_wrap=True)
    out.add_column("")
    last = ""
    for answer in answers:
        asked = answer.question
        if last and asked.source != last:
            out.add_section()
        colour = {"ok": "green", "slow": "yellow", "error": "red"}[answer.verdict]
        out.add_row(
            asked.source if asked.source != last else "",
            asked.what,
            asked.range,
            f"{answer.median_ms:,.0f}",
            f"{max(answer.ms, default=float('nan')):,.0f}",
            f"{answer.cpu_ms:,.0f}",
            f"{answer.rows:,}",
            f"{answer.read_rows:,}",
            f"{answer.read_bytes / 1e6:,.1f}",
            f"[{colour}]{answer.verdict}[/]",
        )
        last = asked.source
    return out


def _write_docs(answers: Sequence[Answer], rows: int) -> None:
    """What the queries of docs/queries.md took, at its end."""
    document = ROOT / "docs" / "queries.md"
    kept = document.read_text(encoding="utf-8").partition("## Measured\n")[0]
    lines = [
        f"| {a.question.what} | {a.median_ms:,.0f} | {a.read_rows:,} | {a.read_bytes / 1e6:,.1f} |"
        for a in answers
        if a.question.source == "docs/queries.md"
    ]
    text = f"""## Measured

`make bench-queries ARGS=--write-docs`: over {rows:,} inferences of 30 days (400 devices, 20 models in two
versions, 30 classes) with their rollups, as the reader, median of {TIMES}, on {_about()}.

| query | ms | rows read | MB read |
|---|---|---|---|
"""
    document.write_text(kept + text + "\n".join(lines) + "\n", encoding="utf-8")


def _as_json(answer: Answer) -> dict[str, object]:
    asked = answer.question
    return {
        "source": asked.source,
        "what": asked.what,
        "range": asked.range,
        "sql": asked.sql,
        "median_ms": answer.median_ms,
        "worst_ms": max(answer.ms, default=None),
        "cpu_ms": answer.cpu_ms,
        "rows": answer.rows,
        "read_rows": answer.read_rows,
        "read_bytes": answer.read_bytes,
        "verdict": answer.verdict,
        "error": answer.error,
    }


def _about() -> str:
    return f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    sys.exit(main())
