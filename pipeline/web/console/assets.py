"""The files that pages load, read once: ours, and those that `make install` fetches. An address names the content."""

import gzip
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).with_name("static")
CHARTS, FRAGMENTS = "vendor/uPlot.iife.min.js", "vendor/htmx.min.js"
KINDS = {".js": b"text/javascript", ".css": b"text/css", ".svg": b"image/svg+xml"}


class Asset(NamedTuple):
    """One file."""

    kind: bytes
    raw: bytes
    packed: bytes


class Assets:
    """All of them. A page works without what is not there."""

    def __init__(self, folder: Path = FOLDER) -> None:
        paths = sorted(path for path in folder.rglob("*") if path.suffix in KINDS)
        self._files: Mapping[str, Asset] = {
            path.relative_to(folder).as_posix(): _asset(path.suffix, path.read_bytes()) for path in paths
        }
        whole = b"".join(name.encode() + asset.raw for name, asset in self._files.items())
        self.version = hashlib.sha256(whole).hexdigest()[:12]  # one for all: a module finds its neighbours

    def __contains__(self, name: object) -> bool:
        """Is it there?"""
        return name in self._files

    def address(self, name: str) -> str:
        """Where a page loads it from."""
        return f"/static/{self.version}/{name}"

    def find(self, path: str) -> Asset | None:
        """What stands at version/name; another version's is not ours."""
        version, _, name = path.partition("/")
        return self._files.get(name) if version == self.version else None


def _asset(suffix: str, raw: bytes) -> Asset:
    return Asset(KINDS[suffix] + b"; charset=utf-8", raw, gzip.compress(raw, 9, mtime=0))
