"""The rules of the house that no linter knows: names, sizes, docstrings, and what must not be in the tree."""

import ast
import os
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest

from tests.tree import ROOT, tracked_files

SOURCE = ("schemas", "pipeline", "agents")
MODULE_LINES_MAX = 300
FUNCTION_LINES_MAX = 50
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "handler", "base", "processor"}

# What is longer, and how long at most. To shrink, never to grow.
LONG_MODULES: dict[str, int] = {}
LONG_FUNCTIONS: dict[str, int] = {
    "tests/integration/test_alerting_faults.py "
    "test_notifiers_killed_and_frozen_while_they_deliver_lose_nothing_and_repeat_with_the_same_key": 56,
}

# Where everything is caught and yet not raised on the spot, and where it goes instead.
CATCH_ALL = {
    "agents/app.py": "to the caller, through a future",
    "pipeline/core/isolation.py": "to an alert: what one key raises ends the judging of that key, not the worker",
    "pipeline/edge/kafka/group/partitions.py": "to the whole worker, which ends with it",
    "pipeline/edge/notification/delivery.py": "an outcome of one message: it is said, given up, and the rest goes on",
}

# Who may say SQL: the store, what people ask, and Grafana. Elsewhere a question is a function with typed rows.
SQL = re.compile(r"\b(SELECT|INSERT INTO|(ALTER|CREATE|DROP|RENAME|TRUNCATE) (TABLE|VIEW|DATABASE|USER|ROW POLICY))\b")
SQL_ROOMS = ("pipeline/edge/store/", "pipeline/core/asking/", "deploy/grafana/")
SQL_ELSEWHERE = {
    "pipeline/edge/spool.py": "SQLite: what waits on this disk",
    "agents/recorder.py": "until it asks edge/store",
    "pipeline/edge/local/clickhouse.py": "the rights of the embedded server's users",
    "pipeline/edge/local/clickhouse_server.py": "what the embedded server's launcher waits by",
}

# Addresses of package registries, options that name one, and paths of somebody's machine. Our own tree must work
# with whatever index and directory its user has. Split so that this file does not contain them.
FOREIGN = re.compile(
    "|".join(["pypi" + r"\.org", "python" + "hosted", "extra-" + "index", "index-" + "url", "trusted-" + "host"])
    + r"|repo1?\.ma"
    + r"ven|artifac"
    + r"tory|(?<![\w.}])/(?:ro"
    + r"ot|wo"
    + r"rk|home/[a-z]\w*|Users)/"
)


FILES = tracked_files()
MODULES = [path for path in FILES if path.suffix == ".py"]
SOURCE_MODULES = [path for path in MODULES if path.relative_to(ROOT).parts[0] in SOURCE]


def test_what_lies_about_in_the_checkout_is_not_ours(tmp_path: Path) -> None:
    def lay(name: str, content: bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    ours = [lay("README.md", b"ours"), lay("pipeline/alerts.py", b"ours")]
    lay("inferwatch-data/kafka/data/0.log", b"\xff\xfe of a demo")
    assert tracked_files(tmp_path) == ours  # no checkout
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "README.md", "pipeline"], cwd=tmp_path, check=True)
    lay("notes.txt", b"\xff nobody's")
    assert tracked_files(tmp_path) == ours


def test_the_data_of_a_demo_are_ignored() -> None:
    assert "/inferwatch-data/" in (ROOT / ".gitignore").read_text().splitlines()


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_a_modules_name_says_what_it_holds() -> None:
    words = {name(path): set(path.stem.split("_")) | set(path.relative_to(ROOT).parts[:-1]) for path in MODULES}
    assert {path: found & BANNED_NAMES for path, found in words.items() if found & BANNED_NAMES} == {}


def test_every_module_says_what_it_is_for() -> None:
    silent = [name(p) for p in MODULES if (module := parsed(p)).body and not ast.get_docstring(module)]
    assert silent == []


def test_every_public_name_of_the_source_says_what_it_is() -> None:
    silent = [
        f"{name(path)}:{node.lineno} {node.name}"
        for path in SOURCE_MODULES
        for node in parsed(path).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert silent == []


def test_a_class_name_means_one_thing() -> None:
    places: dict[str, set[str]] = {}
    for path in SOURCE_MODULES:
        for node in parsed(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, set()).add(name(path))
    assert {known: found for known, found in places.items() if len(found) > 1} == {}


def too_long(lengths: dict[str, int], length_max: int, known: dict[str, int]) -> dict[str, int]:
    """What is too long, or listed as such without need."""
    beyond = {name: length for name, length in lengths.items() if length > known.get(name, length_max)}
    return beyond | {name: lengths.get(name, 0) for name in known if lengths.get(name, 0) <= length_max}


def test_a_module_can_be_read_in_one_sitting() -> None:
    lengths = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCE_MODULES}
    assert too_long(lengths, MODULE_LINES_MAX, LONG_MODULES) == {}


def test_a_function_can_be_seen_at_once() -> None:
    lengths = {
        f"{name(path)} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in MODULES
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert too_long(lengths, FUNCTION_LINES_MAX, LONG_FUNCTIONS) == {}


def test_no_error_is_swallowed_unseen() -> None:
    """Whoever catches everything must raise again: a worker that meets an error it does not know ends itself."""
    found = {
        name(path)
        for path in SOURCE_MODULES
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or re.search(r"\b(Base)?Exception\b", ast.unparse(node.type)))
        and not any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
    }
    assert found == CATCH_ALL.keys()


def test_only_the_store_says_sql() -> None:
    found = {
        name(path)
        for path in SOURCE_MODULES
        if not name(path).startswith(SQL_ROOMS)
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.search(node.value)
    }
    assert found - SQL_ELSEWHERE.keys() == set()


def test_only_the_command_line_runs_a_loop() -> None:
    """Everything below is asynchronous, so that a request can call it."""
    found = {
        name(path)
        for path in SOURCE_MODULES
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Attribute)
        and (node.attr == "run_until_complete" or ast.unparse(node) in ("asyncio.run", "asyncio.Runner"))
    }
    assert found == {"pipeline/cli/running.py"}


def test_a_test_waits_for_a_condition_and_not_just_some_time() -> None:
    loops = ast.While | ast.For | ast.AsyncFor
    found = []
    for path in MODULES:
        if path.relative_to(ROOT).parts[0] != "tests" or "performance" in path.parts:  # time is what benchmarks measure
            continue
        module = parsed(path)
        in_loops = {id(inner) for loop in ast.walk(module) if isinstance(loop, loops) for inner in ast.walk(loop)}
        found += [
            f"{name(path)}:{call.lineno}"
            for call in ast.walk(module)
            if isinstance(call, ast.Call)
            and ast.unparse(call.func) in ("time.sleep", "asyncio.sleep", "sleep")
            and ast.unparse(call) != "asyncio.sleep(0)"
            and id(call) not in in_loops
        ]
    assert found == []


def test_what_needs_an_engine_is_marked_and_stands_in_the_integration_folder() -> None:
    folder = ROOT / "tests" / "integration"
    mark = "pytest.mark." + "integration"
    tests = [path for path in MODULES if path.name.startswith("test_")]
    marked = {path for path in tests if mark in path.read_text(encoding="utf-8")}
    assert marked == {path for path in tests if path.is_relative_to(folder)}


def test_no_registry_and_no_machine_is_named_anywhere() -> None:
    found = [
        f"{name(path)}:{number} {line.strip()[:100]}"
        for path in FILES
        if path.suffix not in (".png", ".jpg", ".gif", ".jar", ".zip", ".npz", ".parquet")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if FOREIGN.search(line)
    ]
    assert found == []


def test_every_dependency_is_pinned_in_the_constraints() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9._+!-]+", line)] == []
    pinned = {normal(line.split("==")[0]) for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [r for extra in project["optional-dependencies"].values() for r in extra]
    names = {normal(re.split(r"[^A-Za-z0-9._-]", requirement)[0]) for requirement in wanted}
    assert names - pinned - {"inferwatch"} == set()


def normal(package: str) -> str:
    """A package's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", package).lower()


@pytest.mark.parametrize("script", [".ci/run"])
def test_a_script_can_be_run(script: str) -> None:
    path = ROOT / script
    assert os.access(path, os.X_OK)
    assert "set -euo pipefail" in path.read_text()
