"""The HTTP side under test: a process of its own, requests to it, and what came of them on Kafka."""

import asyncio
import http.client
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from pydantic import SecretStr

from pipeline.config import Settings
from pipeline.edge.clock import now_ms
from pipeline.edge.kafka.client import Kafka
from pipeline.edge.local.ports import HOST, free_port
from pipeline.edge.local.worker import Worker
from pipeline.web.access import admin
from pipeline.web.access.credentials import make_key
from schemas.access import Scope
from schemas.roles import WEB
from schemas.topics import EVENTS, Topic
from tests.integration.outside import kafka_says

LOCAL_KEY = "a-key-of-the-tests-that-may-everything"
JSON, LINES = "application/json", "application/x-ndjson"


@dataclass(frozen=True)
class Said:
    """An answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    pairs: tuple[tuple[str, str], ...] = ()

    def all(self, name: str) -> list[str]:
        """Every value of a header that may stand there several times."""
        return [value for found, value in self.pairs if found.lower() == name]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def accepted(self) -> int:
        """How many records were taken; the request must have gone well."""
        assert self.status == 200, (self.status, self.body[:500])
        return int(self.json["accepted"])


class HttpSide(Worker):
    """One process of it."""

    def __init__(self, settings: Settings, logs: Path) -> None:
        own = settings.model_copy(update={"web_api_key": SecretStr(LOCAL_KEY), "web_spool_dir": logs / "spool"})
        super().__init__(WEB, own, web_port=free_port(), logs=logs)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        key: str | None = LOCAL_KEY,
        kind: str = JSON,
        timeout_s: float = 30,
        **headers: str,
    ) -> Said:
        """One request, over a connection of its own."""
        connection = http.client.HTTPConnection(HOST, self.web_port, timeout=timeout_s)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            given["Authorization"] = f"Bearer {key}"
        if kind:
            given["Content-Type"] = kind
        try:
            connection.request(method, path, body, given)
            response = connection.getresponse()
            return Said(response.status, dict(response.headers), response.read(), tuple(response.getheaders()))
        finally:
            connection.close()

    def post(self, path: str, records: list[Any], **more: Any) -> Said:
        """A JSON list of records."""
        return self.ask("POST", path, orjson.dumps(records), **more)


@contextmanager
def http_side(settings: Settings, logs: Path, **own: Any) -> Iterator[HttpSide]:
    """One that is ready, and does not outlive the block."""
    side = HttpSide(settings.model_copy(update=own), logs)
    side.spawn()
    try:
        side.wait_ready()
        yield side
    finally:
        side.kill9()


def new_key(settings: Settings, scopes: list[Scope], workspace: str = "acme") -> tuple[str, str]:
    """A key on the topic: its id, and its text."""
    made = make_key("tests", workspace, scopes, now_ms())
    asyncio.run(admin.put(settings, made.key))
    return made.key.id, made.text


def on_topic(settings: Settings, topic: Topic = EVENTS) -> list[dict[str, Any]]:
    """Every record of a topic, read anew."""

    async def read(kafka: Kafka) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for partition, (first, end) in (await kafka.ends([settings.topic(topic.name)])).items():
            at = first
            while at < end:
                records, at = await kafka.read(partition, at, end)
                found += [orjson.loads(record.value) for record in records]
        return found

    return kafka_says(settings, read)


def ids(settings: Settings) -> "Counter[str]":
    """How often each event is on the topic."""
    return Counter(record["event_id"] for record in on_topic(settings))


def event(event_id: str, **more: Any) -> dict[str, Any]:
    """One inference."""
    return {
        "event_id": event_id,
        "model_id": "helmets/3",
        "device_id": f"cam-{hash(event_id) % 50}",
        "predictions": [{"class": "person", "confidence": 0.91}],
        **more,
    }
