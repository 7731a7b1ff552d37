"""Who has seen what: the versions by which records are changed over HTTP. And answers that many share."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipeline.web.asgi import Refused
from pipeline.web.board.records import Kept
from pipeline.web.query import changes
from pipeline.web.query.alerts import author_of
from pipeline.web.query.changes import no_mistakes, otherwise, read, seen_by
from pipeline.web.query.shared_answer import SharedAnswer

KEPT: Kept[str] = Kept("value", b"raw")


@pytest.mark.parametrize("match", [KEPT.version, f'"{KEPT.version}"', f'W/"{KEPT.version}"', "*"])
def test_who_names_the_version_may_replace_it(match: str) -> None:
    assert seen_by(KEPT, match, None) is KEPT


@pytest.mark.parametrize("none_match", [None, "*", " * "])
def test_who_finds_none_may_make_one(none_match: str | None) -> None:
    assert seen_by(None, None, none_match) is None


@pytest.mark.parametrize(
    ("kept", "match", "none_match", "status", "reason"),
    [
        (KEPT, None, None, 428, "version_needed"),
        (KEPT, '"other"', None, 412, "changed"),
        (KEPT, None, "*", 412, "exists"),
        (KEPT, "*", "*", 412, "exists"),
        (None, KEPT.version, None, 412, "changed"),
        (None, "*", None, 412, "changed"),
        (KEPT, None, KEPT.version, 400, "bad_header"),
    ],
)
def test_whoever_has_not_seen_it_as_it_is_changes_nothing(
    kept: Kept[str] | None, match: str | None, none_match: str | None, status: int, reason: str
) -> None:
    with pytest.raises(Refused) as caught:
        seen_by(kept, match, none_match)
    assert (caught.value.status, caught.value.reason) == (status, reason)


def test_another_content_is_another_version() -> None:
    assert len({Kept("value", raw).version for raw in (b"raw", b"raw ", b"")}) == 3


def test_every_mistake_is_told_with_its_field() -> None:
    named = {"rule_id": "low", "workspace": "acme"}
    wrong = [
        "threshold: too high",
        "expected names with values",
        *otherwise({"rule_id": "x", "workspace": "acme"}, named),
    ]
    with pytest.raises(Refused) as caught:
        no_mistakes(wrong, "the rule")
    assert caught.value.status == 422
    assert b'{"field":"threshold","why":"too high"}' in caught.value.body
    assert b'{"field":"","why":"expected names with values"}' in caught.value.body
    assert b'{"field":"rule_id","why":"the address says \'low\'"}' in caught.value.body
    no_mistakes([], "the rule")


def test_what_is_not_read_yet_is_waited_for_and_then_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "READ_S", 0.05)

    async def play() -> None:
        records: Any = SimpleNamespace(ready=asyncio.Event())
        asyncio.get_running_loop().call_soon(records.ready.set)
        await read(records)
        records.ready.clear()
        with pytest.raises(Refused, match="not all of it is read"):
            await read(records)

    asyncio.run(play())


def test_many_who_ask_at_once_share_one_answer_and_one_who_leaves_ends_it_for_nobody() -> None:
    async def play() -> None:
        shared: SharedAnswer[int] = SharedAnswer(60)
        asked, go_on = [], asyncio.Event()

        async def ask() -> int:
            asked.append(1)
            await go_on.wait()
            return len(asked)

        first, second = (asyncio.create_task(shared.get(ask)) for _ in range(2))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        first.cancel()
        go_on.set()
        assert await second == 1
        assert await shared.get(ask) == 1  # it is kept

    asyncio.run(play())


def test_a_failure_is_kept_for_nobody_and_an_old_answer_neither() -> None:
    async def play() -> None:
        shared: SharedAnswer[int] = SharedAnswer(0)
        answers = iter([OSError("away"), 1, 2])

        async def ask() -> int:
            found = next(answers)
            if isinstance(found, Exception):
                raise found
            return cast(int, found)

        with pytest.raises(OSError, match="away"):
            await shared.get(ask)
        assert [await shared.get(ask), await shared.get(ask)] == [1, 2]

    asyncio.run(play())


@pytest.mark.parametrize(
    ("name", "author", "said"),
    [
        ("user/ada", None, "ada"),
        ("user/ada", "bob", "ada"),
        ("oidc/ada@acme.org", "bob", "oidc/ada@acme.org"),
        ("key/0a1b2c", None, "key/0a1b2c"),
        ("key/0a1b2c", "bob", "bob (key/0a1b2c)"),
        ("local", "bob", "bob (local)"),
    ],
)
def test_a_person_speaks_for_themselves_and_a_key_for_whom_it_says(name: str, author: str | None, said: str) -> None:
    asked: Any = SimpleNamespace(who=SimpleNamespace(name=name))
    assert author_of(asked, author) == said
