"""inferwatch keys and users, as an operator types them, and what every HTTP process makes of it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from pipeline.config import Settings, to_environ
from schemas.topics import ACCESS
from tests.integration.http_side import HttpSide, event, http_side, on_topic
from tests.integration.workers import eventually

pytestmark = pytest.mark.integration

PASSWORD = "correct horse battery"


def typed(settings: Settings, *words: str, given: str = "", code: int = 0) -> Any:
    """What a verb says: JSON where it was asked for."""
    done = subprocess.run(
        [sys.executable, "-m", "agents", *words],
        env=os.environ | to_environ(settings),
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == code, done.stderr
    return orjson.loads(done.stdout) if "--json" in words else done.stdout + done.stderr


def test_a_key_lives_from_its_making_to_its_end_in_every_process(world: Settings, tmp_path: Path) -> None:
    with http_side(world, tmp_path / "1") as one, http_side(world, tmp_path / "2") as other:

        def takes(key: str, status: int = 200, workspace: str = "acme") -> None:
            for web in (one, other):
                path = f"/v1/{workspace}/events"
                eventually(lambda: web.post(path, [event("e")], key=key).status == status, 10, f"{status}")  # noqa: B023

        made = typed(world, "keys", "create", "hall 2", "--workspace", "acme", "--expires", "90d", "--json")
        assert (made["scopes"], made["workspace"], made["used_at_ms"]) == (["ingest"], "acme", None)
        takes(made["api_key"])
        takes(made["api_key"], 403, "other")
        rotated = typed(world, "keys", "rotate", made["id"], "--grace", "1h", "--json")
        takes(rotated["api_key"])
        takes(made["api_key"])
        again = typed(world, "keys", "rotate", made["id"], "--grace", "0s", "--json")
        takes(rotated["api_key"], 401)
        takes(made["api_key"], 401)
        takes(again["api_key"])
        [listed] = typed(world, "keys", "list", "--json")
        assert listed.keys() == made.keys() - {"api_key"}
        assert "revoked" in typed(world, "keys", "revoke", made["id"])
        takes(again["api_key"], 401)
    assert typed(world, "keys", "list", "--json") == []
    assert "there is no key" in typed(world, "keys", "revoke", made["id"], code=1)


def test_a_person_is_made_given_roles_and_forgotten(world: Settings) -> None:
    made = typed(world, "users", "create", "ann@acme.org", "--role", "acme=viewer", "--json", given=PASSWORD + "\n")
    assert made["roles"] == {"acme": "viewer"}
    assert "already" in typed(world, "users", "create", "ann@acme.org", "--role", "a=viewer", given=PASSWORD, code=2)
    assert "12 characters" in typed(world, "users", "create", "bob", "--role", "a=viewer", given="short\n", code=2)
    assert "expected" in typed(world, "users", "create", "bob", "--role", "a=king", given=PASSWORD, code=2)
    roles = ["--role", "acme=operator", "--role", "*=viewer"]
    assert typed(world, "users", "grant", "ann@acme.org", *roles, "--json")["roles"] == {
        "acme": "operator",
        "*": "viewer",
    }
    [stored] = on_topic(world, ACCESS)[-1:]
    assert stored["password_hash"].startswith("$argon2id$")
    typed(world, "users", "password", "ann@acme.org", given="another good password\n")
    assert on_topic(world, ACCESS)[-1]["password_hash"] != stored["password_hash"]
    assert [user["name"] for user in typed(world, "users", "list", "--json")] == ["ann@acme.org"]
    typed(world, "users", "delete", "ann@acme.org")
    assert typed(world, "users", "list", "--json") == []
    assert "there is no user" in typed(world, "users", "delete", "ann@acme.org", code=1)


def test_a_session_holds_in_every_process_until_it_is_ended_in_any(world: Settings, tmp_path: Path) -> None:
    settings = world.model_copy(update={"web_session_key": SecretStr("of the tests, the same for each process")})
    typed(settings, "users", "create", "ann", "--role", "acme=viewer", given=PASSWORD + "\n")
    with http_side(settings, tmp_path / "1") as one, http_side(settings, tmp_path / "2") as other:

        def sign_in(password: str = PASSWORD) -> dict[str, Any]:
            said = one.ask("POST", "/v1/session", orjson.dumps({"name": "ann", "password": password}), key=None)
            assert said.status == 200, said.body
            cookies = [text.partition(";")[0] for text in said.all("set-cookie")]
            return {"Cookie": "; ".join(cookies), "Origin": one.url, "X_Inferwatch_Csrf": said.json["csrf"]}

        def status(web: HttpSide, browser: dict[str, Any]) -> int:
            return web.ask("GET", "/v1/session", key=None, **browser).status

        def ends(browser: dict[str, Any]) -> None:
            eventually(lambda: {status(web, browser) for web in (one, other)} == {401}, 20, "the session is over")

        ann = sign_in()
        for web in (one, other):
            known = web.ask("GET", "/v1/session", key=None, **ann)
            assert known.json["may"] == {"acme": ["query"]}
        assert (
            one.ask("DELETE", "/v1/session?everywhere=1", key=None, **(ann | {"Origin": "http://evil"})).status == 403
        )
        assert one.ask("DELETE", "/v1/session?everywhere=1", key=None, **ann).status == 200
        ends(ann)
        ann = sign_in()
        typed(settings, "users", "sign-out", "ann")
        ends(ann)
        ann = sign_in()
        typed(settings, "users", "password", "ann", given="another good password\n")
        ends(ann)
        assert sign_in("another good password")
