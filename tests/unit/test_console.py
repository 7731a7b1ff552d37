"""The console's pages by their HTML: what they say, and that no name that anybody sends becomes a part of them."""

import asyncio
import gzip
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote, unquote

import orjson
import pytest

from pipeline.web.access.door import door_of
from pipeline.web.asgi import Asgi, Receive, Scope, Send, answer
from pipeline.web.console.part import Pages
from pipeline.web.session.part import SignIns
from tests.in_process import OURS, Answer, World, app_of, ask
from tests.names import NAMES

AT = "2026-11-18T10:00:00.000Z"
FIRST_PAGE_BYTES_MAX = 120 * 1024


class Answers:
    """The query API as a part that knows what a test tells it."""

    name = "query"

    def __init__(self, told: Mapping[str, Any]) -> None:
        self.told = dict(told)
        self.asked: list[tuple[str, str]] = []

    def find(self, path: str) -> Asgi | None:
        return self._answer if path.startswith("/v1/") else None

    def not_ready(self) -> list[str]:
        return []

    async def stop(self) -> None:
        pass

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        subject = scope["path"].removeprefix("/v1/").partition("/")[2]
        self.asked.append((unquote(subject), scope["query_string"].decode()))
        found = self.told.get(unquote(subject))
        if found is None:
            await answer(send, 503, b'{"reason":"store_unavailable","message":"ClickHouse does not answer"}')
        else:
            await answer(send, 200, orjson.dumps(found))


def headline(value: float | None, change: float | None = None) -> dict[str, float | None]:
    return {"value": value, "previous": value, "change_percent": change}


def told(name: str = "helmets") -> dict[str, Any]:
    """What the API says of a workspace in which everything is called by this name."""
    numbers = {
        "inferences": 1234, "detections": 99, "devices": 2, "error_rate": 0.01, "empty_rate": 0.1,
        "latency_mean_ms": 40.0, "latency_p50_ms": 35.0, "latency_p95_ms": 90.0, "confidence_mean": 0.8,
    }  # fmt: skip
    model = {"model_id": f"{name}/3", "name": name, "version": "3", "first_seen": AT, "last_seen": AT, **numbers}
    alert = {
        "fingerprint": "f", "episode": 1, "state": "firing", "severity": "critical", "kind": "rule", "metric": "m",
        "workspace": "acme", "starts_at": AT, "at": AT, "fired_at": AT, "summary": f"confidence of {name} fell",
        "acknowledged_by": name, "silenced_by": None, "silenced_until": None, "model_id": f"{name}/3",
        "device_id": name,
        "class": name, "value": 0.3, "expected": 0.8, "threshold": None, "rule_id": None, "comment": name,
    }  # fmt: skip
    names = ("inferences", "detections", "devices", "models", "error_rate", "empty_rate")
    return {
        "overview": {name: headline(7, -12.5) for name in (*names, *[n for n in numbers if n not in names])},
        "models": {"items": [model], "next": None},
        "alerts": {"items": [alert], "next": None},
        "alerts/history": {"items": [alert], "next": "5-f"},
        "devices": {"items": [{"device_id": name, "state": "lost", "last_heartbeat": AT}], "left_out": 0},
        "series": {"times": [AT, AT], "series": [{"key": None, "values": [1.0, 2.0]}], "step_s": 60},
        "pipeline": {
            "at": AT, "complete_through": AT, "audit": None, "partitions": [],
            "roles": [{"role": "recorder", "members": 1, "state": "stable", "lag": 0, "lag_s": 0.0}],
        },
    }  # fmt: skip


class Console(World):
    """A browser that is shown the console."""

    def __init__(self, answers: Mapping[str, Any] | None = None) -> None:
        self.answers = Answers(told() if answers is None else answers)
        super().__init__()

    def process(self) -> Any:
        door = door_of(self.settings, self.topic, self.clock)  # type: ignore[arg-type]
        pages = Pages(self.settings, door, self.clock)
        return app_of(door, SignIns(self.settings, door, self.clock), pages, self.answers)

    def page(self, path: str, status: int = 200) -> "Shown":
        said = self.ask("GET", path)
        assert said.status == status, (said.status, said.body[:600])
        return Shown(said)


class Shown(HTMLParser):
    """A page as a browser reads it."""

    def __init__(self, said: Answer) -> None:
        super().__init__()
        self.said, self.tags, self.text, self.links = said, set[str](), "", list[str]()
        self.loaded: list[str] = []
        self.inline: list[str] = []
        self.feed(said.body.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.add(tag)
        self.inline += [name for name in found if name.startswith("on") or name == "style"]
        self.inline += ["script"] if tag == "script" and "src" not in found else []
        if tag == "a" and (href := found.get("href")):
            self.links.append(href)
        if tag in ("script", "link", "img", "image"):
            self.loaded.append(found.get("src") or found.get("href") or "")

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def console() -> Console:
    made = Console()
    made.sign_in()
    return made


PAGES = ("/w/acme/", "/w/acme/alerts", "/w/acme/pipeline", "/w/acme/badge")


def test_the_first_page_shows_numbers_models_and_what_is_wrong(console: Console) -> None:
    page = console.page("/w/acme/")
    for text in ("Average confidence", "▼ 12.5 %", "helmets", "confidence of helmets fell", "is not heard", "operator"):
        assert text in page.text


def test_who_is_nobody_signs_in_and_comes_back_to_where_they_were() -> None:
    console = Console()
    page = console.page("/w/acme/?range=24h", 401)
    assert 'name="next" value="/w/acme/?range=24h"' in page.said.body.decode()
    form = f"name={quote('ann@acme.org')}&password={quote('correct horse battery')}&next={quote('/w/acme/?range=24h')}"
    said = post(console, "/sign-in", form)
    assert (said.status, said.headers["location"]) == (303, "/w/acme/?range=24h")
    assert console.page("/w/acme/?range=24h").tags
    assert console.ask("GET", "/").headers["location"] == "/w/acme/"


def post(console: Console, path: str, form: str, **headers: str) -> Answer:
    sent = OURS | {"content-type": "application/x-www-form-urlencoded"} | headers
    return asyncio.run(_post(console, path, form.encode(), sent))


async def _post(console: Console, path: str, body: bytes, headers: dict[str, str]) -> Answer:
    if console.jar:
        headers["cookie"] = "; ".join(f"{name}={value}" for name, value in console.jar.items())
    said = await ask(console.app, "POST", path, body, headers=headers)
    console.jar = {name: value for name, value in (console.jar | dict(said.cookies)).items() if value}
    return said


@pytest.mark.parametrize("elsewhere", ["//evil.example", "https://evil.example", "/\\evil.example", "/a\r\nb", "/\t/x"])
def test_signing_in_leads_to_no_other_host(elsewhere: str) -> None:
    form = f"name=ann@acme.org&password={quote('correct horse battery')}&next={quote(elsewhere, safe='')}"
    assert post(Console(), "/sign-in", form).headers["location"] == "/"


def test_a_wrong_password_is_told_on_the_page_and_a_page_of_somebody_else_signs_nobody_in() -> None:
    console = Console()
    said = post(console, "/sign-in", "name=ann@acme.org&password=wrong&next=/")
    assert said.status == 401
    assert 'role="alert"' in said.body.decode()
    form = f"name=ann@acme.org&password={quote('correct horse battery')}"
    assert post(console, "/sign-in", form, origin="http://evil.example").status == 403
    assert not console.jar.get("inferwatch")


def test_signing_out_takes_the_token_of_the_page(console: Console) -> None:
    assert post(console, "/sign-out", "csrf=forged").status == 303
    assert console.page("/w/acme/")
    token = re.search(r'name="csrf" value="([^"]+)"', console.page("/w/acme/").said.body.decode())
    assert token is not None
    assert post(console, "/sign-out", f"csrf={token[1]}").headers["location"] == "/sign-in"
    console.page("/w/acme/", 401)


def test_another_workspace_is_refused_on_a_page_that_says_what_to_do(console: Console) -> None:
    assert "ask an admin" in console.page("/w/rival/", 403).text
    assert "To the first page" in console.page("/w/acme/nowhere", 404).text


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_name_is_shown_as_text_whatever_it_holds(name: str) -> None:
    plain = Console()
    plain.sign_in()
    odd = Console(told(name))
    odd.sign_in()
    for path in PAGES:
        shown, usual = odd.page(path), plain.page(path)
        assert shown.tags == usual.tags
        assert shown.inline == []
        assert all(link.startswith(("/", "#", "")) and not link.startswith("//") for link in shown.links)


def test_every_page_loads_from_us_alone_and_the_browser_is_told_to_hold_it_to_that(console: Console) -> None:
    for path in (*PAGES, "/sign-in", "/w/rival/"):
        said = console.ask("GET", path)
        page = Shown(said)
        assert page.inline == []
        assert all(one.startswith("/static/") for one in page.loaded)
        policy = said.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert said.headers["x-content-type-options"] == "nosniff"
        assert said.headers["cache-control"] == "no-store"


def test_a_first_page_with_all_that_it_loads_is_small(console: Console) -> None:
    packed = {"accept-encoding": "gzip"}
    first = console.ask("GET", "/w/acme/", headers=packed)
    assert first.headers["content-encoding"] == "gzip"
    assert b"<html" in gzip.decompress(first.body)
    size = len(first.body)
    for path in console.page("/w/acme/").loaded:
        said = console.ask("GET", path, headers=packed)
        assert said.status == 200
        assert "immutable" in said.headers["cache-control"]
        size += len(said.body)
    assert size <= FIRST_PAGE_BYTES_MAX


def test_what_is_away_leaves_the_rest_of_the_page(console: Console) -> None:
    del console.answers.told["models"]
    page = console.page("/w/acme/")
    assert "ClickHouse does not answer" in page.text
    assert "Average confidence" in page.text


def test_an_empty_workspace_says_how_to_send_the_first_event(console: Console) -> None:
    console.answers.told["models"] = {"items": []}
    assert "http://watch.example/v1/acme/events" in console.page("/w/acme/").text


def test_the_order_of_models_is_in_the_address(console: Console) -> None:
    model = console.answers.told["models"]["items"][0]
    items = [{**model, "name": name, "inferences": n} for name, n in (("b", 2), ("a", None), ("c", 1))]
    console.answers.told["models"] = {"items": items}
    found = [
        re.findall(r'<th scope="row".*?>(?:<a[^>]*>)?(\w)', console.page(f"/w/acme/?sort={s}").said.body.decode())
        for s in ("inferences", "-inferences", "-name")
    ]
    assert found == [["c", "b", "a"], ["b", "c", "a"], ["c", "b", "a"]]


def test_the_time_of_the_address_is_what_is_asked_for(console: Console) -> None:
    console.page("/w/acme/?range=1h")
    from_ms = {query for subject, query in console.answers.asked if subject == "overview"}
    assert from_ms == {f"from={console.clock.ms - 3_600_000}"}
    page = console.page("/w/acme/?from=2026-11-01T00:00&to=2026-11-02T00:00")
    assert "1 Nov 00:00:00" in page.text


def test_a_question_of_roboflows_at_the_front_door_goes_on_to_who_answers_it() -> None:
    console = Console()
    assert console.ask("GET", "/").headers["location"] == "/sign-in"


def test_alerts_that_are_open_and_that_were_stand_apart_and_the_older_are_a_link_away(console: Console) -> None:
    page = console.page("/w/acme/alerts?range=24h")
    assert page.text.count("confidence of helmets fell") == 2
    assert "seen 0.3, expected 0.8" in page.text
    assert "/w/acme/alerts?range=24h&cursor=5-f" in page.links
    console.page("/w/acme/alerts?range=24h&cursor=5-f")
    assert any(subject == "alerts/history" and "cursor=5-f" in query for subject, query in console.answers.asked)
