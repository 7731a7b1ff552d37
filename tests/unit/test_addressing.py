"""What a sender would refuse for ever is refused before anything is to be sent, and nothing else is."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import requests

from pipeline.config import Settings, load
from pipeline.core.notifying.notification import Notification, TellReason
from pipeline.core.notifying.recipients import kind_of
from pipeline.edge.notification.addressing import mistake, mistakes_in_rules, mistakes_in_settings
from pipeline.edge.notification.outcome import Failed, Outcome
from pipeline.edge.notification.senders import open_senders
from pipeline.edge.operator import rule_file
from pipeline.edge.operator.rule_file import RuleFileError
from schemas.rejection import Reason, Rejected
from schemas.rule import Rule
from tests.alerting import rule
from tests.alerts import T0, alert

SOUND = [
    "alertmanager",
    "mailto:oncall@example.org",
    "mailto:ann@example.org,bob@example.org",
    "mailto:ann@example.org, bob@example.org?subject=x",
    "MAILTO:ann%2Bwatch@example.org",
    "mailto:o'neil_a.b@sub.example.org",
    "mailto:grüße@例え.jp",
    "mailto:root@localhost",
    "pagerduty:default",
    "pagerduty:0123456789abcdef0123456789abcdef",
    "https://example.org/hook?key=a%20b",
    "http://10.0.0.8:9000/hook",
    "http://[2001:db8::1]:9000/hook",
    "https://例え.jp/hook",
    "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
    "discord://1234567890/AbCdEfGhIjKlMnOpQrStUvWxYz",
    "tgram://123456789:abcdefg_hijklmnop/12315544/",
    "mmosts://chat.example.org/abcdefghijklmnopqrstuvwxyz",
    "ntfys://ntfy.example.org/topic",
]
ODD = [
    "mailt:oncall@example.org",
    "mailto:oncall@",
    "mailto:@example.org",
    "mailto:oncall",
    "mailto:oncall@example.org,",
    "mailto:oncall@example.org,bob",
    "mailto:a@b@example.org",
    "mailto:a b@example.org",
    "mailto:Ann <ann@example.org>",
    "mailto://ann@example.org",
    "mailto:a..b@example.org",
    "mailto:a@example..org",
    "mailto:a@-example.org",
    "mailto:a@example.org.",
    "mailto:ann@example.org%0d%0aBcc:all@example.org",
    "mailto:ann@example.org;bob@example.org",
    "mailto:=?utf-8?q?ann=0D=0ABcc:eve?=@example.org",
    "mailto:" + "a" * 65 + "@example.org",
    "mailto:a@" + "b" * 64 + ".org",
    "mailto:?subject=x",
    "pagerduty:a key",
    "pagerduty:clé",
    "http://[::1",
    "http://",
    "https:///hook",
    "http:example.org",
    "https://example.org:99999/",
    "https://example.org:port/",
    "https://exa mple.org/",
    "https://example.org/a b",
    "https://example.org/\u202ehook",
    "http://169.254.169.254/latest/meta-data",
    "http://[fd00:ec2::254]/",
    "https://" + "a" * 64 + ".example.org/",
    "slack://x",
    "slakc://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
    "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ?template=/etc/passwd",
    "discord://123",
    "tgram://",
    "mmost://",
    "ntfy://",
    "dbus://",
    "syslog://",
    "file:///etc/passwd",
    "json://example.org",
    "ftp://example.org/",
    "javascript:alert(1)",
    "oncall:ann",
]


def said(recipient: str) -> Outcome:
    """What its sender says, asked when an alert fires."""

    async def send() -> Outcome:
        settings = Settings(smtp_host="mail.invalid", smtp_security="plain", notify_networks="0.0.0.0/0,::/0")
        async with open_senders(settings) as senders:
            one = Notification(recipient, "g", (alert(),), TellReason.FIRST, "k", T0)
            return await senders[kind_of(recipient)].send(one)

    return asyncio.run(send())


@pytest.fixture(autouse=True)
def _nothing_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise requests.ConnectionError("nothing leaves")

    async def refuse_too(*_: Any, **__: Any) -> Any:
        raise aiohttp.ServerDisconnectedError

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", refuse)
    monkeypatch.setattr(aiohttp.TCPConnector, "connect", refuse_too)
    monkeypatch.setattr("smtplib.SMTP.connect", refuse)


@pytest.mark.parametrize("recipient", ODD)
def test_what_can_never_work_is_refused_at_once(recipient: str) -> None:
    assert mistake(recipient)
    outcome = said(recipient)
    assert isinstance(outcome, Failed)
    assert not outcome.recoverable


@pytest.mark.parametrize("recipient", SOUND)
def test_what_may_work_is_taken_and_tried(recipient: str) -> None:
    assert mistake(recipient) == ""
    outcome = said(recipient)
    assert isinstance(outcome, Failed)
    assert outcome.recoverable or "INFERWATCH" in outcome.reason


def test_a_rules_wrong_recipients_are_told_together_with_its_other_mistakes_and_no_secret(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(
        """
rules:
  - {rule_id: typo, workspace: w, metric: inference_count, operator: ">", threshold: 5, window_s: 60,
     recipients: ["mailt:oncall@example.org", "mailto:oncall@", "slack://x", "mailto:a@example.org", "http://[::1"]}
  - {rule_id: other, workspace: w, metric: inference_count, operator: ">", threshold: -5, recipients: ["slack://k3y"]}
"""
    )
    with pytest.raises(RuleFileError) as error:
        rule_file.read(path)
    assert str(error.value).splitlines()[1:] == [
        "rule 1 (typo): recipients[0]: mailt:***: there is no way to send to mailt:; mailto?",
        "rule 1 (typo): recipients[1]: mailto:oncall@: the recipient is no mail address: expected mailto:NAME@HOST",
        "rule 1 (typo): recipients[2]: slack:***: the address is not one of slack",
        "rule 1 (typo): recipients[4]: http:***: the address is no URL",
        "rule 2 (other): threshold: inference_count is never below 0",
        "rule 2 (other): recipients[0]: slack:***: the address is not one of slack",
    ]


def test_wrong_recipients_of_the_settings_are_told_together_with_what_their_ways_need_and_no_secret() -> None:
    environ = {
        "INFERWATCH_NOTIFY_RECIPIENTS": "mailt:oncall@example.org pagerduty:default mailto:ann@example.org slack://T0PSECRET",
        "INFERWATCH_WATCHDOG_RECIPIENTS": "http://[::1 alertmanager",
    }
    found = mistakes_in_settings(load(environ))
    assert [line.partition(": ")[0].removeprefix("INFERWATCH_") for line in found] == [
        *["NOTIFY_RECIPIENTS"] * 4,
        *["WATCHDOG_RECIPIENTS"] * 2,
    ]
    for line, said in zip(
        found,
        ("mailto?", "PAGERDUTY_KEY is not set", "SMTP_HOST is not set", "slack:***", "no URL", "ALERTMANAGER_URL is"),
        strict=True,
    ):
        assert said in line
    assert "T0PSECRET" not in str(found)
    whole = {
        "INFERWATCH_NOTIFY_RECIPIENTS": " ".join(one.replace(" ", "") for one in SOUND),
        "INFERWATCH_SMTP_HOST": "mail.example.org",
        "INFERWATCH_PAGERDUTY_KEY": "k",
        "INFERWATCH_ALERTMANAGER_URL": "http://alertmanager:9093",
    }
    assert mistakes_in_settings(load(whole)) == []


def test_rules_that_nobody_can_be_told_of_are_told() -> None:
    rules: dict[str, Rule | Rejected] = {
        "good": rule(rule_id="good", recipients=["https://example.org/hook"]),
        "bad": rule(rule_id="bad", recipients=["mailto:a@example.org", "mailto:b@example.org", "mailto:x"]),
        "odd": Rejected(Reason.WRONG_TYPE, "threshold"),
    }
    wrong, unset, odd = mistakes_in_rules(rules, load({}))
    assert unset == "bad: INFERWATCH_SMTP_HOST is not set"
    assert wrong.startswith("bad: recipients[2]: mailto:x: ")
    assert odd == "odd cannot be read, and nobody heeds it (wrong_type threshold)"
