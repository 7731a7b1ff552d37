"""One table: every endpoint of every part, and who may use it. A route that is not in it fails the test."""

import ast
import asyncio
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import load
from pipeline.edge.kafka.client import Kafka
from pipeline.web.access.book import proof_of
from pipeline.web.access.credentials import make_key
from pipeline.web.access.door import door_of
from pipeline.web.access.principal import May
from pipeline.web.access.sessions import By, Session
from pipeline.web.app import App, Part
from pipeline.web.process import PARTS
from pipeline.web.query.asked import may_of
from pipeline.web.query.part import ROUTES
from schemas.access import Scope, User, UserRole
from tests.in_process import HOST, NOW, SECRET, Clock, Topic, ask

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


class For(Enum):
    """Whom an endpoint is for that is no workspace's."""

    EVERYBODY = "everybody"
    KNOWN = "whoever is known"
    SIGNED_IN = "who has a session"
    QUERY_EVERYWHERE = "who may query every workspace"
    # Roboflow's servers have no cookies, and may send their key in the body.
    KEY_INGEST = "a key that may send to this workspace"
    KEY_INGEST_OWN = "a key that may send, to its own workspace"


# By part: path, then methods and whom they are for. HEAD goes with GET where the part answers it.
TABLE: Mapping[str, Mapping[str, Mapping[str, May | For]]] = {
    "process": {
        "/healthz": {"GET": For.EVERYBODY, "HEAD": For.EVERYBODY},
        "/readyz": {"GET": For.EVERYBODY, "HEAD": For.EVERYBODY},
        "/metrics": {"GET": For.QUERY_EVERYWHERE, "HEAD": For.QUERY_EVERYWHERE},
    },
    "ingest": {
        f"/v1/{{workspace}}/{name}": {"POST": May.INGEST}
        for name in ("events", "heartbeats", "metadata", "cloudevents")
    },
    "session": {
        "/v1/session": {"GET": For.KNOWN, "POST": For.EVERYBODY, "DELETE": For.SIGNED_IN},
        "/session/once": {"GET": For.EVERYBODY},
        "/session/oidc": {"GET": For.EVERYBODY},
        "/session/oidc/callback": {"GET": For.EVERYBODY},
    },
    "console": {
        "/": {"GET": For.EVERYBODY, "HEAD": For.EVERYBODY},  # with a key it is roboflow's, which is for a key
        "/sign-in": {"GET": For.EVERYBODY, "HEAD": For.EVERYBODY, "POST": For.EVERYBODY},
        "/sign-out": {"POST": For.EVERYBODY},
        "/static/{version}/{name}": {"GET": For.EVERYBODY, "HEAD": For.EVERYBODY},
        "/w/{workspace}/": {"GET": May.QUERY, "HEAD": May.QUERY},
        "/w/{workspace}/alerts": {"GET": May.QUERY, "HEAD": May.QUERY},
        "/w/{workspace}/pipeline": {"GET": May.QUERY, "HEAD": May.QUERY},
        "/w/{workspace}/badge": {"GET": May.QUERY, "HEAD": May.QUERY},
    },
    "images": {
        "/v1/{workspace}/inferences/{id}/image": {"GET": May.QUERY, "HEAD": May.QUERY, "PUT": May.INGEST},
    },
    "vision": {
        "/vision-events": {"POST": May.INGEST},
        "/vision-events/batch": {"POST": May.INGEST},
        "/vision-events/upload": {"POST": May.INGEST},
        "/vision-events/bundle": {"POST": May.INGEST},
        "/vision-events/query": {"POST": May.QUERY},
        "/vision-events/delete": {"POST": May.OPERATE},
        "/vision-events/use-cases": {"GET": May.QUERY, "POST": May.INGEST},
        "/vision-events/use-cases/{ID}": {"PUT": May.OPERATE},
        "/vision-events/use-cases/{ID}/archive": {"POST": May.OPERATE},
        "/vision-events/use-cases/{ID}/unarchive": {"POST": May.OPERATE},
        "/vision-events/custom-metadata-schema/{ID}": {"GET": May.QUERY},
        "/vision-events/image-metadata-schema/{ID}": {"GET": May.QUERY},
        "/v2/events": {"POST": May.INGEST},
    },
    "roboflow": {
        "/inference-stats": {"POST": For.KEY_INGEST_OWN},
        "/{workspace}/inference-stats": {"GET": May.QUERY, "POST": For.KEY_INGEST},
        "/{workspace}/inference-stats/metadata": {"POST": For.KEY_INGEST},
        "/v1/{workspace}/webhook": {"POST": For.KEY_INGEST},
    },
    "query": {
        "/v1/openapi.json": {"GET": For.KNOWN, "HEAD": For.KNOWN},
        "/v1/{workspace}/alerts": {"GET": May.QUERY},
        "/v1/{workspace}/alerts/history": {"GET": May.QUERY},
        "/v1/{workspace}/alerts/{fingerprint}": {"GET": May.QUERY},
        "/v1/{workspace}/alerts/{fingerprint}/ack": {"POST": May.OPERATE},
        "/v1/{workspace}/alerts/{fingerprint}/unack": {"POST": May.OPERATE},
        "/v1/{workspace}/alerts/{fingerprint}/accept": {"POST": May.OPERATE},
        "/v1/{workspace}/alerts/{fingerprint}/resolve": {"POST": May.OPERATE},
        "/v1/{workspace}/dead-letters": {"GET": May.QUERY},
        "/v1/{workspace}/dead-letters/replay": {"POST": May.ADMIN},
        "/v1/{workspace}/dead-letters/{topic}/{partition:int}/{offset:int}": {"GET": May.QUERY},
        "/v1/{workspace}/classes": {"GET": May.QUERY},
        "/v1/{workspace}/compare": {"GET": May.QUERY},
        "/v1/{workspace}/devices": {"GET": May.QUERY},
        "/v1/{workspace}/export": {"GET": May.QUERY},
        "/v1/{workspace}/inferences": {"GET": May.QUERY},
        "/v1/{workspace}/inferences/total": {"GET": May.QUERY},
        "/v1/{workspace}/inferences/{event_id}": {"GET": May.QUERY},
        "/v1/{workspace}/models": {"GET": May.QUERY},
        "/v1/{workspace}/models/{model_id}": {"GET": May.QUERY},
        "/v1/{workspace}/models/{model_id}/{version}": {"GET": May.QUERY},
        "/v1/{workspace}/overview": {"GET": May.QUERY},
        "/v1/{workspace}/pipeline": {"GET": May.QUERY},
        "/v1/{workspace}/pipeline/audit": {"GET": May.OPERATE},
        "/v1/{workspace}/rules": {"GET": May.QUERY},
        "/v1/{workspace}/rules/test": {"POST": May.ADMIN},
        "/v1/{workspace}/rules/{rule_id}": {"GET": May.QUERY, "PUT": May.ADMIN, "DELETE": May.ADMIN},
        "/v1/{workspace}/rules/{rule_id}/send-test": {"POST": May.ADMIN},
        "/v1/{workspace}/series": {"GET": May.QUERY},
        "/v1/{workspace}/stream": {"GET": May.QUERY},
        "/v1/{workspace}/silences": {"GET": May.QUERY, "POST": May.OPERATE},
        "/v1/{workspace}/silences/{silence_id}": {"DELETE": May.OPERATE},
        "/v1/{workspace}/views": {"GET": May.QUERY},
        "/v1/{workspace}/views/{view_id}": {"GET": May.QUERY, "PUT": May.OPERATE, "DELETE": May.OPERATE},
    },
}
ENDPOINTS = [
    (path, method, allowed.get(method))
    for paths in TABLE.values()
    for path, allowed in paths.items()
    for method in METHODS
]

BY_KEY = [path for path, methods in TABLE["roboflow"].items() if For.KEY_INGEST in methods.values()]
BY_KEY += ["/inference-stats"]

# What each may in the workspace acme; in others nothing.
ALL = frozenset(May)
KEYS: Mapping[str, tuple[list[Scope], frozenset[May]]] = {
    "ingest key": ([Scope.INGEST], frozenset({May.INGEST})),
    "query key": ([Scope.QUERY], frozenset({May.QUERY})),
    "ingest and query key": ([Scope.INGEST, Scope.QUERY], frozenset({May.INGEST, May.QUERY})),
    "admin key": ([Scope.ADMIN], ALL),
}
ROLES: Mapping[str, tuple[UserRole, frozenset[May]]] = {
    "viewer": (UserRole.VIEWER, frozenset({May.QUERY})),
    "operator": (UserRole.OPERATOR, frozenset({May.QUERY, May.OPERATE})),
    "admin": (UserRole.ADMIN, ALL),
}
UNKNOWN = ("nobody", "revoked key", "expired key", "wrong key", "deleted admin", "idle admin", "forged admin")
ELSEWHERE = ("another workspace's admin key", "another workspace's admin")
EVERYWHERE = ("everywhere's query key", "everywhere's admin")
WHO = (*UNKNOWN, *KEYS, *ROLES, *ELSEWHERE, *EVERYWHERE, "the provider's operator")
MAY: Mapping[str, frozenset[May]] = {
    **{name: may for name, (_, may) in KEYS.items()},
    **{name: may for name, (_, may) in ROLES.items()},
    "everywhere's query key": frozenset({May.QUERY}),
    "everywhere's admin": ALL,
    "the provider's operator": frozenset({May.QUERY, May.OPERATE}),
}


class World:
    """Every part, in this process; nothing behind them answers."""

    def __init__(self, spool: Path) -> None:
        self.topic, self.clock = Topic(), Clock()
        self.settings = load(
            {
                "INFERWATCH_KAFKA_BOOTSTRAP": "127.0.0.1:1",
                "INFERWATCH_CLICKHOUSE_URL": "http://127.0.0.1:1",
                "INFERWATCH_WEB_SESSION_KEY": SECRET,
                "INFERWATCH_WEB_API_KEY": "local",
                "INFERWATCH_WEB_ONCE_LINKS": "true",
                "INFERWATCH_PUBLIC_URL": f"http://{HOST}",
                "INFERWATCH_WEB_SPOOL_DIR": str(spool),
                "INFERWATCH_INGEST_ANSWER_S": "0.1",
                "INFERWATCH_OIDC_ISSUER": "http://127.0.0.1:1",
                "INFERWATCH_OIDC_CLIENT_ID": "us",
                "INFERWATCH_OIDC_ROLES": "team=acme:operator",
            }
        )
        self.door = door_of(self.settings, self.topic, self.clock)  # type: ignore[arg-type]
        kafka = Kafka(self.settings)
        self.parts: list[Part] = [make(self.settings, self.door, kafka, self.clock) for make in PARTS.values()]
        self.app = App(self.parts, self.door, lambda: [], metrics_open=False)
        self.sent = {who: dict(self._sent_by(who)) for who in WHO}

    def _sent_by(self, who: str) -> Iterator[tuple[str, str]]:
        if who in KEYS:
            yield "x-api-key", self._key(KEYS[who][0])
        elif who in ROLES:
            yield from self._person(who, {"acme": ROLES[who][0]})
        elif who == "revoked key":
            made = make_key(who, "acme", [Scope.ADMIN], NOW)
            self.topic.put(made.key)
            self.topic.delete(made.key)
            yield "x-api-key", made.text
        elif who == "expired key":
            yield "x-api-key", self._key([Scope.ADMIN], expires_at_ms=NOW)
        elif who == "wrong key":
            yield "x-api-key", make_key(who, "acme", [Scope.ADMIN], NOW).text
        elif who == "deleted admin":
            yield from self._person(who, {"acme": UserRole.ADMIN})
            self.topic.delete(User(name=who.replace(" ", "-"), roles={}, created_at_ms=NOW))
        elif who == "idle admin":
            yield from self._person(who, {"acme": UserRole.ADMIN}, began_at_ms=NOW - 7_200_000)
        elif who == "forged admin":
            yield from ((name, value[:-6] + "AAAAAA") for name, value in self._person(who, {"acme": UserRole.ADMIN}))
        elif who == "another workspace's admin key":
            yield "x-api-key", self._key([Scope.ADMIN], "other")
        elif who == "another workspace's admin":
            yield from self._person("other-admin", {"other": UserRole.ADMIN})
        elif who == "everywhere's query key":
            yield "x-api-key", self._key([Scope.QUERY], "*")
        elif who == "everywhere's admin":
            yield from self._person("boss", {"*": UserRole.ADMIN})
        elif who == "the provider's operator":
            shown = self.door.book.claimant("eve", ["team"])
            yield from self._cookie(self.door.sessions.begin(By.OIDC, "eve", shown.proof, NOW, shown.claims))

    def _key(self, scopes: list[Scope], workspace: str = "acme", **more: Any) -> str:
        made = make_key("x", workspace, scopes, NOW, **more)
        self.topic.put(made.key)
        return made.text

    def _person(self, who: str, roles: dict[str, UserRole], began_at_ms: int = NOW) -> Iterator[tuple[str, str]]:
        user = User(name=who.replace(" ", "-"), roles=roles, created_at_ms=NOW)
        self.topic.put(user)
        yield from self._cookie(self.door.sessions.begin(By.PASSWORD, user.name, proof_of(user), began_at_ms))

    def _cookie(self, session: Session) -> Iterator[tuple[str, str]]:
        yield "cookie", f"inferwatch={self.door.sessions.sealed(session)}"
        yield "x-inferwatch-csrf", self.door.sessions.csrf(session)

    def status(self, method: str, path: str, headers: Mapping[str, str], workspace: str = "acme") -> int:
        """With an encoding and a parameter that no endpoint knows: who is let in gets no further than that.

        But where the key may stand in the body, that must be read.
        """
        filled = re.sub(r"{\w+:int}", "7", path.replace("{workspace}", workspace)).replace("{", "").replace("}", "")
        sent = {"content-type": "junk/junk", "origin": f"http://{HOST}"} | dict(headers)
        if path not in TABLE["roboflow"]:
            sent["content-encoding"] = "junk"
        query = f"junk=1&workspace={workspace}" if path in TABLE["vision"] else "junk=1"
        return asyncio.run(ask(self.app, method, f"{filled}?{query}", b"{}", headers=sent)).status


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    async def made() -> World:
        return World(tmp_path_factory.mktemp("spool"))

    return asyncio.run(made())


def expected(who: str, allowed: May | For | None, headers: Mapping[str, str]) -> set[int]:
    """The refusal, if it must be one; else none."""
    known, in_session = who not in UNKNOWN, "cookie" in headers
    match allowed:
        case None:
            return {404, 405}
        case For.EVERYBODY:
            return set()
        case For.KNOWN:
            return set() if known else {401}
        case For.SIGNED_IN:
            return set() if known and in_session else ({400} if known else {401})
        case For.KEY_INGEST | For.KEY_INGEST_OWN:
            own = allowed is For.KEY_INGEST_OWN and who in ELSEWHERE
            may = own or May.INGEST in MAY.get(who, frozenset())
            return (set() if may else {403}) if known and not in_session else {401}
        case For.QUERY_EVERYWHERE:
            return (set() if who in EVERYWHERE else {403}) if known else {401}
        case May():
            return (set() if allowed in MAY.get(who, frozenset()) else {403}) if known else {401}


@pytest.mark.parametrize("who", WHO)
def test_an_endpoint_lets_in_whom_the_table_names_and_nobody_else(world: World, who: str) -> None:
    headers, wrong = world.sent[who], {}
    for path, method, allowed in ENDPOINTS:
        status, refusal = world.status(method, path, headers), expected(who, allowed, headers)
        is_right = status in refusal if refusal else status not in (401, 403, 405) or allowed is For.EVERYBODY
        if not is_right:
            wrong[f"{method} {path}"] = (status, refusal)
    assert wrong == {}


def test_with_a_cookie_nothing_is_changed_for_a_page_of_somebody_else(world: World) -> None:
    headers = world.sent["everywhere's admin"]
    bare = {"cookie": headers["cookie"]}
    foreign = headers | {"origin": "http://evil.example"}
    for path, method, allowed in ENDPOINTS:
        if method in ("GET", "HEAD") or allowed in (None, For.EVERYBODY):
            continue
        for sent in (bare, foreign):
            assert world.status(method, path, sent) == (401 if path in BY_KEY else 403), (method, path, sent)


def test_no_workspace_is_reached_by_another_spelling_of_its_name(world: World) -> None:
    headers = world.sent["another workspace's admin key"]
    for path, method, allowed in ENDPOINTS:
        if isinstance(allowed, May):
            for workspace in ("acme", "%61cme", "ACME", "other%2F..%2Facme", "*", "%2A", "other%00", "."):
                status = world.status(method, path, headers, workspace)
                # 400: that is no workspace's name.
                refusals = (400, 403, 404) if path in TABLE["vision"] else (403, 404)
                assert status in refusals, (method, path, workspace, status)
            assert world.status(method, path, headers, "other") not in (401, 403)


# Completeness


def test_every_part_is_in_the_table() -> None:
    assert TABLE.keys() - {"process"} == PARTS.keys()


def test_every_route_of_the_query_api_is_in_the_table_as_it_declares_itself() -> None:
    declared = {
        (path.replace(":str", ""), str(method)): may_of(route)
        for route in ROUTES
        for path in route.paths
        for method in route.http_methods
    }
    table = {
        (path, method): allowed
        for path, methods in TABLE["query"].items()
        for method, allowed in methods.items()
        if isinstance(allowed, May)
    }
    assert declared == table


def test_every_word_by_which_a_part_finds_its_paths_stands_in_the_table(world: World) -> None:
    for part in (one for one in world.parts if one.name != "query"):
        words = {word for path in _known_paths(part) for word in re.split(r"[/()\[\]^+]+", path) if word}
        written = {word.strip("{}") for path in TABLE[part.name] for word in path.split("/")}
        assert words <= written, part.name


def _known_paths(part: Part) -> Iterator[str]:
    """Texts in its `find`, and keys of the tables that it looks them up in."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(part.find)))
    docstring = ast.get_docstring(tree.body[0]) if isinstance(tree.body[0], ast.FunctionDef) else None
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value != docstring:
            yield node.value
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self":
            found = getattr(part, node.attr, None)
            if isinstance(found, Mapping):
                yield from found
        if isinstance(node, ast.Name):
            found = getattr(inspect.getmodule(part.find), node.id, "")
            yield found.pattern if isinstance(found, re.Pattern) else found if isinstance(found, str) else ""


def test_a_key_at_the_front_door_is_roboflows_question_and_must_be_good(world: World) -> None:
    assert world.status("GET", "/", {"x-api-key": "wrong"}) == 401
    assert world.status("GET", "/", world.sent["query key"]) == 200
