"""The query API on the real engines: what is answered, and what can never be."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.config import Settings
from pipeline.core.asking.question import Question
from pipeline.edge.store import tenancy
from pipeline.edge.store.client import ClickHouseRefused
from pipeline.edge.store.questions import Questions
from schemas.access import Scope
from tests.integration.http_side import http_side, new_key
from tests.integration.outside import ask, connect

pytestmark = pytest.mark.integration

WINDOW = "toDateTime(intDiv(toUnixTimestamp(now()), 86400) * 86400 - 3600, 'UTC')"


def two_workspaces(settings: Settings) -> None:
    """The same rows for acme and for rival, in every table that knows workspaces."""
    with closing(connect(settings, "admin")) as admin:
        for workspace in ("acme", "rival"):
            admin.command(
                "INSERT INTO model_windows_in (workspace, model_id, device_id, window_start, inference_count) "
                f"SELECT '{workspace}', 'helmets/' || toString(number), 'cam-7', {WINDOW}, 5 FROM numbers(3)"
            )
            for table, time in (
                ("inferences", "event_time"),
                ("inference_metadata", "kafka_time"),
                ("device_heartbeats", "kafka_time"),
                ("alerts", "at"),
            ):
                admin.command(f"INSERT INTO {table} (workspace, {time}) SELECT '{workspace}', now() FROM numbers(3)")
            admin.command(
                "INSERT INTO class_windows_in (workspace, model_id, class, window_start, detection_count) "
                f"SELECT '{workspace}', 'helmets/0', 'person', {WINDOW}, 5"
            )
            said = f"""('{{"workspace":"{workspace}"}}', now()), ('{{', now())"""
            admin.command(f"INSERT INTO dead_letters (value, kafka_time) VALUES {said}")


async def _asked(settings: Settings, workspace: str, *texts: str) -> list[list[tuple[object, ...]]]:
    questions = Questions(settings)
    try:
        return [await questions.of(workspace).ask(Question(text)) for text in texts]
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
        assert [model["model_id"] for model in said.json["items"]] == ["helmets/0", "helmets/1", "helmets/2"]
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
