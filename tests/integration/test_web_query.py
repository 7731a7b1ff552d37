"""The query API on the real engines: what is answered, and what can never be."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import Settings
from pipeline.core.asking import inferences
from pipeline.core.asking.inferences import After, Sort
from pipeline.core.asking.language import FIELDS, PRESENCES, Filter, Range, Term, Value, ValueKind
from pipeline.core.asking.numbers import KEYS, NUMBERS, Stretch, select
from pipeline.core.asking.pieces import points
from pipeline.core.asking.question import Question
from pipeline.core.asking.series import SeriesAsked
from pipeline.core.asking.sql import Bound
from pipeline.edge.clock import now_ms
from pipeline.edge.store import tenancy
from pipeline.edge.store.client import ClickHouseRefused
from pipeline.edge.store.questions import Questions, TooManyError, TooMuchError
from schemas.access import Scope
from schemas.rule import Metric
from tests.integration.http_side import http_side, new_key
from tests.integration.outside import ask, connect
from tests.integration.seeding import insert

pytestmark = pytest.mark.integration

WINDOW = "toDateTime(intDiv(toUnixTimestamp(now()), 86400) * 86400 - 3600, 'UTC')"


def two_workspaces(settings: Settings) -> None:
    """The same rows for acme and for rival, in every table that knows workspaces."""
    with closing(connect(settings, "admin")) as admin:
        bound = ask(
            admin,
            "SELECT table, groupArrayIf(name, type LIKE 'DateTime%' AND default_kind = '') FROM system.columns "
            "WHERE database = currentDatabase() AND table IN (SELECT name FROM system.tables WHERE database = "
            "currentDatabase() AND engine LIKE '%MergeTree') GROUP BY table HAVING countIf(name = 'workspace') > 0",
        )
        for workspace in ("acme", "rival"):
            admin.command(
                "INSERT INTO model_windows_in (workspace, model_id, device_id, window_start, inference_count) "
                f"SELECT '{workspace}', 'helmets/' || toString(number), 'cam-7', {WINDOW}, 5 FROM numbers(3)"
            )
            for table, times in bound:
                columns, values = (
                    ", ".join(["workspace", *times]),
                    ", ".join([f"'{workspace}'", *["now()"] * len(times)]),
                )
                admin.command(f"INSERT INTO {table} ({columns}) SELECT {values} FROM numbers(3)")
            said = f"""('{{"workspace":"{workspace}"}}', now()), ('{{', now())"""
            admin.command(f"INSERT INTO dead_letters (value, kafka_time) VALUES {said}")


async def _asked(
    settings: Settings, workspace: str, *texts: str, seconds_max: int = 10
) -> list[list[tuple[object, ...]]]:
    questions = Questions(settings)
    try:
        return [await questions.of(workspace).ask(Question(text, seconds_max=seconds_max)) for text in texts]
    finally:
        await questions.close()


def _columns(settings: Settings) -> Iterator[tuple[str, str, bool]]:
    """Every table and view: its name, engine, and whether it knows workspaces."""
    with closing(connect(settings, "admin")) as admin:
        yield from ask(
            admin,
            "SELECT t.name, t.engine, countIf(c.name = 'workspace') > 0 FROM system.tables AS t "
            "LEFT JOIN system.columns AS c ON c.database = t.database AND c.table = t.name "
            "WHERE t.database = currentDatabase() GROUP BY 1, 2",
        )


def test_another_workspaces_rows_cannot_be_read_by_any_sql(world: Settings) -> None:
    two_workspaces(world)
    bare = [name for name in tenancy.readable() if not name.endswith(("_range", "_rollup"))]
    with_workspace = [name for name, _, knows in _columns(world) if knows and name in bare]
    assert len(with_workspace) > 25
    texts = [f"SELECT DISTINCT workspace FROM (SELECT * FROM {name})" for name in with_workspace]
    empty = {name for name in with_workspace if name.endswith("_in")}  # they keep nothing
    for name, rows in zip(with_workspace, asyncio.run(_asked(world, "acme", *texts)), strict=True):
        assert rows == ([] if name in empty else [("acme",)]), name
    ranged = (
        "SELECT count() FROM model_range(since = now() - 999999, until = now(), step_s = 60) WHERE workspace != 'acme'"
    )
    letters = "SELECT value FROM dead_letters"
    assert asyncio.run(_asked(world, "acme", ranged, letters)) == [[(0,)], [('{"workspace":"acme"}',)]]
    assert asyncio.run(_asked(world, "nobody", *texts)) == [[] for _ in texts]
    assert asyncio.run(_asked(world, "", *texts)) == [[] for _ in texts]
    assert asyncio.run(_asked(world, "*", *texts, letters))[:-1] == [[] for _ in texts]
    for forbidden in ("model_windows_mv", "table_parts", "kafka_logs", "schema_migrations"):
        with pytest.raises(ClickHouseRefused, match="privileges"):
            asyncio.run(_asked(world, "acme", f"SELECT * FROM {forbidden}"))


def test_every_table_that_knows_workspaces_is_bound_and_hides_nothing_from_others(world: Settings) -> None:
    two_workspaces(world)
    kept = {name for name, engine, knows in _columns(world) if knows and "View" not in engine}
    assert kept == {name for name, condition in tenancy.policies().items() if condition.startswith("workspace =")}
    for role in ("admin", "writer", "reader"):
        with closing(connect(world, role)) as client:
            for name in sorted(kept - {"model_windows_in", "class_windows_in"}):
                assert ask(client, f"SELECT uniqExact(workspace) FROM {name}") == [(2,)], (role, name)
            assert ask(client, "SELECT count() FROM dead_letters") == [(4,)]


def test_the_models_are_those_of_the_workspace_in_the_address(world: Settings, tmp_path: Path) -> None:
    two_workspaces(world)
    _, key = new_key(world, [Scope.QUERY])
    with http_side(world, tmp_path) as web:
        said = web.ask("GET", "/v1/acme/models", key=key)
        assert said.status == 200, said.body
        assert sorted(model["model_id"] for model in said.json["items"]) == ["", "helmets/0", "helmets/1", "helmets/2"]
        assert web.ask("GET", "/v1/rival/models", key=key).status == 403
        assert web.ask("GET", "/v1/acme/models", key=None).status == 401
        assert web.ask("GET", "/v1/openapi.json", key=None).status == 401
        assert web.ask("GET", "/v1/openapi.json", key=key).json["openapi"] == "3.1.0"
        for status, reason, refused in (
            (404, "not_found", web.ask("GET", "/v1/acme/nothing", key=key)),
            (405, "method_not_allowed", web.ask("DELETE", "/v1/acme/models", key=key)),
            (400, "unknown_parameter", web.ask("GET", "/v1/acme/models?modle=x", key=key)),
        ):
            assert (refused.status, refused.json["reason"]) == (status, reason)
            assert refused.json.keys() == {"reason", "message"}


def test_a_name_is_itself_whatever_it_holds(world: Settings) -> None:
    names = [
        "a\tb",
        "a\\tb",
        "a'b\n",
        "é*",
        "%41",
        "a\\",
        "\\N",
        "a b&c=d",
        "{workspace:String}",
        "a\x00b",
        '"',
        "x" * 256,
    ]
    with closing(connect(world, "admin")) as admin:
        insert(admin, "inferences", [{"workspace": n, "device_id": n, "event_time": now_ms() / 1000} for n in names])

    async def found(name: str) -> int:
        questions = Questions(world)
        asked = Filter((Term("device", (Value(name),)),))
        try:
            ((count,),) = await questions.of(name).ask(inferences.total(asked, (0, 2 * now_ms())))
            return int(count)
        finally:
            await questions.close()

    assert [name for name in names if asyncio.run(found(name)) != 1] == []


TEXTS = st.sampled_from(["person", "cam-*", "helmets/1", "helmets", "", "a'b", "100%", "\\", "é*"])
NUMBERS_ASKED = st.sampled_from([Range(0.5, 0.5), Range(high=0.2, high_in=False), Range(low=1), Range(0, 1e17)])


def _terms() -> st.SearchStrategy[Term]:
    def term(name: str, kind: ValueKind) -> st.SearchStrategy[Term]:
        if kind is ValueKind.PRESENCE:
            return st.builds(Term, st.sampled_from(PRESENCES), key=st.just("site"), negated=st.booleans())
        bounds: st.SearchStrategy[Any] = st.lists(NUMBERS_ASKED, min_size=1, max_size=2)
        words: st.SearchStrategy[Any] = st.lists(
            TEXTS.map(lambda text: Value(text, "*" in text)), min_size=1, max_size=3
        )
        values = {ValueKind.TEXT: [words], ValueKind.NUMBER: [bounds]}.get(kind, [words, bounds])
        return st.builds(Term, st.just(name), st.one_of(values).map(tuple), st.just("site"), st.booleans())

    return st.one_of([term(name, kind) for name, (kind, _) in FIELDS.items()])


def test_every_filter_makes_questions_that_run(world: Settings) -> None:
    kept = {10: 7, 60: 90, 3600: 730, 86_400: None}
    now = now_ms()

    async def run() -> int:
        questions = Questions(world)
        asked: list[Question] = []

        @settings(max_examples=60, database=None, derandomize=True, deadline=None)
        @given(st.lists(_terms(), max_size=4).map(lambda terms: Filter(tuple(terms))), st.sampled_from(["", *KEYS]))
        def draw(drawn: Filter, by: str) -> None:
            bound, over = Bound(), Stretch(now - 90_000_000, now, now, kept)
            keys = {"key": KEYS[by]} if by else {}
            asked.append(Question(select(drawn, over, list(NUMBERS), bound, keys), bound.parameters))
            asked.append(inferences.page(drawn, (0, now), Sort.LEAST_SURE, After(1, 2, 3), 5))
            metric = list(Metric)[len(asked) % len(Metric)]
            asked.append(
                SeriesAsked(
                    metric, drawn, points(now // 1000 - 9000, now // 1000, 9, now // 1000, kept)[1], 1800, by
                ).question()
            )

        try:
            draw()
            for question in asked:
                await questions.of("acme").ask(question)
        finally:
            await questions.close()
        return len(asked)

    assert asyncio.run(run()) > 100


def test_a_question_ends_when_its_client_goes_away(world: Settings) -> None:
    slow = Question("SELECT sum(sleepEachRow(0.1)) FROM numbers(300) SETTINGS max_block_size = 1", seconds_max=60)

    def running() -> int:
        with closing(connect(world, "admin")) as admin:
            ((count,),) = ask(
                admin, "SELECT count() FROM system.processes WHERE query LIKE '%sleepEachRow%' AND user != 'admin'"
            )
            return int(count)

    async def leave() -> None:
        questions = Questions(world, at_once=1, wait_s=0.2)
        try:
            asking = asyncio.ensure_future(questions.of("acme").ask(slow))
            await eventually_async(lambda: running() == 1)
            with pytest.raises(TooManyError):  # no second one at a time
                await questions.of("acme").ask(Question("SELECT 1"))
            asking.cancel()
            await asyncio.wait({asking})
            assert await questions.of("acme").ask(Question("SELECT 1")) == [(1,)]
            await eventually_async(lambda: running() == 0)
        finally:
            await questions.close()

    asyncio.run(leave())


async def eventually_async(holds: Callable[[], bool]) -> None:
    """Within seconds: long before its own limits end a question."""
    async with asyncio.timeout(4):
        while not await asyncio.to_thread(holds):
            await asyncio.sleep(0.1)


def test_a_question_has_limits(world: Settings) -> None:
    for text in (
        "SELECT number FROM numbers(20000)",
        "SELECT groupArray(number) FROM numbers(300000000)",
        "SELECT sum(sleepEachRow(0.5)) FROM numbers(30) SETTINGS max_block_size = 1",
    ):
        with pytest.raises(TooMuchError):
            asyncio.run(_asked(world, "acme", text, seconds_max=1))
