"""Sessions: their cookies, how they end, what a page of somebody else cannot do, and how slow guessing is."""

import asyncio
from typing import Any

import orjson
import pytest
from msgspec.structs import replace

from pipeline.web.access import credentials, once
from pipeline.web.access.attempts import Attempts
from pipeline.web.access.book import AccessBook
from pipeline.web.access.sessions import By, Seal, Sessions
from pipeline.web.access.visits import Visit, Visits, cookie, is_foreign, is_same_origin, networks
from pipeline.web.session.part import WAITING_MAX
from schemas.access import Scope, SignedOut, UserRole
from tests.in_process import ANN, CHEAP, HOST, NOW, OURS, PASSWORD, SECRET, World, ask

MINUTE, HOUR = 60_000, 3_600_000


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "_hasher", CHEAP)
    monkeypatch.setattr(credentials, "_nobodys_hash", lambda: ANN.password_hash)


# From the password to the end of the session


def test_a_person_signs_in_and_every_process_knows_who_it_is_and_what_they_may() -> None:
    world = World()
    said = world.sign_in(headers=OURS)
    assert said.status == 200, said.body
    for app in (world.app, world.process()):
        known = world.whoami(app=app).json
        assert known == said.json
        assert (known["name"], known["by"]) == ("ann@acme.org", "password")
        assert known["may"] == {"acme": ["operate", "query"]}
    assert "HttpOnly" in said.headers["set-cookie"]
    assert "SameSite=Lax" in said.headers["set-cookie"]
    assert said.headers["cache-control"] == "no-store"


def test_who_has_no_session_and_no_key_is_nobody() -> None:
    assert World().whoami().status == 401


@pytest.mark.parametrize("name", ["ann@acme.org", "nobody", "", "x" * 5000, "'; --\x00"])
def test_a_wrong_password_says_nothing_of_the_name(name: str) -> None:
    said = World().sign_in("wrong password", name)
    assert (said.status, said.json["reason"]) == (401, "wrong_password")
    assert said.cookies == {}


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"name=ann&password=x", "application/x-www-form-urlencoded", 415),  # what a form elsewhere could send
        (b'{"name":"a","password":"b"}', "text/plain", 415),
        (b"{", "application/json", 400),
        (b'{"name":7}', "application/json", 400),
        (b'{"user":"ann"}', "application/json", 400),
        (b'{"name":"\xff"}', "application/json", 400),
        (b"[" * 16_000, "application/json", 400),
        (b'{"name":"' + b"a" * 20_000, "application/json", 413),
    ],
)
def test_a_body_that_is_no_sign_in_is_refused(body: bytes, kind: str, status: int) -> None:
    said = asyncio.run(ask(World().app, "POST", "/v1/session", body, headers={"content-type": kind}))
    assert said.status == status


def test_a_session_slides_while_it_is_used_and_ends_when_it_is_idle_or_old() -> None:
    world = World()
    world.sign_in()
    first = world.jar["inferwatch"]
    world.clock.ms += MINUTE
    assert world.whoami().cookies == {}  # not a new cookie with each request
    for _ in range(5):
        world.clock.ms += 118 * MINUTE
        assert world.whoami().status == 200
    assert world.jar["inferwatch"] != first
    world.clock.ms += 120 * MINUTE
    assert world.whoami().json["reason"] == "session_over"
    world = World()
    world.sign_in()
    for _ in range(11):
        world.clock.ms += HOUR
        assert world.whoami().status == 200
    world.clock.ms += HOUR
    assert world.whoami().status == 401


def test_what_a_session_was_begun_by_must_not_change_anywhere() -> None:
    changes: list[Any] = [
        replace(ANN, password_hash=credentials.hash_password("another good password")),
        replace(ANN, roles={"acme": UserRole.ADMIN}),
        replace(ANN, roles={}),
        replace(ANN, created_at_ms=NOW + 1),  # deleted, and made again
        SignedOut(who="user/ann@acme.org", until_ms=NOW),
    ]
    for change in changes:
        world = World()
        world.sign_in()
        world.topic.put(SignedOut(who="user/bob", until_ms=NOW + HOUR), ANN)  # nothing has changed
        assert world.whoami().status == 200
        world.topic.put(change)
        for app in (world.app, world.process()):
            assert world.whoami(app=app).json["reason"] == "session_over", change
    world = World()
    world.sign_in()
    world.topic.delete(ANN)
    assert world.whoami().status == 401


def test_who_was_signed_out_everywhere_can_sign_in_again() -> None:
    world = World()
    world.topic.put(SignedOut(who="user/ann@acme.org", until_ms=NOW))
    world.clock.ms += 1
    world.sign_in()
    assert world.whoami().status == 200


def test_a_cookie_with_one_letter_changed_is_nobodys() -> None:
    sessions = Sessions.of(SECRET, HOUR, HOUR)
    sound = sessions.sealed(sessions.begin(By.LOCAL, "local", "", NOW))
    for at in range(len(sound) - 1):  # some bits of the last letter mean nothing
        changed = sound[:at] + ("A" if sound[at] != "A" else "B") + sound[at + 1 :]
        assert sessions.opened(changed, NOW) is None, at


@pytest.mark.parametrize("text", ["", ".", "a.b", "e30.e30", "é.é", "=.=", "." * 5000, "x" * 5000, "\x00.\x00"])
def test_what_is_no_cookie_of_ours_is_nobodys(text: str) -> None:
    world = World()
    world.jar = {"inferwatch": text, "inferwatch_device": text}
    assert world.whoami().status == 401
    assert world.sign_in().status == 200


def test_a_text_sealed_for_one_purpose_or_by_another_key_is_not_good_for_another() -> None:
    sessions = Sessions.of(SECRET, HOUR, HOUR)
    session = sessions.begin(By.LOCAL, "local", "", NOW)
    assert sessions.opened(sessions.sealed(session), NOW) == session
    for seal in (Seal(SECRET, "device"), Seal(SECRET + "x", "session")):
        assert sessions.opened(seal.seal(session), NOW) is None
    assert sessions.opened(sessions.sealed(replace(session, seen_at_ms=NOW + 10 * MINUTE)), NOW) is None


def test_a_key_opens_a_session_that_ends_with_the_key() -> None:
    world = World(INFERWATCH_WEB_API_KEY="local-key")
    made = credentials.make_key("console", "acme", [Scope.QUERY], NOW)
    world.topic.put(made.key)
    assert world.ask("POST", "/v1/session", {"api_key": made.text}).status == 200
    assert world.whoami().json["may"] == {"acme": ["query"]}
    rotated = credentials.rotate_key(made.key, NOW, HOUR)
    world.topic.put(rotated.key)
    assert world.whoami().status == 200
    world.clock.ms += HOUR
    assert world.whoami().status == 401
    assert world.ask("POST", "/v1/session", {"api_key": rotated.text}).status == 200
    world.topic.delete(made.key)
    assert world.whoami().status == 401
    assert world.ask("POST", "/v1/session", {"api_key": rotated.text}).json["reason"] == "wrong_key"
    assert world.ask("POST", "/v1/session", {"api_key": "local-key"}).json["name"] == "local"


# Pages of somebody else


def test_what_changes_something_must_come_from_a_page_of_ours_and_know_the_token() -> None:
    world = World()
    token = {"x-inferwatch-csrf": world.sign_in().json["csrf"]}
    refused: list[dict[str, str]] = [
        {},
        token,
        OURS,
        OURS | {"x-inferwatch-csrf": "wrong"},
        OURS | {"x-inferwatch-csrf": "é"},
        token | {"origin": "http://evil.example"},
        token | {"origin": "null"},
        token | {"sec-fetch-site": "cross-site"},
        token | {"sec-fetch-site": "same-site"},
        token | {"sec-fetch-site": "none"},
        token | OURS | {"sec-fetch-site": "cross-site"},
        token | OURS | {"origin": f"http://{HOST}.evil.example"},
        token | OURS | {"origin": f"http://{HOST}:81"},
    ]
    for headers in refused:
        assert world.ask("DELETE", "/v1/session", headers=headers).status == 403, headers
    assert world.whoami().status == 200
    other = World()
    other.sign_in()
    assert other.ask("DELETE", "/v1/session", headers=OURS | token).status == 403  # of another session
    assert world.ask("DELETE", "/v1/session", headers=OURS | token).status == 200
    assert world.whoami().json["reason"] == "no_key"


def test_a_page_of_somebody_else_signs_nobody_in() -> None:
    for headers in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}):
        assert World().sign_in(headers=headers).json["reason"] == "foreign_origin"


def test_a_key_needs_no_token_and_counts_before_a_cookie() -> None:
    world = World(INFERWATCH_WEB_API_KEY="local-key")
    world.sign_in()
    assert world.whoami(headers={"authorization": "Bearer local-key"}).json["by"] == "key"
    assert world.whoami(headers={"authorization": "Bearer wrong"}).status == 401
    said = world.ask("DELETE", "/v1/session", headers={"authorization": "Bearer local-key"})
    assert said.json["reason"] == "no_session"


@pytest.mark.parametrize(
    ("headers", "secure", "ours"),
    [
        ({b"origin": b"https://watch.example"}, True, True),
        ({b"origin": b"https://watch.example"}, False, True),
        ({b"origin": b"http://watch.example"}, True, False),  # somebody on the net between
        ({b"sec-fetch-site": b"same-origin"}, True, True),
        ({}, True, False),
    ],
)
def test_an_origin_is_ours_by_host_and_behind_tls_by_scheme(
    headers: dict[bytes, bytes], secure: bool, ours: bool
) -> None:
    visit = Visit("192.0.2.1", secure, "watch.example")
    assert is_same_origin(visit, headers) is ours
    assert is_foreign(visit, headers) is (bool(headers) and not ours)


# Balancers


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),  # nobody whom we trust says so
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "6.6.6.6, 198.51.100.1, 10.0.0.2", "198.51.100.1"),  # what the client wrote itself does not count
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", " , ", "10.0.0.1"),
        ("10.0.0.1", "junk", "unknown"),
        ("::ffff:10.0.0.1", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::7", "", "2001:db8:1:2::/64"),
    ],
)
def test_an_address_is_what_trusted_balancers_say(peer: str, forwarded: str, address: str) -> None:
    visits = Visits(networks("10.0.0.0/8"), "")
    headers = {b"x-forwarded-for": forwarded.encode(), b"x-forwarded-proto": b"https", b"host": b"h"}
    visit = visits.of({"client": (peer, 1), "scheme": "http"}, headers)
    assert visit == Visit(address, not peer.startswith("2"), "h")


def test_behind_tls_a_cookie_is_secure_and_set_by_this_host_alone() -> None:
    visit = Visits([], "https://watch.example").of({"client": ("::1", 1)}, {})
    assert cookie(visit, "inferwatch", "v") == b"__Host-inferwatch=v; Path=/; HttpOnly; SameSite=Lax; Secure"
    world = World(INFERWATCH_PUBLIC_URL="https://watch.example")
    world.sign_in()
    assert world.whoami().status == 200
    world.jar = {"inferwatch": world.jar["__Host-inferwatch"]}  # as a neighbour under the same domain could plant it
    assert world.whoami().status == 401


# Guessing


def test_guessing_is_slow_for_an_address_and_for_a_name() -> None:
    world = World()
    statuses = [world.sign_in("wrong password", client="198.51.100.1").status for _ in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    said = world.sign_in(client="198.51.100.1")
    assert said.status == 429
    assert int(said.headers["retry-after"]) <= 30
    assert world.sign_in(client="198.51.100.2").status == 200  # one address locks nobody out
    attempts = Attempts(SECRET)
    waits = [attempts.wait_s("ann", f"10.0.{n}.1", "", NOW) for n in range(60)]
    assert [wait_s == 0 for wait_s in waits] == [True] * 50 + [False] * 10


def test_who_has_signed_in_here_before_gets_in_while_all_the_world_guesses() -> None:
    world = World()
    world.sign_in()
    device = world.jar["inferwatch_device"]
    world.jar = {}
    for n in range(55):
        world.sign_in("wrong password", client=f"10.0.{n}.1")
    assert world.sign_in(client="198.51.100.9").status == 429
    world.jar = {"inferwatch_device": device}
    assert world.sign_in(client="198.51.100.9").status == 200
    world.jar = {"inferwatch_device": device}  # which is good for that name alone, and not for ever
    assert world.sign_in("wrong password", "bob", client="10.0.1.1").status == 401
    statuses = [world.sign_in("wrong password", client="198.51.100.9").status for _ in range(12)]
    assert statuses.count(401) <= 10


def test_what_succeeds_does_not_count_as_a_guess() -> None:
    world = World()
    assert {world.sign_in().status for _ in range(30)} == {200}


def test_passwords_are_looked_at_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    running, most = 0, 0

    async def slow(self: AccessBook, name: str, password: str) -> object:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(20):
            await asyncio.sleep(0)
        running -= 1
        return self.claimant(name, [])

    monkeypatch.setattr(AccessBook, "person", slow)

    async def many(world: World) -> list[int]:
        body = orjson.dumps({"name": ANN.name, "password": PASSWORD})
        kind = {"content-type": "application/json"}
        asked = [
            ask(world.app, "POST", "/v1/session", body, headers=kind, client=f"10.0.{n}.1")
            for n in range(WAITING_MAX + 10)
        ]
        return [said.status for said in await asyncio.gather(*asked)]

    statuses = asyncio.run(many(World()))
    assert most == 2
    assert statuses.count(503) == 10


# One-time links


def link(world: World) -> str:
    return once.link("", SECRET, world.clock.ms)


def test_a_link_signs_in_once_and_for_some_minutes_only() -> None:
    world = World(INFERWATCH_WEB_API_KEY="local-key", INFERWATCH_WEB_ONCE_LINKS="true")
    one = link(world)
    said = world.ask("GET", one + "&next=/w/default?a=1")
    assert (said.status, said.headers["location"]) == (303, "/w/default?a=1"), said.body
    assert said.headers["referrer-policy"] == "no-referrer"
    assert set(world.whoami().json["may"]) == {"*"}
    assert world.ask("GET", one).json["reason"] == "link_used"
    late = link(world)
    world.clock.ms += 10 * MINUTE
    assert world.ask("GET", late).status == 401
    early = link(world)
    world.clock.ms += 1
    assert world.ask("GET", early, app=world.process()).status == 401  # which does not know whether it was used
    assert world.ask("GET", "/session/once?token=" + Seal("x", "one-time link").seal({"id": "a"})).status == 401


@pytest.mark.parametrize(
    "path", ["//evil.example", "/\\evil.example", "https://evil.example", "/a\r\nb", "", "x", "/é"]
)
def test_a_link_leads_to_pages_of_ours_only(path: str) -> None:
    world = World(INFERWATCH_WEB_API_KEY="local-key", INFERWATCH_WEB_ONCE_LINKS="true")
    assert world.ask("GET", link(world) + "&next=" + path.replace("\r\n", "%0D%0A")).headers["location"] == "/"


def test_links_are_for_who_asks_for_them() -> None:
    for told in ({"INFERWATCH_WEB_API_KEY": "k"}, {"INFERWATCH_WEB_ONCE_LINKS": "true"}):
        world = World(**told)
        assert world.ask("GET", link(world)).status == 404
