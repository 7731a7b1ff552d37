"""What `make bench-queries` asks: SQL of dashboards, documents and the query API, searches for single inferences."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pipeline.core.asking import inferences
from pipeline.core.asking.inferences import Sort
from pipeline.core.asking.language import parse
from pipeline.core.asking.numbers import Stretch, select
from pipeline.core.asking.pieces import points
from pipeline.core.asking.series import SeriesAsked
from pipeline.core.asking.sql import Bound
from pipeline.web.query import models, overview
from schemas.rule import Metric
from tests.documents import all_documented
from tests.integration.grafana import All, Query, Value, expand, interval_ms, queries
from tests.performance.bench_queries_data import CLASSES, device_names

DAY_S = 86_400
RANGES_S = {"1 h": 3600, "6 h": 6 * 3600, "24 h": DAY_S, "7 d": 7 * DAY_S, "30 d": 30 * DAY_S}
# What is chosen in the dashboards' lists: the largest workspace, everything in it.
CHOSEN: dict[str, Value] = {
    "workspace": "acme",
    "model": "helmets",
    "version": All(("helmets/1", "helmets/2")),
    "device": All(device_names()),
    "class": All(CLASSES),
    "severity": All(("critical", "warning", "info")),
}


@dataclass(frozen=True, slots=True)
class Question:
    """One query. `source`: who asks; `range`: over which time; `workspace`: of the query API, asked as its user."""

    source: str
    what: str
    range: str
    sql: str
    workspace: str = ""
    parameters: Mapping[str, str | float | int] = field(default_factory=dict)


def questions(end_s: int, rows: int) -> Iterator[Question]:
    """All of them, about a month of so many inferences that ends at `end_s`."""
    yield from _dashboards(end_s)
    yield from searches(end_s, rows)
    yield from _api(end_s)
    for query in all_documented():
        sql = query.as_of(end_s).replace("'default'", "'acme'").replace("'order-4711'", f"'{_order(rows)}'")
        yield Question(query.document, query.title, "", sql)


def _dashboards(end_s: int) -> Iterator[Question]:
    for query in queries():
        timed = query.kind in ("panel", "annotation") and "$__" in query.sql
        for name, length_s in RANGES_S.items() if timed else (("", 3600),):
            what = query.panel if query.kind == "panel" else f"{query.kind} {query.panel}"
            yield Question(query.dashboard, what, name, _sent(query, end_s, length_s))


def _sent(query: Query, end_s: int, length_s: int) -> str:
    """What Grafana sends when the range ends with the data."""
    since_ms, until_ms = (end_s - length_s) * 1000, end_s * 1000
    step_ms = interval_ms(since_ms, until_ms, query.min_interval_ms, query.max_data_points)
    return expand(query.sql, since_ms, until_ms, step_ms, CHOSEN)


def searches(end_s: int, rows: int) -> Iterator[Question]:
    """Single inferences, in a month of them."""
    helmets = "model_id = 'helmets/2'"
    gloves = "has(`detections.class`, 'gloves')"
    id_and_time = "event_id, event_time, model_id"
    for what, over_s, columns, source, where in (
        ("by event_id", 0, "*", "inferences", "event_id = 'first-1'"),
        ("by event_id, with metadata", 0, "*", "inference_details", "event_id = 'first-1'"),
        ("by an event_id that is not there", 0, "*", "inference_details", "event_id = 'nowhere'"),
        ("newest of all", DAY_S, "*", "inferences", "1"),
        ("newest of a workspace", DAY_S, "*", "inferences", "workspace = 'acme'"),
        ("newest of a model", DAY_S, "*", "inferences", f"workspace = 'acme' AND {helmets}"),
        ("newest of a device", DAY_S, "*", "inferences", "workspace = 'acme' AND device_id = 'cam-003'"),
        ("newest of a device", 7 * DAY_S, "*", "inferences", "workspace = 'acme' AND device_id = 'cam-003'"),
        ("newest of a workspace, with metadata", 3600, "*", "inference_details", "workspace = 'acme'"),
        ("newest of a model, with metadata", 3600, "*", "inference_details", f"workspace = 'acme' AND {helmets}"),
        ("newest errors", DAY_S, id_and_time, "inferences", "workspace = 'acme' AND error != ''"),
        ("a class that came 50 times", 30 * DAY_S, id_and_time, "inferences", "has(`detections.class`, 'intruder')"),
        ("a class of a model", DAY_S, "*", "inferences", f"workspace = 'acme' AND {helmets} AND {gloves}"),
        ("a class of a model", 7 * DAY_S, "*", "inferences", f"workspace = 'acme' AND {helmets} AND {gloves}"),
        ("a class", DAY_S, "*", "inferences", f"workspace = 'acme' AND {gloves}"),
        ("a metadata value that came 20 times", 30 * DAY_S, "*", "inferences", f"metadata['order'] = '{_order(rows)}'"),
        ("a metadata value of many", DAY_S, "*", "inferences", "workspace = 'acme' AND metadata['site'] = 'site-7'"),
    ):
        since = f"AND event_time >= toDateTime({end_s - over_s}, 'UTC') ORDER BY event_time DESC LIMIT 100"
        over = f"{over_s // DAY_S} d" if over_s >= DAY_S else f"{over_s // 3600} h" if over_s else ""
        sql = f"SELECT {columns} FROM {source} WHERE {where} {since if over_s else ''}"
        yield Question("single inferences", what, over, sql)


def _api(end_s: int) -> Iterator[Question]:
    """What GET /v1/acme/overview, models, classes, series and inferences ask; an overview asks the time before, too."""
    kept = {10: 7, 60: 90, DAY_S // 24: 730, DAY_S: None}
    end_ms = end_s * 1000

    def asked(what: str, over: str, text: str, bound: Bound) -> Question:
        return Question("query API", what, over, text, "acme", bound.parameters)

    for over, length_s in RANGES_S.items():
        stretch = Stretch(end_ms - length_s * 1000, end_ms, end_ms, kept)
        for text in ("", "model:helmets"):
            named = f" of {text}" if text else ""
            bound = Bound()
            headline = select(parse(text), stretch, (*overview.COUNTS, *overview.MEANS), bound, {})
            yield asked(f"headline{named}", over, headline, bound)
            bound = Bound()
            told = select(parse(text), stretch, models.NUMBERS, bound, {"model": "model_id"})
            yield asked(f"models{named}", over, told, bound)
            bound = Bound()
            classes = select(parse(text), stretch, models.CLASS_NUMBERS, bound, {"class": "class"})
            yield asked(f"classes{named}", over, classes, bound)
        step_s, piece = points(end_s - length_s, end_s, 120, end_s, kept)
        line = SeriesAsked(Metric.LATENCY_P95_MS, parse(""), piece, step_s, "model").question()
        yield Question("query API", "series of latency_p95_ms by model", over, line.text, "acme", line.parameters)
        for text in ("", "model:helmets", "device:cam-003", "has:error", "class:gloves confidence:<0.4"):
            # The newest hour is looked at first: most often it fills the page.
            page = inferences.page(parse(text), (end_ms - length_s * 1000, end_ms), Sort.NEWEST, None, 51)
            total = inferences.total(parse(text), (end_ms - length_s * 1000, end_ms))
            yield Question("query API", f"inferences {text}", over, page.text, "acme", page.parameters)
            yield Question("query API", f"inferences/total {text}", over, total.text, "acme", total.parameters)


def _order(rows: int) -> str:
    """A value of `order` in the metadata of 20 inferences, in the middle of the month."""
    return f"order-{rows // 40}"
