"""The list of verbs is there at once, and says what the verbs say of themselves."""

import subprocess
import sys
from importlib import import_module
from typing import Any

import pytest
import typer

import agents.main  # noqa: F401 -- puts the verb `worker` into the app
from pipeline.cli.app import EXIT_CODES, VERBS, app, exit_code

HEAVY = (
    "aiohttp", "aiokafka", "apprise", "clickhouse_connect", "cramjam", "faust", "matplotlib", "msgspec", "numpy",
    "orjson", "pipeline.config", "pipeline.core", "pipeline.edge", "pipeline.trial", "prometheus_client", "pyarrow",
    "pydantic", "rich.live", "rich.progress", "schemas.alert", "schemas.event", "sklearn", "structlog", "yaml",
)  # fmt: skip


def loaded(*arguments: str) -> set[str]:
    """Which of the heavy modules a call of the command imports."""
    code = (
        f"import sys; sys.argv = ['inferwatch', *{arguments!r}]; import atexit\n"
        f"atexit.register(lambda: print('loaded', *[name for name in {HEAVY!r} if name in sys.modules]))\n"
        "from agents.main import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "Usage: inferwatch" in done.stdout, done.stderr
    return set(done.stdout.rpartition("loaded")[2].split())


def test_the_list_of_verbs_imports_nothing_that_only_a_verb_needs() -> None:
    assert loaded("--help") == set()


def test_the_help_of_a_verb_imports_what_the_verb_needs() -> None:
    assert {"aiokafka", "pydantic"} <= loaded("topics", "--help")


@pytest.mark.parametrize("name", VERBS)
def test_the_list_says_of_a_verb_what_it_says_of_itself(name: str) -> None:
    group: Any = typer.main.get_command(app)
    first, *_ = group.commands[name].load().help.split("\n\n")
    assert VERBS[name].help == " ".join(first.split())


def test_every_error_with_an_exit_code_exists() -> None:
    for name, code in EXIT_CODES.items():
        module, _, kind = name.rpartition(".")
        error = getattr(import_module(module), kind)("why")
        assert exit_code(error) == code, name


def test_an_error_that_nobody_has_thought_of_has_no_exit_code() -> None:
    assert exit_code(KeyError("x")) is None


def options(command: Any, name: str = "") -> dict[str, set[str]]:
    """The options of every verb, by its whole name."""
    command = command.load() if hasattr(command, "load") else command
    if hasattr(command, "commands"):
        return {k: v for sub, inner in command.commands.items() for k, v in options(inner, f"{name} {sub}").items()}
    return {name.strip(): {option for parameter in command.params for option in parameter.opts}}


def test_every_verb_that_asks_kafka_or_clickhouse_can_be_told_the_directory_of_an_up() -> None:
    without = {name for name, there in options(typer.main.get_command(app)).items() if "--data-dir" not in there}
    assert without == {"settings"}
