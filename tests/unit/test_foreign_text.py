"""Names arrive as text, whatever they hold: judged on the bytes that leave."""

import asyncio
import json
import re
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from unicodedata import category
from urllib.parse import parse_qs

import msgspec
import orjson
import pytest
import requests

from pipeline.core.notifying.notification import Notification, TellReason
from pipeline.core.span import Span
from pipeline.core.words import shown
from pipeline.edge.notification.chat import Chat
from pipeline.edge.notification.mail import mail
from pipeline.edge.notification.outcome import Sent
from pipeline.edge.notification.pagerduty import event_body
from pipeline.edge.notification.targets import Targets
from pipeline.edge.notification.webhook import webhook_body
from pipeline.edge.notification.wording import html, subject
from pipeline.edge.operator import plots
from schemas.alert import AlertState
from tests.alerts import T0, alert
from tests.names import NAMES

pytestmark = pytest.mark.slow

HEADERS = [b"From", b"To", b"Subject", b"Date", b"Message-ID", b"References", b"Auto-Submitted", b"MIME-Version"]

names = pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)


def named(name: str, recipient: str = "mailto:ann@example.com") -> Notification:
    """Of an alert that has the name wherever a name can be."""
    fields: dict[str, Any] = {"workspace": name, "model_id": name, "device_id": name, "class_name": name}
    event = alert(summary=f"confidence of {name} is low", labels={"site": name}, **fields)
    return Notification(recipient, f"model {name} {name}", (event,), TellReason.FIRST, "k", T0, note=f"of {name}")


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


CHATS = (
    "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
    "discord://1234567890/AbCdEfGhIjKlMnOpQrStUvWxYz",
    "discord://1234567890/AbCdEfGhIjKlMnOpQrStUvWxYz?format=markdown",
    "tgram://123456789:abcdefg_hijklmnop/12315544/",
    "mmost://chat.example.com/abcdefghijklmnopqrstuvwxyz",
    "workflows://host.example.com:443/workflow/signature/",
    "gchat://workspace/key/token",
    "matrix://user:token@chat.example.com/#room?mode=slack",
    "zulip://bot@org/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/general",
    "wxteams://aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "ntfy://topic",
    "gotify://host.example.com/token",
    "pover://uuuuuuuuuuuuuuuuuuuuuuuuuuuuuu@tttttttttttttttttttttttttttttt",
    "guilded://webid/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "line://token/target",
    "prowl://aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
)
# What one of them would make more of than text: a mention, a link, a tag, a control.
SYNTAX = re.compile(
    r"@(?=\w)|<(?=[\w@!/#])|&lt;(?=[@!]\w)|\]\(|http://evil|```|\*\*|__(?=under)|~~|\|\|"
    r"|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)


@pytest.fixture
def posts(monkeypatch: pytest.MonkeyPatch) -> list[requests.PreparedRequest]:
    """What leaves, at the HTTP level: the services themselves are not asked."""
    sent: list[requests.PreparedRequest] = []

    def take(self: Any, request: requests.PreparedRequest, **_: Any) -> requests.Response:
        sent.append(request)
        response = requests.Response()
        response.status_code, response.request = 200, request
        response._content = b"ok" if "slack" in str(request.url) else b"{}"
        return response

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", take)
    return sent


def body_of(post: requests.PreparedRequest) -> str:
    """ "" for none."""
    body = post.body or ""
    assert isinstance(body, str | bytes)
    return body.decode() if isinstance(body, bytes) else body


def words(post: requests.PreparedRequest) -> list[str]:
    """Every text of a body: JSON, a form, or a file."""
    raw = body_of(post)
    if "filename=" in str(post.url):
        return [raw]
    if not raw.startswith("{"):
        return [text for texts in parse_qs(raw).values() for text in texts]
    found: list[str] = []

    def look(value: Any) -> None:
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, dict | list):
            for one in value.values() if isinstance(value, dict) else value:
                look(one)

    look(json.loads(raw))
    return found


@names
@pytest.mark.parametrize("recipient", CHATS)
def test_in_a_chat_nobody_is_called_and_nothing_is_linked_by_a_name(
    recipient: str, name: str, posts: list[requests.PreparedRequest]
) -> None:
    chat = Chat(Targets(), "")
    assert asyncio.run(chat.send(named(name, recipient))) == Sent()
    told = [text for post in posts for text in words(post) if "caronc/apprise" not in text]
    assert told
    for text in told:
        tags = re.sub(r"</?b>", "", text) if recipient.startswith("tgram") else text
        assert SYNTAX.search(tags) is None
    if recipient.startswith("discord"):
        assert all(json.loads(body_of(post))["allowed_mentions"] == {"parse": []} for post in posts)


@names
def test_a_pictures_title_is_text_and_no_formula(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = pytest.importorskip("matplotlib.figure").Figure
    titles: list[str] = []

    async def points(*_: Any) -> list[tuple[int, float]]:
        return [(T0, 0.5), (T0 + 10_000, 0.6)]

    monkeypatch.setattr(plots, "_points", points)
    monkeypatch.setattr(figure, "savefig", lambda self, path, **_: titles.append(drawn(self, path)))

    def drawn(self: Any, path: Path) -> str:
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        canvas: Any = FigureCanvasAgg(self)
        canvas.draw()  # here a formula would be read
        assert path.parent == tmp_path
        title = self.axes[0].title
        return str(title.get_text()) if title._preprocess_math(title.get_text()) == (title.get_text(), False) else "?"

    event = named(name).events[0]
    history: Any = None
    span = Span(T0 // 1000 - 600, T0 // 1000 + 600)
    ended = msgspec.structs.replace(event, state=AlertState.RESOLVED, sequence=2, at_ms=event.at_ms + 1000)
    assert len(asyncio.run(plots.draw([event, ended], history, span, [], tmp_path))) == 1
    assert ["".join(title.split()) for title in titles] == ["".join(shown(event.summary).split())]
