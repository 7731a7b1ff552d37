"""inferwatch rules on a real broker: applied from a file, listed, changed, deleted."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from pipeline.cli import rules as verb
from pipeline.config import Settings, to_environ
from pipeline.edge.kafka import compacted as rules
from pipeline.edge.operator.rule_file import RuleFileError
from schemas.rejection import Rejected
from schemas.topics import RULES
from tests.alerting import rule
from tests.integration.outside import kafka_says
from tests.integration.receivers import post_office, receiver
from tests.integration.test_alerting_faults import in_background

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
    assert list(kafka_says(world, rules.read_rules)) == ["b"]
    assert json.loads(command("list", "--json", "--workspace", "other")[1]) == []


def test_a_rule_of_another_workspace_is_not_overwritten(world: Settings, command: Command, file: Path) -> None:
    asyncio.run(rules.put_rules(world, [rule(rule_id="b", workspace="other")]))
    with pytest.raises(RuleFileError, match="rule_id b belongs to the workspace other"):
        command("apply", str(file))
    assert list(kafka_says(world, rules.read_rules)) == ["b"]


def test_what_is_no_rule_does_not_hide_the_others(world: Settings, command: Command) -> None:
    topic = world.topic(RULES.name)
    asyncio.run(rules.write_compacted(world, topic, {b"x": b"{", b"y": b'{"rule_id": "y"}'}))
    asyncio.run(rules.put_rules(world, [rule()]))
    found = kafka_says(world, rules.read_rules)
    assert {key: isinstance(one, Rejected) for key, one in found.items()} == {"r": False, "x": True, "y": True}
    code, out = command("list", "--json")
    assert code == 0
    assert "y: not a rule: missing_field" in out
    command("delete", "x", "y")
    assert list(kafka_says(world, rules.read_rules)) == ["r"]


def test_a_test_message_says_who_can_be_reached_and_pages_nobody(
    world: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "rules.yaml"
    with post_office() as post, in_background(receiver()) as hook, in_background(receiver(404)) as gone:
        post.refusals["gone@example.org"] = "550 nobody of that name"
        recipients = [
            "mailto:ann@example.org,gone@example.org", hook.url, gone.url, "pagerduty:key", "alertmanager"
        ]  # fmt: skip
        settings = world.model_copy(
            update={
                "smtp_host": "127.0.0.1",
                "smtp_port": post.port,
                "smtp_security": "plain",
                "notify_networks": "127.0.0.0/8",
                "pagerduty_url": hook.url,
                "alertmanager_url": hook.url,
            }
        )
        for name, value in to_environ(settings).items():
            monkeypatch.setenv(name, value)
        file.write_text(json.dumps(msgspec.to_builtins(rule(rule_id="a", recipients=recipients))))
        result = CliRunner().invoke(verb.app, ["apply", str(file), "--test", "--json"])
        assert result.exit_code == 1
        told = json.loads(result.output)
        assert told["rules"] == {"a": "created"}
        taken = "a test message was taken"
        assert list(told["recipients"].values()) == [
            taken,
            "not sent: refused by the mail server: gone@example.org: 550 nobody of that name",
            taken,
            "not sent: HTTP 404 said the receiver",
            taken,
            taken,
        ]
        assert gone.url not in result.output
    [(envelope, mail)] = post.mails
    assert (envelope.rcpt_tos, mail["Subject"]) == (["ann@example.org"], "[INFERWATCH] test message: inferwatch")
    bodies = [json.loads(body) for _, body in hook.requests]
    assert sorted(body["event_action"] for body in bodies if "event_action" in body) == ["resolve"]
    assert [body["status"] for body in bodies if "status" in body] == ["resolved"]
