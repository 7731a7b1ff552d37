"""Pictures: what is one, and how they are kept."""

import asyncio
import io
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.edge.clock import now_ms
from pipeline.edge.images import picture
from pipeline.edge.images.picture import NotAPictureError, look_at
from pipeline.edge.images.store import ImageStore, ImagesUnavailable, OtherPictureError

NOW = 1_795_000_000_000
DAY = 86_400_000


def made(kind: str = "JPEG", size: tuple[int, int] = (640, 480), mode: str = "RGB", **more: Any) -> bytes:
    """A picture with something to see."""
    out = io.BytesIO()
    image = Image.linear_gradient("L").resize(size).convert(mode)
    image.save(out, kind, **more)
    return out.getvalue()


def png_that_says(width: int, height: int) -> bytes:
    """A few bytes that promise many pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", list(picture.FORMATS))
def test_a_picture_is_known_by_its_content(kind: str) -> None:
    found = look_at(made(kind))
    assert (found.content_type, found.width, found.height) == (f"image/{kind.lower()}", 640, 480)
    with Image.open(io.BytesIO(found.thumbnail)) as small:
        assert (small.format, small.size) == ("JPEG", (320, 240))


@pytest.mark.parametrize(
    ("mode", "kind"), [("RGBA", "PNG"), ("P", "GIF"), ("I;16", "PNG"), ("F", "TIFF"), ("1", "BMP")]
)
def test_every_kind_of_pixels_has_a_thumbnail(mode: str, kind: str) -> None:
    with Image.open(io.BytesIO(look_at(made(kind, mode=mode)).thumbnail)) as small:
        shades = small.convert("L").tobytes()
    assert max(shades) - min(shades) > 200


def test_a_thumbnail_stands_upright_and_is_never_larger() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    with Image.open(io.BytesIO(look_at(made(exif=exif)).thumbnail)) as small:
        assert small.size == (240, 320)
    with Image.open(io.BytesIO(look_at(made(size=(10, 7))).thumbnail)) as small:
        assert small.size == (10, 7)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_what_is_cut_short_is_no_picture(kind: str, share: float) -> None:
    raw = made(kind)
    with pytest.raises(NotAPictureError):
        look_at(raw[: int(len(raw) * share)])


@pytest.mark.parametrize(
    "raw", [b"", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"<!doctype html><script>", b"%PDF-1.4", b"GIF89a"]
)
def test_what_is_none_of_the_formats_is_no_picture(raw: bytes) -> None:
    with pytest.raises(NotAPictureError):
        look_at(raw)


@pytest.mark.parametrize(("width", "height"), [(10_000, 5_001), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_pixels_are_counted_before_they_are_unpacked(width: int, height: int) -> None:
    with pytest.raises(NotAPictureError, match="million pixels"):
        look_at(png_that_says(width, height))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "GIF", "TIFF", "BMP"]), st.data())
def test_broken_bytes_are_a_picture_or_they_are_not_and_nothing_else(kind: str, data: st.DataObject) -> None:
    raw = bytearray(made(kind, size=(40, 30)))
    for at in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=8)):
        raw[at] = data.draw(st.integers(0, 255))
    with suppress(NotAPictureError):
        assert look_at(bytes(raw)).width > 0


# The store


def kept(url: str, raw: bytes, *names: tuple[str, str]) -> ImageStore:
    store = ImageStore(url)

    async def put() -> None:
        for workspace, name in names:
            await store.put(workspace, name, raw, NOW, {})

    asyncio.run(put())
    return store


ODD = ["../../etc/passwd", "/etc/passwd", "a" * 128, "a/b\\c\0d", "ü 🙂", ".", "con"]


@pytest.mark.parametrize("where", ["directory", "memory"])
def test_a_picture_comes_back_as_it_was_whatever_its_name(where: str, tmp_path: Path) -> None:
    url = str(tmp_path / "images") if where == "directory" else f"memory://{tmp_path.name}"
    raw = made()
    store = kept(url, raw, *(("acme", name) for name in ODD))

    async def read() -> None:
        for name in ODD:
            about = await store.about("acme", name)
            assert about is not None
            assert (about.content_type, about.width, about.bytes) == ("image/jpeg", 640, len(raw))
            assert await store.read("acme", name, about, thumbnail=False) == raw
            assert (await store.read("acme", name, about, thumbnail=True) or b"")[:2] == b"\xff\xd8"
            assert await store.about("other", name) is None
        assert await store.about("acm", "e" + ODD[0]) is None

    asyncio.run(read())
    if where == "directory":
        assert [path.name for path in tmp_path.iterdir()] == ["images"]
        files = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
        assert {len(path.parts) for path in files} == {3}


def test_a_picture_may_come_again_but_no_other_in_its_place(tmp_path: Path) -> None:
    store = kept(str(tmp_path), made(), ("acme", "e"), ("acme", "e"))
    with pytest.raises(OtherPictureError):
        asyncio.run(store.put("acme", "e", made("PNG"), NOW, {}))


def test_what_a_crash_cut_short_is_not_there_and_can_come_again(tmp_path: Path) -> None:
    store = kept(str(tmp_path), made(), ("acme", "e"))
    [about] = tmp_path.rglob("*.json")
    about.write_bytes(about.read_bytes()[:9])
    assert asyncio.run(store.about("acme", "e")) is None
    asyncio.run(store.put("acme", "e", made("PNG"), NOW, {}))
    found = asyncio.run(store.about("acme", "e"))
    assert found is not None
    assert found.content_type == "image/png"


@pytest.mark.parametrize("where", ["directory", "memory"])
def test_pictures_are_forgotten_when_they_are_old(where: str, tmp_path: Path) -> None:
    url = str(tmp_path) if where == "directory" else f"memory://{tmp_path.name}"
    store = kept(url, made(), ("acme", "a"), ("acme", "b"))
    written_ms = now_ms()
    assert asyncio.run(store.sweep(written_ms + 29 * DAY, 30)) == 0
    assert asyncio.run(store.sweep(written_ms + 31 * DAY, 30)) == 6
    assert asyncio.run(store.about("acme", "a")) is None
    assert asyncio.run(ImageStore(url + "/nothing/there").sweep(written_ms, 30)) == 0


def test_a_disk_that_is_nearly_full_takes_no_pictures(tmp_path: Path) -> None:
    with pytest.raises(ImagesUnavailable, match="free"):
        asyncio.run(ImageStore(str(tmp_path / "new"), keep_free_bytes=1 << 60).put("acme", "e", made(), NOW, {}))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("url", ["nothing://here"])
def test_an_address_that_means_nothing_says_so_at_once(url: str) -> None:
    with pytest.raises(ImagesUnavailable, match="INFERWATCH_IMAGES_URL"):
        ImageStore(url)


def test_a_place_that_cannot_be_written_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ImagesUnavailable):
        kept(str(tmp_path / "file" / "below"), made(), ("acme", "a"))
