"""What a body may be: encodings, sizes, deadlines, records; and that nothing is paid for what is refused."""

import asyncio
import gzip
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.web.asgi import Message, Receive, Refused
from pipeline.web.ingest import bodies
from pipeline.web.ingest.room import REQUEST_BYTES, Held, Room

pytestmark = pytest.mark.slow

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB = 1 << 20


def receiving(*chunks: bytes) -> Receive:
    """These chunks, then nothing more ever."""
    messages: Iterator[Message] = iter(
        [{"type": "http.request", "body": one, "more_body": i + 1 < len(chunks)} for i, one in enumerate(chunks)]
    )

    async def receive() -> Message:
        for message in messages:
            return message
        await asyncio.Event().wait()
        raise AssertionError

    return receive


def read(*chunks: bytes, coding: str = "identity", room: Room | None = None, **headers: str) -> bytes:
    held = Held(room or Room(64 * MIB))
    given = {b"content-encoding": coding.encode()} | {
        n.replace("_", "-").encode(): v.encode() for n, v in headers.items()
    }
    return asyncio.run(bodies.read(receiving(*chunks), given, held, 0.2))


def refused(*chunks: bytes, **more: Any) -> tuple[int, str]:
    with pytest.raises(Refused) as why:
        read(*chunks, **more)
    assert orjson.loads(why.value.body).keys() == {"reason", "message"}
    return why.value.status, why.value.reason


PACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstd.compress, "identity": bytes}


@pytest.mark.parametrize("coding", PACK)
@given(body=st.binary(max_size=3000), at=st.integers(0, 3000))
def test_a_body_is_what_was_sent_however_it_is_packed_and_cut(coding: str, body: bytes, at: int) -> None:
    packed = PACK[coding](body)
    assert read(packed[:at], packed[at:], coding=coding) == body


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_several_members_are_one_body(coding: str) -> None:
    assert read(PACK[coding](b"one") + PACK[coding](b"two"), coding=coding) == b"onetwo"


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
@pytest.mark.parametrize("spoil", [lambda p: p[:-3], lambda p: p + b"x", lambda p: b"x" + p, lambda p: b"\x00" * 50])
def test_a_damaged_body_is_refused_whole(coding: str, spoil: Any) -> None:
    assert refused(spoil(PACK[coding](b"abc" * 100)), coding=coding) == (400, "broken_encoding")


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_a_thousand_empty_members_are_refused(coding: str) -> None:
    assert refused(PACK[coding](b"") * 1000, coding=coding) == (400, "broken_encoding")


def bombs() -> dict[str, bytes]:
    """A gigabyte of nothing: of known size, of unknown size, in one piece, in many."""
    mib = bytes(MIB)
    packer = zstd.ZstdCompressor()
    streamed = b"".join(packer.compress(mib) for _ in range(1024)) + packer.flush()
    return {"zstd": streamed, "gzip": gzip.compress(mib, 9) * 1024}


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_a_bomb_costs_no_more_than_the_largest_body(coding: str) -> None:
    bomb = bombs()[coding]
    room = Room(64 * MIB)
    tracemalloc.start()
    try:
        assert refused(bomb, coding=coding, room=room)[0] in (400, 413)
        assert tracemalloc.get_traced_memory()[1] < 2.5 * bodies.BODY_BYTES_MAX
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("coding", PACK)
def test_the_largest_body_is_read_and_one_byte_more_is_not(coding: str) -> None:
    assert len(read(PACK[coding](bytes(bodies.BODY_BYTES_MAX)), coding=coding)) == bodies.BODY_BYTES_MAX
    assert refused(PACK[coding](bytes(bodies.BODY_BYTES_MAX + 1)), coding=coding) == (413, "too_large")


def test_a_body_that_says_that_it_is_too_large_is_not_read() -> None:
    assert refused(b"", content_length=str(bodies.BODY_BYTES_MAX + 1)) == (413, "too_large")


@pytest.mark.parametrize("coding", ["br", "gzip, gzip", "deflate", "x", "\xff"])
def test_another_encoding_is_refused(coding: str) -> None:
    assert refused(b"x", coding=coding) == (415, "unknown_encoding")


def test_a_body_that_does_not_end_is_not_waited_for() -> None:
    async def slow() -> Message:
        await asyncio.sleep(0)
        return {"type": "http.request", "body": b"x", "more_body": True}

    with pytest.raises(Refused) as why:
        asyncio.run(bodies.read(slow, {}, Held(Room(64 * MIB)), 0.1))
    assert why.value.status == 408


def test_a_client_that_goes_away_is_no_error_of_ours() -> None:
    async def gone() -> Message:
        return {"type": "http.disconnect"}

    with pytest.raises(Refused) as why:
        asyncio.run(bodies.read(gone, {}, Held(Room(64 * MIB)), 0.1))
    assert why.value.reason == "cut_off"


# Room


def test_what_does_not_fit_is_refused_and_what_was_held_is_given_back() -> None:
    room = Room(20 * MIB)
    first = Held(room)
    first.take(15 * MIB)
    assert refused(bytes(6 * MIB), room=room)[0] == 503
    first.release()
    first.release()
    held = Held(room)
    asyncio.run(bodies.read(receiving(PACK["zstd"](bytes(5 * MIB))), {b"content-encoding": b"zstd"}, held, 0.2))
    assert room.bytes >= 5 * MIB + REQUEST_BYTES
    held.release()


# Records


@given(st.lists(st.dictionaries(st.text(max_size=5), st.integers(-5, 5), max_size=3), max_size=20))
def test_records_are_the_same_from_a_list_and_from_lines(records: list[dict[str, int]]) -> None:
    raws = [orjson.dumps(record) for record in records]
    as_list = bodies.records(b" [" + b",\n ".join(raws) + b"]", b"application/json; charset=utf-8")
    as_lines = bodies.records(b"\n".join(raws), b"application/x-ndjson")
    assert as_list == raws
    assert [line for line in as_lines if line] == raws


def test_one_object_is_one_record_even_over_several_lines() -> None:
    assert bodies.records(b'{\n"a": 1\n}', b"application/json") == [b'{\n"a": 1\n}']


def test_without_a_content_type_the_body_says_what_it_is() -> None:
    assert bodies.records(b'[{"a":1}]', b"") == [b'{"a":1}']
    assert bodies.records(b'{"a":1}\n{"b":2}', b"") == [b'{"a":1}', b'{"b":2}']


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"x", b"text/plain", 415),
        (b"x", b"application/x-www-form-urlencoded", 415),
        (b"[1,", b"application/json", 400),
        (b"[" * 100_000, b"application/json", 400),
        (b"\n" * (bodies.RECORDS_MAX + 1), b"application/x-ndjson", 413),
        (b"[" + b"{}," * bodies.RECORDS_MAX + b"{}]", b"application/json", 413),
        (b"[" + b"{}," * 2_000_000 + b"{}]", b"application/json", 413),
        (b"[" + b"1," * 2_000_000 + b"1]", b"application/json", 400),
    ],
)
def test_what_is_no_list_of_records_is_refused(body: bytes, kind: bytes, status: int) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(Refused) as why:
            bodies.records(body, kind)
        assert tracemalloc.get_traced_memory()[1] < 64 * MIB
    finally:
        tracemalloc.stop()
    assert why.value.status == status


def test_as_many_records_as_may_be_are_taken() -> None:
    assert len(bodies.records(b"[" + b"{}," * (bodies.RECORDS_MAX - 1) + b"{}]", b"application/json")) == 10_000
    many = orjson.dumps([{"a": list(range(50))} for _ in range(1000)])
    assert len(bodies.records(many, b"application/json")) == 1000
