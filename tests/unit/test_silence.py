"""Silences and acknowledgements: what is read, and what is refused."""

import json
from typing import Any

import pytest

from schemas.rejection import Reason, Rejected
from schemas.silence import Acknowledgement, Matcher, Silence, acknowledgement_id, decode, encode
from tests.alerting import START_MS, SUBJECT

SILENCE = {
    "id": "s-1",
    "matchers": [{"name": "model_id", "value": "helmets/.*", "is_regex": True}],
    "starts_at_ms": START_MS,
    "ends_at_ms": START_MS + 1,
    "author": "ada",
}
ACK = {"id": f"ack/{SUBJECT.fingerprint}/{START_MS}", "author": "ada", "at_ms": START_MS}


def raw(whole: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps(whole | fields).encode()


def test_a_silence_is_read_and_written_again() -> None:
    found = decode(raw(SILENCE, kind="maintenance", comment="new cameras"))
    assert isinstance(found, Silence)
    assert found.matchers == [Matcher("model_id", "helmets/.*", is_regex=True, is_equal=True)]
    assert found.kind == "maintenance"
    assert decode(encode(found)) == found


def test_an_acknowledgement_names_its_episode() -> None:
    found = decode(raw(ACK, comment="looking"))
    assert isinstance(found, Acknowledgement)
    assert (found.fingerprint, found.episode) == (SUBJECT.fingerprint, START_MS)
    assert found.id == acknowledgement_id(SUBJECT.fingerprint, START_MS)
    assert decode(encode(found)) == found


@pytest.mark.parametrize(
    ("record", "reason", "field"),
    [
        (raw(SILENCE, matchers=[]), Reason.OUT_OF_RANGE, "matchers"),
        (raw(SILENCE, ends_at_ms=START_MS), Reason.OUT_OF_RANGE, "ends_at_ms"),
        (raw(SILENCE, kind="nap"), Reason.OUT_OF_RANGE, "kind"),
        (raw(SILENCE, author=""), Reason.OUT_OF_RANGE, "author"),
        (raw(SILENCE, id="a b"), Reason.OUT_OF_RANGE, "id"),
        (raw(SILENCE, schema=2), Reason.UNKNOWN_SCHEMA, "schema"),
        (
            raw(SILENCE, matchers=[{"name": "a", "value": "("}, {"name": "a", "value": "(", "is_regex": True}]),
            Reason.OUT_OF_RANGE,
            "matchers[1].value",
        ),
        (raw(ACK, id="ack/xyz/1"), Reason.OUT_OF_RANGE, "id"),
        (raw(ACK, id=f"ack/{SUBJECT.fingerprint}/1\n"), Reason.OUT_OF_RANGE, "id"),
        (raw(ACK, schema=2), Reason.UNKNOWN_SCHEMA, "schema"),
        (raw({"author": "ada"}), Reason.MISSING_FIELD, "id"),
        (None, Reason.NOT_JSON, ""),
        (b"{", Reason.NOT_JSON, ""),
    ],
)
def test_what_is_refused(record: bytes | None, reason: Reason, field: str) -> None:
    assert decode(record) == Rejected(reason, field)
