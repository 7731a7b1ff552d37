"""The HTTP side operates the pipeline: rules, alerts, silences, views, dead letters, on the real engines."""

import base64
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline.config import Settings
from pipeline.edge.kafka.compacted import read_rules
from schemas.access import Scope
from schemas.rule import Rule
from schemas.topics import EVENTS
from tests.integration.http_side import HttpSide, Said, http_side, new_key
from tests.integration.outside import connect, kafka_says
from tests.integration.test_dead_letters import LONG, everything, refuse
from tests.integration.windows import BAD, GOOD, Windows
from tests.integration.workers import eventually, fleet

pytestmark = pytest.mark.integration

RULE = {
    "metric": "confidence_mean",
    "operator": "<",
    "threshold": 0.72,
    "window_s": 60,
    "hold_s": 10,
    "recipients": ["pagerduty:0123456789abcdef0123456789abcdef"],
}
Ask = Callable[..., Said]


def asking(web: HttpSide, workspace: str, **more: Any) -> Ask:
    """Requests about one workspace; a body is JSON."""

    def ask(method: str, path: str, body: Any = None, **headers: Any) -> Said:
        raw = b"" if body is None else orjson.dumps(body)
        return web.ask(method, f"/v1/{workspace}/{path}", raw, **more, **headers)

    return ask


def refused(said: Said, status: int, reason: str) -> dict[str, Any]:
    assert (said.status, said.json["reason"]) == (status, reason), said.body
    return dict(said.json)


def test_a_rule_fires_and_its_alert_is_taken_silenced_and_looked_up(world: Settings, tmp_path: Path) -> None:
    log = Windows(world)
    with http_side(world, tmp_path / "web") as web, fleet(world, tmp_path) as workers:
        acme = asking(web, "acme")
        _rule_is_put(acme)
        started = [workers.start(role) for role in ("detector", "recorder")]
        workers.wait_ready(*started)
        log.play({"helmets/3": GOOD, "vests/1": GOOD}, 6)
        log.play({"helmets/3": BAD, "vests/1": GOOD}, 4)

        def alert(state: str) -> dict[str, Any]:
            found: list[dict[str, Any]] = []

            def stands() -> bool:
                found[:] = acme("GET", f"alerts?filter=model:helmets%20rule:low%20state:{state}").json["items"]
                return len(found) == 1

            eventually(stands, 30, state, lambda: acme("GET", "alerts").body)
            return found[0]

        firing = alert("firing")
        path = f"alerts/{firing['fingerprint']}"
        assert firing["threshold"] == 0.72
        said = acme("POST", f"{path}/ack", {"comment": "mine", "author": "ada"})
        assert (said.status, said.json["author"]) == (202, "ada (local)")
        assert alert("acknowledged")["acknowledged_by"] == "ada (local)"
        refused(acme("POST", f"{path}/ack", {}), 409, "not_now")
        refused(acme("POST", f"{path}/accept", {}), 409, "not_now")
        assert acme("POST", f"{path}/unack", {}).status == 202
        assert alert("firing")["acknowledged_by"] is None
        _is_silenced(acme, firing["fingerprint"])
        _is_history(acme, path)
        _is_nobody_elses(world, web, path)
        assert acme("DELETE", "rules/low").status == 204
        eventually(
            lambda: acme("GET", "alerts").json["items"] == [], 30, "resolved", lambda: acme("GET", "alerts").body
        )
        workers.end_all()


def _rule_is_put(acme: Ask) -> None:
    wrong = refused(acme("PUT", "rules/low", RULE | {"threshold": 72, "recipients": ["mailto:@"]}), 422, "invalid")
    assert {one["field"] for one in wrong["mistakes"]} == {"threshold", "recipients[0]"}
    refused(acme("PUT", "rules/low", RULE | {"workspace": "rival"}), 422, "invalid")
    made = acme("PUT", "rules/low", RULE | {"threshold": 0.5}, if_none_match="*")
    assert made.status == 200, made.body
    refused(acme("PUT", "rules/low", RULE, if_none_match="*"), 412, "exists")
    refused(acme("PUT", "rules/low", RULE), 428, "version_needed")
    refused(acme("PUT", "rules/low", RULE, if_match='"0"'), 412, "changed")
    etag = next(value for name, value in made.headers.items() if name.lower() == "etag")
    changed = acme("PUT", "rules/low", RULE, if_match=etag)
    assert changed.json["rule"]["threshold"] == 0.72
    refused(acme("PUT", "rules/low", RULE, if_match=etag), 412, "changed")
    assert acme("GET", "rules").json["items"] == [changed.json]
    [reached] = acme("POST", "rules/low/send-test").json["recipients"]
    assert reached["recipient"].startswith("pagerduty:***")
    assert not reached["sent"]


def _is_silenced(acme: Ask, fingerprint: str) -> None:
    wanted = {"matchers": [{"name": "model_id", "value": "helmets/.*", "is_regex": True}], "for_s": 3600}
    refused(
        acme("POST", "silences", {"matchers": [{"name": "a", "value": "(", "is_regex": True}], "for_s": 1}),
        422,
        "invalid",
    )
    tried = acme("POST", "silences", wanted | {"dry_run": True}).json
    assert (tried["made"], tried["hit_count"], tried["hits"][0]["fingerprint"]) == (False, 1, fingerprint)
    made = acme("POST", "silences", wanted)
    assert made.status == 201
    assert {"name": "workspace", "value": "acme", "is_regex": False, "is_equal": True} in made.json["silence"][
        "matchers"
    ]
    name = made.json["silence"]["id"]
    assert [one["id"] for one in acme("GET", "silences").json["items"]] == [name]
    assert acme("GET", "alerts").json["items"][0]["silenced_by"] == name
    assert acme("DELETE", f"silences/{name}").status == 204
    assert acme("GET", "alerts").json["items"][0]["silenced_by"] is None


def _is_history(acme: Ask, path: str) -> None:
    def past() -> list[dict[str, Any]]:
        return list(acme("GET", "alerts/history?filter=rule:low&limit=1").json["items"])

    eventually(
        lambda: [one["state"] for one in past()] == ["firing"], 30, "rows", lambda: acme("GET", "alerts/history").body
    )
    [known] = past()
    assert known["fired_at"] >= known["starts_at"]
    told = acme("GET", path).json
    assert [step["state"] for step in told["steps"]] == ["pending", "firing", "acknowledged", "firing"]
    assert [step["sequence"] for step in told["steps"]] == [1, 2, 3, 4]
    assert acme("GET", f"{path}?episode=7").status == 404

    def tried() -> dict[str, Any]:
        said = acme("POST", "rules/test", {"rule": RULE | {"threshold": 0.8}, "days": 1})
        return dict(said.json)

    eventually(lambda: tried().get("fired") == 1, 30, "windows are rows", tried)
    assert (tried()["whole"], tried()["firings"][0]["model_id"]) == (True, "helmets/3")
    state = acme("GET", "pipeline").json
    assert {one["role"]: one["members"] for one in state["roles"]} == {
        "aggregator": 0, "recorder": 1, "detector": 1, "notifier": 0,
    }  # fmt: skip
    assert {(one["role"], one["lag_s"]) for one in state["partitions"] if not one["lag"]} == {
        ("aggregator", 0.0), ("recorder", 0.0),
    }  # fmt: skip


def _is_nobody_elses(world: Settings, web: HttpSide, path: str) -> None:
    _, key = new_key(world, [Scope.ADMIN], "rival")
    rival = asking(web, "rival", key=key)
    eventually(lambda: rival("GET", "alerts").status == 200, 10, "the key is known")
    assert rival("GET", "alerts").json["items"] == rival("GET", "alerts/history").json["items"] == []
    assert rival("GET", "rules").json["items"] == []
    for method, other in (
        ("GET", path),
        ("GET", "rules/low"),
        ("DELETE", "rules/low"),
        ("POST", "rules/low/send-test"),
    ):
        assert rival(method, other).status == 404
    assert rival("POST", f"{path}/ack", {}).status == 404
    refused(rival("PUT", "rules/low", RULE), 409, "taken")
    assert asking(web, "acme", key=key)("GET", "rules").status == 403
    _, viewer = new_key(world, [Scope.QUERY])
    acme = asking(web, "acme", key=viewer)
    eventually(lambda: acme("GET", "rules").status == 200, 10, "the key is known")
    assert acme("GET", "rules/low").json["rule"]["recipients"] == ["pagerduty:***"]
    assert acme("PUT", "rules/low", RULE, if_match="*").status == 403
    assert acme("POST", f"{path}/ack", {}).status == 403


def test_of_two_people_at_two_processes_one_changes_a_record_and_the_other_looks_again(
    world: Settings, tmp_path: Path
) -> None:
    with http_side(world, tmp_path / "1") as one, http_side(world, tmp_path / "2") as other:
        ada, bob = asking(one, "acme"), asking(other, "acme")
        made = ada("PUT", "views/low", {"name": "Low", "query": {"filter": "confidence:<0.5"}}, if_none_match="*")
        assert (made.status, made.json["author"]) == (200, "local")
        eventually(lambda: bob("GET", "views/low").status == 200, 10, "the other process follows")
        version = bob("GET", "views/low").json["version"]
        assert version == made.json["version"]
        first = ada("PUT", "views/low", {"name": "Lower"}, if_match=version)
        second = bob("PUT", "views/low", {"name": "Lowest"}, if_match=version)
        assert (first.status, second.status) == (200, 412)
        eventually(lambda: bob("GET", "views/low").json == first.json, 10, "both show the first")
        assert ada("GET", "views/low").json == first.json
        mistakes = refused(ada("PUT", "views/x", {"nam": "x", "page": "A b"}), 422, "invalid")["mistakes"]
        assert [mistake["field"] for mistake in mistakes] == ["nam", "name", "page"]
        assert asking(one, "rival")("GET", "views").json["items"] == []
        assert asking(one, "rival")("DELETE", "views/low").status == 404
        assert [view["id"] for view in ada("GET", "views").json["items"]] == ["low"]
        assert ada("DELETE", "views/low", if_match=first.json["version"]).status == 204
        rule = ada("PUT", "rules/r", RULE)
        assert rule.status == 200
        [stored] = kafka_says(world, read_rules).values()
        assert isinstance(stored, Rule)
        assert (stored.rule_id, stored.workspace) == ("r", "acme")


def test_dead_letters_are_listed_in_pages_shown_whole_and_sent_again(world: Settings, tmp_path: Path) -> None:
    mine, anybodys = b'{"workspace":"acme","model_id":3}', b"\xff\xfe"
    with closing(connect(world, "writer")) as client:
        offsets = refuse(world, client, [mine, anybodys, LONG, b'{"workspace":"rival"}'])
    topic = world.topic(EVENTS.name)
    with http_side(world, tmp_path) as web:
        acme, everybody = asking(web, "acme"), asking(web, "*")
        [letter] = acme("GET", f"dead-letters?reason=not_json&topic={EVENTS.name}").json["items"]
        assert (letter["topic"], letter["offset"], letter["value"]) == (topic, offsets[0], mine.decode())
        found, cursor = [], ""
        while True:
            page = everybody("GET", f"dead-letters?limit=3{cursor}").json
            found += page["items"]
            if page["next"] is None:
                break
            cursor = f"&cursor={page['next']}"
        assert sorted(one["offset"] for one in found) == offsets
        assert {one["offset"]: one["value"] for one in found}[offsets[1]] is None
        whole = everybody("GET", f"dead-letters/{EVENTS.name}/0/{offsets[2]}").json
        assert base64.b64decode(whole["value_base64"]) == LONG
        assert acme("GET", f"dead-letters/{EVENTS.name}/0/{offsets[2]}").status == 404
        _is_behind(acme)
        places = [{"topic": topic, "partition": 0, "offset": offset} for offset in offsets[:2]]
        assert acme("POST", "dead-letters/replay", {"places": places, "dry_run": True}).json["due"] == 1
        assert everybody("POST", "dead-letters/replay", {"places": places}).json["sent"] == 2
        assert everybody("POST", "dead-letters/replay", {"places": places}).json == {
            "due": 0, "sent": 0, "gone": [], "refused": [],
        }  # fmt: skip
        assert [record.value for record in everything(world) if record.headers] == [mine, anybodys]
        refused(acme("GET", "dead-letters?cursor=x"), 400, "bad_cursor")
        refused(acme("GET", "dead-letters?from=yesterday"), 400, "bad_time")


def _is_behind(acme: Ask) -> None:
    """Nobody has recorded the four."""
    [waits] = [one for one in acme("GET", "pipeline").json["partitions"] if one["role"] == "recorder" and one["lag"]]
    assert waits["lag"] == 4
    assert 0 < waits["lag_s"] < 120
    audit = acme("GET", "pipeline/audit?wait_s=0").json
    assert not audit["ok"]
    assert "events recorded" in {check["name"] for check in audit["checks"] if not check["ok"]}
    assert any(check["findings"] for check in audit["checks"])
    assert acme("GET", "pipeline").json["audit"]["at"] == audit["at"]
