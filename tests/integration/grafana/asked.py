"""A Grafana over a seeded database: a panel's query over the last so many seconds, as it is asked and answered."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass

from clickhouse_connect.driver.client import Client

from pipeline.edge.clock import now_ms
from tests.integration.engines import Engines, world_settings
from tests.integration.grafana.dashboards import Query, queries
from tests.integration.grafana.macros import All, Value, expand, interval_ms
from tests.integration.grafana.seeded import DEVICES, MODELS, NAMES, WORKSPACE, Row, Seeded
from tests.integration.outside import connect, ensure_users, migrate

QUERIES = queries()
EVERYTHING: dict[str, Value] = {
    "workspace": WORKSPACE, "model": "it's", "version": All(MODELS), "device": All(DEVICES), "class": All(NAMES),
    "severity": All(("critical", "warning", "info")),
}  # fmt: skip


def panel(dashboard: str, title: str) -> Query:
    """The one query of a panel or a rule."""
    [found] = [q for q in QUERIES if (q.dashboard, q.panel) == (dashboard, title)]
    return found


@dataclass(frozen=True)
class Grafana:
    """A reader of the seeded database, and what was seeded."""

    reader: Client
    seeded: Seeded
    rows_there: Mapping[str, int]  # by table

    def ask(self, query: Query, length_s: int, chosen: Mapping[str, Value] = EVERYTHING) -> tuple[list[Row], int]:
        """The rows of a query over the last `length_s`, and how many were read for them."""
        result = self.reader.query(self.expanded(query, length_s, chosen))
        return list(result.named_results()), int(result.summary["read_rows"])

    def expanded(self, query: Query, length_s: int, chosen: Mapping[str, Value] = EVERYTHING) -> str:
        """What ClickHouse is sent."""
        until_ms = self.seeded.now_s * 1000
        since_ms = until_ms - (query.range_ms or length_s * 1000)
        step_ms = interval_ms(since_ms, until_ms, query.min_interval_ms, query.max_data_points)
        return expand(query.sql, since_ms, until_ms, step_ms, chosen)


@contextmanager
def opened(engines: Engines, seed: Callable[[Client, int], Seeded]) -> Iterator[Grafana]:
    """Over a database of its own, gone afterwards."""
    engines.revive()
    settings = world_settings(engines)
    migrate(settings)
    if engines.users_by_sql:
        ensure_users(settings)
    with closing(connect(settings, "admin")) as admin, closing(connect(settings, "reader")) as reader:
        seeded = seed(admin, now_ms() // 1000)
        there = admin.query("SELECT table, rows FROM table_parts").result_rows
        yield Grafana(reader, seeded, {str(table): int(rows) for table, rows in there})
        admin.command(f"DROP DATABASE {settings.clickhouse_database}")
