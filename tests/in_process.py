"""The HTTP side called in this process, as a server would: no socket, no Kafka; keys and people as the test says."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from argon2 import PasswordHasher

from pipeline.config import load
from pipeline.web.access.book import AccessBook
from pipeline.web.access.door import Door, door_of
from pipeline.web.app import App, Part
from pipeline.web.asgi import Asgi, Message
from pipeline.web.session.part import SignIns
from schemas.access import Record, User, UserRole, encode, record_key

NOW = 1_795_000_000_000
SECRET = "a signing key of the tests, long enough"
HOST = "watch.example"
PASSWORD = "correct horse battery"
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)  # so that a test may guess often
ANN = User(
    name="ann@acme.org", roles={"acme": UserRole.OPERATOR}, created_at_ms=NOW, password_hash=CHEAP.hash(PASSWORD)
)
OURS = {"origin": f"http://{HOST}", "sec-fetch-site": "same-origin"}


@dataclass
class Topic:
    """As a FollowedTopic is for who reads it."""

    values: dict[bytes, bytes] = field(default_factory=dict)
    version: int = 0
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, *records: Record) -> None:
        self.values = self.values | {record_key(record): encode(record) for record in records}
        self.version += 1
        self.ready.set()

    def delete(self, record: Record) -> None:
        self.values = {key: raw for key, raw in self.values.items() if key != record_key(record)}
        self.version += 1


@dataclass
class Clock:
    """Goes when it is told to."""

    ms: int = NOW

    def now_ms(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1000


@dataclass(frozen=True)
class Answer:
    """What came back. `cookies`: by name, as they are set."""

    status: int
    headers: Mapping[str, str]
    cookies: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def book_of(topic: Topic, local: str = "") -> AccessBook:
    return AccessBook(topic, local)  # type: ignore[arg-type]


def app_of(door: Door, *parts: Part) -> App:
    return App(parts, door, lambda: [], metrics_open=False)


async def ask(
    app: Asgi,
    method: str,
    path: str,
    body: bytes = b"",
    *,
    client: str = "192.0.2.1",
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request to it, and its whole answer."""
    sent = {"host": HOST, **(headers or {})}
    path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "client": (client, 5),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in sent.items()],
    }
    said: list[Message] = []
    sent_body = False

    async def receive() -> Message:
        nonlocal sent_body
        if sent_body:  # and the client stays
            await asyncio.Event().wait()
        sent_body = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        said.append(message)

    await app(scope, receive, send)
    pairs = [(name.decode().lower(), value.decode("latin-1")) for name, value in said[0]["headers"]]
    cookies = [value.split("; ", 1)[0].partition("=") for name, value in pairs if name == "set-cookie"]
    whole = b"".join(message.get("body", b"") for message in said[1:])
    return Answer(said[0]["status"], dict(pairs), {name: value for name, _, value in cookies}, whole)


class World:
    """The HTTP side with its sessions; a browser that keeps its cookies."""

    def __init__(self, **told: str) -> None:
        self.topic, self.clock = Topic(), Clock()
        self.topic.put(ANN)
        self.settings = load({"INFERWATCH_WEB_SESSION_KEY": SECRET} | told)
        self.jar: dict[str, str] = {}
        self.app = self.process()

    def process(self) -> App:
        """One of several."""
        door = door_of(self.settings, self.topic, self.clock)  # type: ignore[arg-type]
        return app_of(door, SignIns(self.settings, door, self.clock))

    def ask(self, method: str, path: str, body: Any = None, app: App | None = None, **more: Any) -> Answer:
        headers = dict(more.pop("headers", {}))
        if self.jar:
            headers["cookie"] = "; ".join(f"{name}={value}" for name, value in self.jar.items())
        if body is not None:
            headers.setdefault("content-type", "application/json")
        raw = b"" if body is None else orjson.dumps(body)
        said = asyncio.run(ask(app or self.app, method, path, raw, headers=headers, **more))
        self.jar = {name: value for name, value in (self.jar | dict(said.cookies)).items() if value}
        return said

    def sign_in(self, password: str = PASSWORD, name: str = ANN.name, **more: Any) -> Answer:
        return self.ask("POST", "/v1/session", {"name": name, "password": password}, **more)

    def whoami(self, **more: Any) -> Answer:
        return self.ask("GET", "/v1/session", **more)
