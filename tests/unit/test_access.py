"""Who may what: records, keys, passwords, principals, and the door."""

import asyncio
from typing import Any

import pytest

from pipeline.web.access import credentials
from pipeline.web.access.book import USED_EVERY_MS, Evidence, NotKnown, key_in
from pipeline.web.access.door import Door
from pipeline.web.access.limits import Limits
from pipeline.web.access.principal import May, Principal, of_key, of_user
from pipeline.web.access.sessions import By
from pipeline.web.asgi import Refused
from schemas.access import KeyUse, Record, Scope, SignedOut, User, UserRole, decode, encode, record_key
from schemas.rejection import Reason, Rejected
from tests.in_process import NOW, Clock, Topic, book_of

DAY = 86_400_000


def made(scopes: list[Scope] | None = None, workspace: str = "acme", **more: Any) -> credentials.MadeKey:
    return credentials.make_key("cameras", workspace, scopes or [Scope.INGEST], NOW, **more)


# Records


@pytest.mark.parametrize(
    "record",
    [
        made().key,
        credentials.rotate_key(made().key, NOW, DAY).key,
        KeyUse(id="0123456789ab", used_at_ms=NOW),
        User(name="ann@acme.org", roles={"acme": UserRole.VIEWER, "*": UserRole.ADMIN}, created_at_ms=NOW),
        SignedOut(who="oidc/a/b", until_ms=NOW),
    ],
)
def test_a_record_is_read_as_it_was_written(record: Record) -> None:
    assert decode(record_key(record), encode(record)) == record


def test_a_record_under_another_records_key_is_refused() -> None:
    one, other = made().key, made().key
    assert decode(record_key(other), encode(one)) == Rejected(Reason.OUT_OF_RANGE, "key")
    assert decode(b"role/x", encode(one)) == Rejected(Reason.OUT_OF_RANGE, "key")
    assert isinstance(decode(b"\xff\xfe", b"{"), Rejected)


def test_nothing_that_is_stored_holds_a_secret() -> None:
    key = made()
    assert key.text not in encode(key.key).decode()
    assert key.text.split("_", 2)[2] not in encode(key.key).decode()
    assert key.text not in repr(key)


# Keys


def test_a_key_opens_what_it_is_for_and_nothing_else() -> None:
    topic, key = Topic(), made([Scope.QUERY])
    topic.put(key.key)
    who = book_of(topic).bearer(key.text, NOW)
    assert isinstance(who, Principal)
    assert who.may(May.QUERY, "acme")
    assert not who.may(May.INGEST, "acme")
    assert not who.may(May.QUERY, "other")
    assert not who.may(May.QUERY, "*")


@pytest.mark.parametrize("text", ["", "x", "iw_", "iw_0123456789ab_", "iw_0123456789ab_" + "a" * 32, "\udcff", "iw_é"])
def test_what_is_no_key_opens_nothing(text: str) -> None:
    topic = Topic()
    topic.put(made().key)
    asked = book_of(topic, "local")
    assert asked.bearer(text.encode("utf-8", "replace").decode("latin-1"), NOW) in (NotKnown.WRONG_KEY, NotKnown.NO_KEY)


def test_a_key_with_one_letter_changed_opens_nothing() -> None:
    topic, key = Topic(), made()
    topic.put(key.key)
    for at in range(len(key.text)):
        changed = key.text[:at] + ("a" if key.text[at] != "a" else "b") + key.text[at + 1 :]
        assert book_of(topic).bearer(changed, NOW) is NotKnown.WRONG_KEY


def test_a_key_ends_when_it_expires_and_at_once_when_it_is_revoked() -> None:
    topic, key = Topic(), made(expires_at_ms=NOW + DAY)
    topic.put(key.key)
    asked = book_of(topic)
    assert isinstance(asked.bearer(key.text, NOW + DAY - 1), Principal)
    assert asked.bearer(key.text, NOW + DAY) is NotKnown.WRONG_KEY
    topic.delete(key.key)
    assert asked.bearer(key.text, NOW) is NotKnown.WRONG_KEY


def test_a_rotated_key_is_good_in_both_forms_until_the_grace_is_over() -> None:
    topic, key = Topic(), made()
    rotated = credentials.rotate_key(key.key, NOW, DAY)
    topic.put(rotated.key)
    asked = book_of(topic)
    assert rotated.key.id == key.key.id
    assert isinstance(asked.bearer(rotated.text, NOW + 2 * DAY), Principal)
    assert isinstance(asked.bearer(key.text, NOW + DAY - 1), Principal)
    assert asked.bearer(key.text, NOW + DAY) is NotKnown.WRONG_KEY
    topic.put(credentials.rotate_key(rotated.key, NOW, 0).key)
    assert asked.bearer(rotated.text, NOW) is NotKnown.WRONG_KEY


def test_before_the_topic_is_read_nobody_is_told_that_a_key_is_wrong() -> None:
    assert book_of(Topic()).bearer(made().text, NOW) is NotKnown.NOT_READY
    assert isinstance(book_of(Topic(), "local").bearer("local", NOW), Principal)


def test_without_a_local_key_an_empty_one_is_no_key() -> None:
    assert book_of(Topic()).bearer("", NOW) is NotKnown.NO_KEY


def test_the_use_of_a_key_is_written_once_an_hour() -> None:
    topic, key = Topic(), made()
    topic.put(key.key)
    asked = book_of(topic)
    asked.bearer(key.text, NOW)
    asked.bearer(key.text, NOW + 5)
    use = KeyUse(id=key.key.id, used_at_ms=NOW + 5)
    assert asked.take_uses() == {record_key(use): encode(use)}
    asked.bearer(key.text, NOW + USED_EVERY_MS)
    assert asked.take_uses() == {}
    asked.bearer(key.text, NOW + 5 + USED_EVERY_MS)
    assert len(asked.take_uses()) == 1


def test_a_late_word_of_its_use_does_not_revive_a_key() -> None:
    topic, key = Topic(), made()
    topic.put(KeyUse(id=key.key.id, used_at_ms=NOW))
    assert book_of(topic).bearer(key.text, NOW) is NotKnown.WRONG_KEY


# People


def test_a_person_logs_in_by_the_password_and_by_nothing_else() -> None:
    topic = Topic()
    hashed = credentials.hash_password("correct horse battery")
    topic.put(
        User(name="ann", roles={"acme": UserRole.OPERATOR}, created_at_ms=NOW, password_hash=hashed),
        User(name="bob", roles={"acme": UserRole.ADMIN}, created_at_ms=NOW),
    )
    asked = book_of(topic)
    shown = asyncio.run(asked.person("ann", "correct horse battery"))
    assert isinstance(shown, Evidence)
    assert (shown.by, shown.who) == (By.PASSWORD, "ann")
    for name, password in (("ann", "wrong"), ("bob", ""), ("nobody", "x")):
        assert asyncio.run(asked.person(name, password)) is NotKnown.WRONG_PASSWORD
    assert hashed.startswith("$argon2id$")


# One table: what each may, in its own workspace and in another


BEARERS = {
    "key ingest": (of_key(made([Scope.INGEST]).key), {May.INGEST}),
    "key query": (of_key(made([Scope.QUERY]).key), {May.QUERY}),
    "key ingest, query": (of_key(made([Scope.INGEST, Scope.QUERY]).key), {May.INGEST, May.QUERY}),
    "key admin": (of_key(made([Scope.ADMIN]).key), set(May)),
    "viewer": (of_user(User(name="v", roles={"acme": UserRole.VIEWER}, created_at_ms=0)), {May.QUERY}),
    "operator": (
        of_user(User(name="o", roles={"acme": UserRole.OPERATOR}, created_at_ms=0)),
        {May.QUERY, May.OPERATE},
    ),
    "admin": (of_user(User(name="a", roles={"acme": UserRole.ADMIN}, created_at_ms=0)), set(May)),
    "nobody": (Principal("nobody", {}), set()),
}


@pytest.mark.parametrize("who", BEARERS)
def test_everybody_may_exactly_what_the_table_says_and_only_at_home(who: str) -> None:
    principal, allowed = BEARERS[who]
    assert {what for what in May if principal.may(what, "acme")} == allowed
    assert {
        what for what in May for workspace in ("other", "*", "", "acme/x") if principal.may(what, workspace)
    } == set()


def test_a_key_for_every_workspace_is_good_in_each() -> None:
    who = of_key(made([Scope.INGEST], workspace="*").key)
    assert all(who.may(May.INGEST, workspace) for workspace in ("acme", "other", "*"))
    assert not who.may(May.QUERY, "acme")


# The door


def test_a_key_is_taken_from_three_places_in_this_order() -> None:
    headers = {b"authorization": b"bEaReR one", b"x-api-key": b"two"}
    assert key_in(headers, b"api_key=three") == "one"
    assert key_in({b"x-api-key": b" two "}, b"api_key=three") == "two"
    assert key_in({}, b"a=b&api_key=th%2Bree") == "th+ree"
    assert key_in({b"authorization": b"Basic abc"}, b"") == ""


@pytest.mark.parametrize(
    ("what", "workspace", "headers", "status"),
    [
        (May.INGEST, "acme", {}, 401),
        (May.INGEST, "acme", {b"x-api-key": b"iw_0123456789ab_aaaaaaaaaaaaaaaaaaaaaaaa"}, 401),
        (May.QUERY, "acme", None, 403),
        (May.INGEST, "other", None, 403),
        (May.INGEST, "*", None, 403),
    ],
)
def test_the_door_says_who_is_unknown_and_who_may_not(
    what: May, workspace: str, headers: dict[bytes, bytes] | None, status: int
) -> None:
    topic, key = Topic(), made()
    topic.put(key.key)
    door = Door(book_of(topic), Clock())
    given = {b"authorization": f"Bearer {key.text}".encode()} if headers is None else headers
    with pytest.raises(Refused) as refused:
        door.admit({"query_string": b""}, given, what, workspace)
    assert refused.value.status == status
    assert key.text not in refused.value.body.decode()
    assert (b"www-authenticate", b"Bearer") in refused.value.headers or status != 401


# Limits


def test_a_bucket_lets_through_its_rate_and_says_when_to_come_again() -> None:
    limits = Limits(100.0)
    assert limits.wait_s("a", 1000, 0.0) == 0
    assert limits.wait_s("a", 50, 0.0) == pytest.approx(0.5)
    assert limits.wait_s("b", 50, 0.0) == 0  # others have buckets of their own
    assert limits.wait_s("a", 50, 0.5) == 0
    assert limits.wait_s("a", 5000, 1000.0) == 0  # more than fits goes when the bucket is full, and leaves a debt
    assert limits.wait_s("a", 1, 1001.0) > 30
    assert Limits(0).wait_s("a", 10**9, 0.0) == 0
