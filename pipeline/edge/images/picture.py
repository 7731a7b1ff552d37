"""Is this a picture? By its content alone: whoever sends it may say anything about it.

Pixels are counted before they are unpacked, and all of the first frame is unpacked once: what is cut short or broken is
no picture, and the thumbnail falls off on the way.
"""

import io
import warnings
from dataclasses import dataclass

from PIL import Image, ImageOps

warnings.filterwarnings("ignore", module=r"PIL\.")  # of what strangers send: it says nothing that we do not say
PIXELS_MAX = 50_000_000  # 8K is 33 million
THUMBNAIL_PIXELS = 320  # of the longer side
_QUALITY = 80
FORMATS = {"JPEG": "jpeg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "TIFF": "tiff", "BMP": "bmp"}
FORMATS |= {"AVIF": "avif"} if "AVIF" in (Image.init(), Image.OPEN)[1] else {}
_EXTREMES = ("I", "F", "I;16", "I;16B", "I;16L")  # numbers that are no shades yet


class NotAPictureError(Exception):
    """What was sent is none that we take; the text says why."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What is known of one, and how it looks when it is small (JPEG)."""

    content_type: str
    width: int
    height: int
    thumbnail: bytes


def look_at(raw: bytes) -> Picture:
    """The picture in these bytes. Takes its time: in a thread. Raises NotAPictureError."""
    try:
        with _opened(raw) as image:
            image.verify()  # checksums, where the format has some; leaves the image unusable
        with _opened(raw) as image:
            name, size = image.format or "", image.size
            return Picture(f"image/{FORMATS[name]}", *size, _thumbnail(image))
    except NotAPictureError:
        raise
    except Exception as error:  # Pillow's readers raise whatever their formats make them stumble over
        raise NotAPictureError(f"this is no picture, or not all of one ({type(error).__name__})") from error


def _opened(raw: bytes) -> Image.Image:
    """Its head is read, its pixels are not."""
    try:
        image = Image.open(io.BytesIO(raw), formats=list(FORMATS))
    except Image.DecompressionBombError:
        raise _too_many() from None
    except OSError:
        known = ", ".join(name.upper() for name in FORMATS.values())
        raise NotAPictureError(f"this is none of {known}") from None
    if image.width * image.height > PIXELS_MAX:
        raise _too_many()
    return image


def _thumbnail(image: Image.Image) -> bytes:
    size = THUMBNAIL_PIXELS, THUMBNAIL_PIXELS
    image.draft("RGB", size)  # a JPEG need not be unpacked in full size
    image.load()
    if image.mode in _EXTREMES:
        image = _shades(image)
    image.thumbnail(size)
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image)
    out = io.BytesIO()
    image.convert("RGB").save(out, "JPEG", quality=_QUALITY)
    return out.getvalue()


def _shades(image: Image.Image) -> Image.Image:
    """Depths and 16-bit greys: from the darkest to the brightest that there is."""
    wide = image.convert("F")
    low, high = wide.getextrema()
    assert isinstance(low, float)
    assert isinstance(high, float)
    scale = 255 / (high - low) if high > low else 0.0
    return wide.point(lambda value: value * scale - low * scale).convert("L")


def _too_many() -> NotAPictureError:
    return NotAPictureError(f"a picture may have {PIXELS_MAX / 1e6:g} million pixels")
