"""Sign-in by OpenID Connect, against a provider that is a process of its own, honest and otherwise."""

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from pipeline.edge.clock import now_ms
from pipeline.edge.local.ports import HOST, free_port
from schemas.access import SignedOut
from tests.in_process import Answer, World
from tests.oidc_provider import CLIENT_ID, CLIENT_SECRET
from tests.tree import ROOT

pytestmark = pytest.mark.slow

ANN = {"sub": "248", "email": "ann@acme.org", "email_verified": True, "groups": ["ml team", "everybody"]}
ROLES = "ml team=acme:operator, everybody=*:viewer, platform=*:admin"


class Provider:
    """As a browser and a test see it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://{HOST}:{port}"

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, str, bytes]:
        """Status, where it sends the browser to, body."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=10)
        try:
            connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.headers.get("Location", ""), response.read()
        finally:
            connection.close()

    def answers(self) -> bool:
        try:
            return self.ask("GET", "/keys")[0] == 200
        except OSError:
            return False


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.oidc_provider", str(port)], cwd=ROOT, stderr=subprocess.DEVNULL
    )
    try:
        one = Provider(port)
        deadline = time.monotonic() + 30
        while not one.answers():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield one
    finally:
        process.kill()
        process.wait()


def world_of(provider: Provider, **more: str) -> World:
    told = {
        "INFERWATCH_PUBLIC_URL": "http://watch.example",
        "INFERWATCH_OIDC_ISSUER": provider.url,
        "INFERWATCH_OIDC_CLIENT_ID": CLIENT_ID,
        "INFERWATCH_OIDC_CLIENT_SECRET": CLIENT_SECRET,
        "INFERWATCH_OIDC_ROLES": ROLES,
    }
    world = World(**(told | more))
    world.clock.ms = now_ms()
    return world


def begin(world: World, provider: Provider, user: dict[str, Any] = ANN, lie: str = "") -> str:
    """To the provider; where that sends the browser back to."""
    provider.ask("POST", "/next", {"user": user, "lie": lie})
    there = world.ask("GET", "/session/oidc?next=/w/acme")
    assert there.status == 303, there.body
    status, back, body = provider.ask("GET", there.headers["location"].removeprefix(provider.url))
    assert status == 302, body
    return back.removeprefix("http://watch.example")


def sign_in(world: World, provider: Provider, user: dict[str, Any] = ANN, lie: str = "") -> Answer:
    return world.ask("GET", begin(world, provider, user, lie))


@pytest.mark.parametrize("lie", ["", "elliptic"])  # both are the truth
def test_whom_the_provider_vouches_for_has_the_roles_of_all_their_groups(provider: Provider, lie: str) -> None:
    world = world_of(provider)
    said = sign_in(world, provider, lie=lie)
    assert (said.status, said.headers["location"]) == (303, "/w/acme"), said.body
    assert world.jar.keys() == {"inferwatch"}
    for app in (world.app, world.process()):
        known = world.whoami(app=app).json
        assert (known["name"], known["by"]) == ("ann@acme.org", "oidc")
        assert known["may"] == {"acme": ["operate", "query"], "*": ["query"]}


LIES = [
    *("nonce", "no nonce", "audience", "two audiences", "issuer", "expired", "not yet", "no expiry", "other token"),
    *("none", "public key as secret", "stranger", "unsigned"),
]


@pytest.mark.parametrize("lie", LIES)
def test_a_token_that_is_not_for_us_now_or_not_the_providers_signs_nobody_in(provider: Provider, lie: str) -> None:
    world = world_of(provider)
    said = sign_in(world, provider, lie=lie)
    assert (said.status, said.json["reason"]) == (401, "not_vouched")
    assert "inferwatch" not in world.jar
    assert sign_in(world, provider).status == 303  # and the next one is none the worse


def test_who_declines_is_not_signed_in(provider: Provider) -> None:
    assert sign_in(world_of(provider), provider, lie="no").json["reason"] == "provider_refused"


def test_an_answer_is_for_the_browser_that_asked_and_only_once(provider: Provider) -> None:
    world, stranger = world_of(provider), world_of(provider)
    back = begin(world, provider)
    assert stranger.ask("GET", back).json["reason"] == "no_sign_in"
    begin(stranger, provider)
    assert stranger.ask("GET", back).json["reason"] == "no_sign_in"  # of another sign-in
    kept = dict(world.jar)
    assert world.ask("GET", back).status == 303
    world.jar = kept
    assert world.ask("GET", back).json["reason"] == "not_vouched"  # the code is used
    late = begin(world, provider)
    world.clock.ms += 10 * 60_000
    assert world.ask("GET", late).json["reason"] == "no_sign_in"


def test_another_ones_code_is_good_for_nobody_else(provider: Provider) -> None:
    """Put into the answer to one's own sign-in: the verifier does not fit."""
    victim, thief = world_of(provider), world_of(provider)
    code = parse_qs(urlsplit(begin(victim, provider)).query)["code"][0]
    state = parse_qs(urlsplit(begin(thief, provider)).query)["state"][0]
    assert thief.ask("GET", f"/session/oidc/callback?code={code}&state={state}").json["reason"] == "not_vouched"


def test_a_person_of_no_known_group_has_no_role_here(provider: Provider) -> None:
    for groups in ([], ["strangers"], "strangers", None, [7, {"ml team": 1}], {"ml team": True}):
        said = sign_in(world_of(provider), provider, {"sub": "9", "groups": groups})
        assert (said.status, said.json["reason"]) == (403, "no_role")


@pytest.mark.parametrize(
    ("user", "told", "name"),
    [
        ({"sub": "1", "email": "boss@acme.org", "email_verified": False, "groups": "everybody"}, {}, "1"),
        ({"sub": "1", "groups": "everybody"}, {}, "1"),
        ({"sub": "1", "email": ["x"], "groups": "everybody"}, {}, "1"),
        (
            {"sub": "1", "nick": "<b>'x", "roles": ["everybody"]},
            {"NAME_CLAIM": "nick", "ROLES_CLAIM": "roles"},
            "<b>'x",
        ),
        ({"sub": "1", "a": {"b": ["everybody"]}}, {"ROLES_CLAIM": "a.b"}, "1"),
        ({"sub": "1", "https://a.b/c": ["everybody"]}, {"ROLES_CLAIM": "https://a.b/c"}, "1"),
    ],
)
def test_names_and_roles_are_where_the_settings_say(
    provider: Provider, user: dict[str, Any], told: dict[str, str], name: str
) -> None:
    world = world_of(provider, **{f"INFERWATCH_OIDC_{key}": value for key, value in told.items()})
    assert sign_in(world, provider, user).status == 303
    assert world.whoami().json["name"] == name


def test_a_provider_that_is_another_one_is_not_believed(provider: Provider) -> None:
    provider.ask("POST", "/next", {"lie": "discovery"})
    world = world_of(provider)
    assert world.ask("GET", "/session/oidc").json["reason"] == "provider_failed"
    assert sign_in(world, provider).status == 303


def test_without_its_provider_nobody_is_signed_in_that_way(provider: Provider) -> None:
    world = world_of(provider, INFERWATCH_OIDC_ISSUER=f"http://{HOST}:{free_port()}")
    assert world.ask("GET", "/session/oidc").status == 502
    assert World().ask("GET", "/session/oidc").status == 404


def test_roles_follow_the_settings_and_a_sign_out_holds(provider: Provider) -> None:
    world = world_of(provider)
    sign_in(world, provider)
    jar = dict(world.jar)
    for told in (
        {"INFERWATCH_OIDC_ROLES": "platform=*:admin"},
        {"INFERWATCH_OIDC_CLIENT_ID": "other"},
        {},
    ):
        changed = world_of(provider, **told)
        changed.jar = dict(jar)
        assert changed.whoami().json.get("may", {}) == (world.whoami().json["may"] if not told else {})
    world.topic.put(SignedOut(who="oidc/ann@acme.org", until_ms=world.clock.ms))
    assert world.whoami().json["reason"] == "session_over"


def test_the_tests_are_of_this_machine_alone() -> None:
    assert not os.environ.get("HTTP_PROXY"), "a proxy would be asked for 127.0.0.1"
