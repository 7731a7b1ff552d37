"""Forms and bundles: what is in them, and what is refused before it costs anything."""

import gzip
import io
import tarfile
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.web.asgi import Refused
from pipeline.web.roboflow.vision.bundles import MEMBERS_MAX, UNPACKED_BYTES_MAX, opened
from pipeline.web.roboflow.vision.forms import FIELDS_MAX, fields

QUOTED = b'multipart/form-data; boundary="xyz"'
ODD = b"Multipart/Form-Data;charset=x;BOUNDARY=xyz; a=b"
KIND = b"multipart/form-data; boundary=xyz"


def form(**values: bytes) -> bytes:
    """As requests and MultipartEncoder write it."""
    parts = [
        b'--xyz\r\nContent-Disposition: form-data; name="%s"; filename="a.jpg"\r\nContent-Type: x/y\r\n\r\n%s\r\n'
        % (name.encode(), value)
        for name, value in values.items()
    ]
    return b"".join(parts) + b"--xyz--\r\n"


def test_a_form_has_its_fields() -> None:
    raw = bytes(range(256)) * 3 + b"\r\n--xy\r\n\r\n"
    found = fields(form(file=raw, name="ü".encode(), empty=b""), KIND)
    assert bytes(found["file"].value) == raw
    assert found["name"].text == "ü"
    assert found["empty"].text == ""


@pytest.mark.parametrize("kind", [QUOTED, ODD])
def test_a_boundary_may_be_written_in_more_ways_than_one(kind: bytes) -> None:
    assert fields(form(a=b"1"), kind)["a"].text == "1"


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (form(a=b"1"), b"application/json", 415),
        (form(a=b"1"), b"multipart/form-data", 400),
        (b"", KIND, 400),
        (b"--xyz", KIND, 400),
        (b"--xyz\r\n", KIND, 400),
        (form(a=b"1")[:-12], KIND, 400),
        (form(a=b"1").replace(b'name="a"', b"x"), KIND, 400),
        (b"--xyz" + b"\r\n" + b"h" * 9000 + b"\r\n\r\n\r\n--xyz--", KIND, 400),
        (form(**{f"f{n}": b"" for n in range(FIELDS_MAX + 1)}), KIND, 413),
    ],
)
def test_what_is_no_form_is_refused(body: bytes, kind: bytes, status: int) -> None:
    with pytest.raises(Refused) as why:
        fields(body, kind)
    assert why.value.status == status


@given(
    st.binary(max_size=200),
    st.lists(st.sampled_from([b"--xyz", b"\r\n", b"\r\n\r\n", b'; name="a"', b"--", b"x"]), max_size=12),
)
def test_whatever_comes_is_a_form_or_it_is_not(value: bytes, pieces: list[bytes]) -> None:
    for body in (b"".join(pieces), b"--xyz" + b"".join(pieces), form(a=value)):
        try:
            found = fields(body, KIND)
        except Refused:
            continue
        assert all(isinstance(one.value, memoryview) for one in found.values())
    if b"\r\n--xyz" not in value:
        assert bytes(fields(form(a=value), KIND)["a"].value) == value


# Bundles

PAYLOAD = orjson.dumps({"eventId": "e", "eventType": "custom", "images": [{"file": "images/a.jpg"}]})


def tar(
    *members: tuple[str, bytes | None], change: Callable[[tarfile.TarInfo], None] = lambda _: None, **more: Any
) -> bytes:
    """An archive; None: a folder. `change` is done to every member but payload.json."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=more.pop("mode", "w"), **more) as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if content is None:
                member.type = tarfile.DIRTYPE
            member.size = len(content or b"")
            if name != "payload.json":
                change(member)
            archive.addfile(member, io.BytesIO(content or b""))
    return out.getvalue()


WHOLE: tuple[tuple[str, bytes | None], ...] = (
    ("payload.json", PAYLOAD), ("images", None), ("images/a.jpg", b"picture"), ("./images/b.jpg", b"other"),
)  # fmt: skip


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_a_bundle_is_an_event_and_its_files(mode: str, kind: int) -> None:
    found = opened(tar(*WHOLE, mode=mode, format=kind))
    assert found.payload["eventId"] == "e"
    assert found.files == {"images/a.jpg": b"picture", "images/b.jpg": b"other"}


def _link(member: tarfile.TarInfo) -> None:
    member.type, member.linkname, member.size = tarfile.SYMTYPE, "/etc/passwd", 0


def _hard_link(member: tarfile.TarInfo) -> None:
    member.type, member.linkname, member.size = tarfile.LNKTYPE, "payload.json", 0


def _device(member: tarfile.TarInfo) -> None:
    member.type, member.size = tarfile.CHRTYPE, 0


def _pipe(member: tarfile.TarInfo) -> None:
    member.type, member.size = tarfile.FIFOTYPE, 0


BAD: dict[str, bytes] = {
    "nothing": b"",
    "noise": b"\x00\x01" * 999,
    "cut gzip": tar(*WHOLE, mode="w:gz")[:-20],
    "broken gzip": b"\x1f\x8b" + b"x" * 99,
    "cut tar": tar(("payload.json", PAYLOAD), ("a", b"x" * 5000))[:3000],
    "no payload": tar(("a", b"x")),
    "payload no object": tar(("payload.json", b"[]")),
    "payload no JSON": tar(("payload.json", b"{")),
    "another format": tar(("payload.json", b'{"bundleFormatVersion":2}')),
    "payload a folder": tar(("payload.json", None)),
    "up": tar(*WHOLE, ("../x", b"x")),
    "up within": tar(*WHOLE, ("images/../../x", b"x")),
    "absolute": tar(*WHOLE, ("/etc/cron.d/x", b"x")),
    "of Windows": tar(*WHOLE, ("C:/x", b"x")),
    "backslash": tar(*WHOLE, ("images\\..\\x", b"x")),
    "symlink": tar(*WHOLE[:1], ("images/a.jpg", b""), change=_link),
    "hard link": tar(*WHOLE[:1], ("images/a.jpg", b""), change=_hard_link),
    "device": tar(*WHOLE[:1], ("images/a.jpg", b""), change=_device),
    "pipe": tar(*WHOLE[:1], ("images/a.jpg", b""), change=_pipe),
    "twice": tar(*WHOLE, ("images/a.jpg", b"x")),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_bundle_is_refused(what: str) -> None:
    with pytest.raises(Refused) as why:
        opened(BAD[what])
    assert why.value.status == 400


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    packer = io.BytesIO()
    with gzip.GzipFile(fileobj=packer, mode="wb", compresslevel=9) as out:
        for _ in range(512):
            out.write(bytes(1 << 20))
    assert len(packer.getvalue()) < 1 << 20
    tracemalloc.start()
    with pytest.raises(Refused) as why:
        opened(packer.getvalue())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert why.value.status == 413
    assert peak < 3 * UNPACKED_BYTES_MAX


def test_a_member_that_says_it_is_huge_costs_nothing() -> None:
    member = tarfile.TarInfo("images/a.jpg")
    member.size = 1 << 40
    raw = tar(("payload.json", PAYLOAD))[:1024] + member.tobuf(tarfile.GNU_FORMAT) + bytes(512)
    tracemalloc.start()
    with pytest.raises(Refused) as why:
        opened(raw)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert why.value.status == 400
    assert peak < 1 << 20


def test_too_many_members_are_refused() -> None:
    with pytest.raises(Refused) as why:
        opened(tar(*WHOLE, *((f"f{n}", b"") for n in range(MEMBERS_MAX))))
    assert why.value.status == 413


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_broken_bytes_are_a_bundle_or_they_are_not_and_nothing_else(data: st.DataObject) -> None:
    raw = bytearray(tar(*WHOLE))
    for at in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=10)):
        raw[at] = data.draw(st.integers(0, 255))
    with suppress(Refused):
        opened(bytes(raw[: data.draw(st.integers(0, len(raw)))]))
