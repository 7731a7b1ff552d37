"""inferwatch rules on a real broker: applied from a file, listed, changed, deleted."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli import rules as verb
from pipeline.config import Settings, to_environ
from pipeline.edge.kafka import compacted as rules
from pipeline.edge.operator.rule_file import RuleFileError
from schemas.rejection import Rejected
from schemas.topics import RULES
from tests.alerting import rule

pytestmark = pytest.mark.integration

Command = Callable[..., tuple[int, str]]

TWO = """
- {rule_id: a, workspace: acme, metric: confidence_mean, operator: "<", threshold: 0.6, recipients: ["pagerduty:K3Y"]}
- {rule_id: b, workspace: acme, metric: silence_s, operator: ">", threshold: 120, model_id: helmets/3, enabled: false}
"""


@pytest.fixture
def command(world: Settings, monkeypatch: pytest.MonkeyPatch) -> Command:
    for name, value in to_environ(world).items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(verb.app, arguments)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(TWO)
    return path


def test_rules_are_applied_listed_changed_and_deleted(world: Settings, command: Command, file: Path) -> None:
    assert command("list") == (0, "No rules.\n")
    assert command("apply", str(file), "--dry-run") == (0, "a: would be created\nb: would be created\n")
    assert command("list") == (0, "No rules.\n")
    assert command("apply", str(file)) == (0, "a: created\nb: created\n")
    assert command("apply", str(file)) == (0, "a: unchanged\nb: unchanged\n")
    file.write_text(TWO.replace("0.6", "0.7"))
    code, out = command("apply", str(file), "--json")
    assert (code, json.loads(out)) == (0, {"dry_run": False, "rules": {"a": "changed", "b": "unchanged"}})
    code, out = command("list", "--json")
    assert [(r["rule_id"], r["threshold"], r["enabled"]) for r in json.loads(out)] == [
        ("a", 0.7, True),
        ("b", 120.0, False),
    ]
    code, out = command("list")
    assert "switched off" in out
    assert "K3Y" not in out
    assert command("delete", "a", "none") == (1, "a: deleted\nnone: there is no such rule\n")
    assert list(asyncio.run(rules.read_rules(world))) == ["b"]
    assert json.loads(command("list", "--json", "--workspace", "other")[1]) == []


def test_a_rule_of_another_workspace_is_not_overwritten(world: Settings, command: Command, file: Path) -> None:
    asyncio.run(rules.put_rules(world, [rule(rule_id="b", workspace="other")]))
    with pytest.raises(RuleFileError, match="rule_id b belongs to the workspace other"):
        command("apply", str(file))
    assert list(asyncio.run(rules.read_rules(world))) == ["b"]


def test_what_is_no_rule_does_not_hide_the_others(world: Settings, command: Command) -> None:
    topic = world.topic(RULES.name)
    asyncio.run(rules.write_compacted(world, topic, {b"x": b"{", b"y": b'{"rule_id": "y"}'}))
    asyncio.run(rules.put_rules(world, [rule()]))
    found = asyncio.run(rules.read_rules(world))
    assert {key: isinstance(one, Rejected) for key, one in found.items()} == {"r": False, "x": True, "y": True}
    code, out = command("list", "--json")
    assert code == 0
    assert "y: not a rule: missing_field" in out
    command("delete", "x", "y")
    assert list(asyncio.run(rules.read_rules(world))) == ["r"]
