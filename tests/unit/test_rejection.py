"""Why a record is refused, whatever the record: the words of msgspec, and what is true of all JSON."""

import time
from typing import Annotated, Literal

import msgspec
import pytest
from msgspec import UNSET, Meta, Raw, UnsetType

from schemas.rejection import NESTING_MAX, RECORD_BYTES_MAX, Reason, Rejected, decode_or_reject


class Inner(msgspec.Struct):
    part: Annotated[float, Meta(ge=0, le=1)]


class Sample(msgspec.Struct):
    count: Annotated[int, Meta(ge=1, lt=10)] = 1
    name: Annotated[str, Meta(min_length=1, max_length=3)] | None = None
    names: Annotated[list[Annotated[str, Meta(max_length=3)]], Meta(max_length=2)] = []
    table: Annotated[dict[Annotated[str, Meta(max_length=3)], int], Meta(max_length=2)] = {}
    status: Literal["up", "down"] = "up"
    inner: Inner | None = None
    inners: list[Inner] = []
    kept: Raw | UnsetType = UNSET


decode_sample = msgspec.json.Decoder(Sample).decode


def refuse(raw: bytes) -> Rejected:
    refused = decode_or_reject(decode_sample, raw)
    assert isinstance(refused, Rejected)
    return refused


def nested(depth: int) -> bytes:
    """A record nested `depth` deep, in a field that nobody reads."""
    return b'{"unknown":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


@pytest.mark.parametrize(
    ("raw", "words", "reason", "field"),
    [
        (b'{"count":0}', "Expected `int` >= 1 - at `$.count`", "out_of_range", "count"),
        (b'{"count":10}', "Expected `int` <= 9 - at `$.count`", "out_of_range", "count"),
        (b'{"count":"1"}', "Expected `int`, got `str` - at `$.count`", "wrong_type", "count"),
        (b'{"count":1.0}', "Expected `int`, got `float` - at `$.count`", "wrong_type", "count"),
        (b'{"count":true}', "Expected `int`, got `bool` - at `$.count`", "wrong_type", "count"),
        (b'{"name":""}', "Expected `str` of length >= 1 - at `$.name`", "out_of_range", "name"),
        (b'{"name":"abcd"}', "Expected `str` of length <= 3 - at `$.name`", "out_of_range", "name"),
        (b'{"name":1}', "Expected `str | null`, got `int` - at `$.name`", "wrong_type", "name"),
        (
            b'{"names":["abcd"]}',
            "Expected `str` of length <= 3 - at `$.names[0]`",
            "out_of_range",
            "names[0]",
        ),
        (b'{"names":["","",""]}', "Expected `array` of length <= 2 - at `$.names`", "out_of_range", "names"),
        (
            b'{"table":{"abcd":1}}',
            "Expected `str` of length <= 3 - at `key` in `$.table`",
            "out_of_range",
            "table",
        ),
        (b'{"table":{"a":""}}', "Expected `int`, got `str` - at `$.table[...]`", "wrong_type", "table[...]"),
        (
            b'{"table":{"a":1,"b":1,"c":1}}',
            "Expected `object` of length <= 2 - at `$.table`",
            "out_of_range",
            "table",
        ),
        (b'{"status":"gone"}', "Invalid enum value 'gone' - at `$.status`", "out_of_range", "status"),
        (b'{"status":1}', "Expected `str`, got `int` - at `$.status`", "wrong_type", "status"),
        (
            b'{"inner":{}}',
            "Object missing required field `part` - at `$.inner`",
            "missing_field",
            "inner.part",
        ),
        (
            b'{"inners":[{"part":0},{}]}',
            "Object missing required field `part` - at `$.inners[1]`",
            "missing_field",
            "inners[1].part",
        ),
        (
            b'{"inner":{"part":2}}',
            "Expected `float` <= 1.0 - at `$.inner.part`",
            "out_of_range",
            "inner.part",
        ),
        (
            b'{"inner":{"part":1e999}}',
            "Number out of range - at `$.inner.part`",
            "out_of_range",
            "inner.part",
        ),
        (
            b'{"count":' + b"9" * 5000 + b"}",
            "Integer value out of range - at `$.count`",
            "out_of_range",
            "count",
        ),
        (b"[]", "Expected `object`, got `array`", "wrong_type", ""),
        (b"null", "Expected `object`, got `null`", "wrong_type", ""),
    ],
)
def test_msgspec_says_it_in_these_words_and_we_read_them_so(raw: bytes, words: str, reason: str, field: str) -> None:
    with pytest.raises(msgspec.ValidationError) as error:
        decode_sample(raw)
    assert str(error.value) == words
    assert refuse(raw) == Rejected(Reason(reason), field)


def test_a_missing_field_of_the_record_itself_has_no_path() -> None:
    assert decode_or_reject(msgspec.json.Decoder(Inner).decode, b"{}") == Rejected(Reason.MISSING_FIELD, "part")


@pytest.mark.parametrize("value", ["x - at `$.name`", "Expected `int` >= 1", "`$.a`", "out of range\n"])
def test_words_of_the_sender_are_not_mistaken_for_those_of_msgspec(value: str) -> None:
    raw = msgspec.json.encode({"status": value})
    assert refuse(raw) == Rejected(Reason.OUT_OF_RANGE, "status")


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b" \n", id="blank"),
        pytest.param(b"{", id="no end"),
        pytest.param(b"{}x", id="trailing garbage"),
        pytest.param(b"{}{}", id="two records"),
        pytest.param(b'{"count":1,}', id="trailing comma"),
        pytest.param(b"{'count':1}", id="single quotes"),
        pytest.param(b"\xef\xbb\xbf{}", id="byte order mark"),
        pytest.param("{}".encode("utf-16"), id="UTF-16"),
        pytest.param(b'{"count":NaN}', id="NaN"),
        pytest.param(b'{"unknown":NaN}', id="NaN nobody reads"),
        pytest.param(b'{"count":Infinity}', id="Infinity"),
        pytest.param(b'{"count":-Infinity}', id="minus Infinity"),
        pytest.param(b'{"count":01}', id="leading zero"),
        pytest.param(b'{"name":"\xff"}', id="not UTF-8"),
        pytest.param(b'{"unknown":"\xff"}', id="not UTF-8 where nobody reads"),
        pytest.param(b'{"kept":"\xff"}', id="not UTF-8 in what is kept as given"),
        pytest.param(b'{"kept":"\xed\xa0\x80"}', id="a surrogate in UTF-8"),
        pytest.param(b'{"\xff":1}', id="not UTF-8 in a name"),
        pytest.param(b'{"name":"\\ud800"}', id="half a pair"),
        pytest.param(b'{"name":"\\ud800ab"}', id="half a pair, then text"),
        pytest.param(b'{"name":"\\udc00"}', id="the other half"),
        pytest.param(b'{"name":"\\ud800\\ud800"}', id="the same half twice"),
        pytest.param(b'{"table":{"\\ud800":1}}', id="half a pair in a key"),
        pytest.param(b'{"kept":"\\ud800"}', id="half a pair in what is kept as given"),
    ],
)
def test_what_is_not_json_is_refused_as_that(raw: bytes) -> None:
    assert refuse(raw) == Rejected(Reason.NOT_JSON, "")


def test_a_record_without_a_value_is_refused() -> None:
    assert decode_or_reject(decode_sample, None) == Rejected(Reason.NOT_JSON, "")


@pytest.mark.parametrize(
    ("raw", "sample"),
    [
        (b'{"unknown":[{"a":1e400}]}', Sample()),
        (b' \r\n{ "count" : 2 }\t', Sample(count=2)),
        (b'{"count":2,"count":3}', Sample(count=3)),  # the last one counts, as in most readers of JSON
        (b'{"name":"\\ud83d\\ude00"}', Sample(name="😀")),
        (b'{"name":"a\\u0000b"}', Sample(name="a\0b")),
        ('{"name":"€"}'.encode(), Sample(name="€")),
        (b'{"kept": [1, "a" ,null]}', Sample(kept=Raw(b'[1, "a" ,null]'))),
    ],
)
def test_odd_but_valid_json_is_accepted(raw: bytes, sample: Sample) -> None:
    assert decode_or_reject(decode_sample, raw) == sample


@pytest.mark.parametrize("size", [RECORD_BYTES_MAX - 1, RECORD_BYTES_MAX])
def test_a_record_of_one_mib_is_accepted(size: int) -> None:
    assert decode_or_reject(decode_sample, b"{}".ljust(size)) == Sample()


def test_a_larger_record_is_refused_unread() -> None:
    assert refuse(b"{".ljust(RECORD_BYTES_MAX + 1)) == Rejected(Reason.TOO_LARGE, "")


def test_a_caller_may_allow_larger_records() -> None:
    raw = b"{}".ljust(RECORD_BYTES_MAX + 1)
    assert decode_or_reject(decode_sample, raw, bytes_max=2 * RECORD_BYTES_MAX) == Sample()


@pytest.mark.parametrize(
    ("raw", "accepted"),
    [
        (nested(NESTING_MAX), True),
        (nested(NESTING_MAX + 1), False),
        (nested(100_000), False),
        (nested(NESTING_MAX + 1).replace(b"unknown", b"kept"), False),
        (b'{"unknown":' * NESTING_MAX + b"1" + b"}" * NESTING_MAX, True),
        (b'{"unknown":' * 100_000 + b"1" + b"}" * 100_000, False),
        (b'{"unknown":"' + b"[" * 1000 + b'"}', True),
        (b'{"unknown":"' + b'\\"[' * 1000 + b'"}', True),
        (b'{"unknown":[' + b"[]," * 1000 + b"[]]}", True),
    ],
    ids=lambda raw: f"{raw[:16]!r}, {len(raw)} bytes" if isinstance(raw, bytes) else "",
)
def test_nesting_has_a_bound(raw: bytes, accepted: bool) -> None:
    expected = Sample() if accepted else Rejected(Reason.TOO_LARGE, "")
    assert decode_or_reject(decode_sample, raw) == expected


def test_whether_a_record_is_accepted_does_not_depend_on_who_calls() -> None:
    """Two workers must never disagree about a record, however deep in the stack each of them decodes."""

    def below(frames: int) -> Sample | Rejected:
        return below(frames - 1) if frames else decode_or_reject(decode_sample, nested(NESTING_MAX))

    assert below(0) == below(300) == Sample()


@pytest.mark.parametrize("filler", [b'\\"', b"\\", b'"', b"[]", b'"",', b"{"])
def test_a_nasty_record_does_not_hold_a_worker_up(filler: bytes) -> None:
    raw = (b'{"unknown":' + b"[" * 600 + b'"' + filler * RECORD_BYTES_MAX)[:RECORD_BYTES_MAX]
    started = time.monotonic()
    assert isinstance(refuse(raw), Rejected)
    assert time.monotonic() - started < 5  # milliseconds; a quadratic search takes minutes
