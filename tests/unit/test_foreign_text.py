"""Names arrive as text, whatever they hold: judged on the bytes that leave."""

import json
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from html.parser import HTMLParser
from typing import Any
from unicodedata import category

import orjson
import pytest

from pipeline.core.notifying.notification import Notification, Reason
from pipeline.edge.notification.mail import mail
from pipeline.edge.notification.pagerduty import event_body
from pipeline.edge.notification.webhook import webhook_body
from pipeline.edge.notification.wording import html, subject
from tests.alerts import T0, alert
from tests.names import NAMES

HEADERS = [b"From", b"To", b"Subject", b"Date", b"Message-ID", b"References", b"Auto-Submitted", b"MIME-Version"]

names = pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)


def named(name: str, recipient: str = "mailto:ann@example.com") -> Notification:
    """Of an alert that has the name wherever a name can be."""
    fields: dict[str, Any] = {"workspace": name, "model_id": name, "device_id": name, "class_name": name}
    event = alert(summary=f"confidence of {name} is low", labels={"site": name}, **fields)
    return Notification(recipient, f"model {name} {name}", (event,), Reason.FIRST, "k", T0, note=f"of {name}")


@names
def test_a_mails_header_has_one_subject_and_nothing_that_a_name_brought(name: str) -> None:
    message = mail(named(name), "Watch <watch@example.com>", ["ann@example.com"], "")
    head, _, _ = message.as_bytes(policy=policy.SMTP).partition(b"\r\n\r\n")
    lines = head.replace(b"\r\n ", b" ").split(b"\r\n")
    assert [line.partition(b":")[0] for line in lines] == [*HEADERS, b"Content-Type"]
    assert all(32 <= byte < 127 for line in lines for byte in line)
    assert max(map(len, head.split(b"\r\n"))) <= 998


@names
def test_a_mails_subject_is_read_as_it_was_written(name: str) -> None:
    raw = mail(named(name), "watch@example.com", ["ann@example.com"], "").as_bytes(policy=policy.SMTP)
    given = message_from_bytes(raw)["Subject"].replace("\r\n ", " ")
    assert str(make_header(decode_header(given))) == subject(named(name))


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: set[tuple[str, tuple[str, ...]]] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add((tag, tuple(name for name, _ in attrs)))


@names
def test_a_mails_page_has_only_our_own_markup(name: str) -> None:
    plain, page = _Tags(), _Tags()
    plain.feed(html(named("helmets")))
    page.feed(html(named(name)))
    assert page.found == plain.found


@names
def test_machines_are_given_the_name_and_people_a_line(name: str) -> None:
    hook = json.loads(orjson.dumps(webhook_body(named(name), "")))
    assert hook["alerts"][0]["labels"]["model_id"] == name
    incident = json.loads(orjson.dumps(event_body(named(name), "key", "")))["payload"]
    assert incident["custom_details"]["alerts"][0]["model_id"] == name
    for line in (incident["summary"], incident["source"], hook["alerts"][0]["annotations"]["summary"]):
        assert not {category(char) for char in line} & {"Cc", "Zl", "Zp"}
