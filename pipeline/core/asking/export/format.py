"""What a format is: bytes at the beginning, bytes for some rows, bytes at the end."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from pipeline.core.asking.export.rows import Row


class ImageFile(NamedTuple):
    """One that is kept here."""

    raw: bytes
    content_type: str
    width: int
    height: int


class Format(Protocol):
    """One export. Called in order: head, rows as often as need be, end."""

    content_type: str
    suffix: str  # of the file

    def head(self) -> bytes:
        """The beginning."""

    def rows(self, rows: Sequence[Row], pictures: Mapping[int, ImageFile]) -> bytes:
        """Some rows; `pictures` by their place among them, where they are asked for and there."""

    def end(self) -> Iterator[bytes]:
        """The end."""
