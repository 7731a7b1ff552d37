"""The SQL in our documents, so that tests and benchmarks can run it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
WITH_QUERIES = ("README.md", "docs/queries.md")

_BLOCK = re.compile(r"^```sql\n(.*?)^```", re.MULTILINE | re.DOTALL)
_TITLED = re.compile(r"-- (.+)\n")


@dataclass(frozen=True, slots=True)
class Documented:
    """A statement in a document, and the comment above it."""

    document: str
    title: str
    sql: str

    def __str__(self) -> str:
        return f"{self.document}: {self.title}"

    def as_of(self, now_s: int) -> str:
        """The SQL, asked at `now_s`."""
        return re.sub(r"\bnow\(\)", f"toDateTime({now_s}, 'UTC')", self.sql)


def documented(document: str) -> Iterator[Documented]:
    """Every statement in the ```sql blocks of a document. Raises ValueError for one without a title."""
    for block in _BLOCK.findall((ROOT / document).read_text(encoding="utf-8")):
        for statement in (part.strip() for part in block.split(";")):
            if statement:
                titled = _TITLED.match(statement)
                if titled is None:
                    raise ValueError(f"{document}: no comment says what this is for: {statement[:60]}")
                yield Documented(document, titled[1], statement)


def all_documented() -> list[Documented]:
    """Every statement of every document."""
    return [query for document in WITH_QUERIES for query in documented(document)]
