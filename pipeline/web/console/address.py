"""The address of a page is its whole state: filter, time, order, what is open. Links are made from it. Pure."""

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote, urlencode

from pipeline.core.asking.language import Filter, FilterError, Term, Value, parse

RANGES: Mapping[str, tuple[int, str]] = {
    "1h": (3_600_000, "1 hour"),
    "24h": (86_400_000, "24 hours"),
    "7d": (7 * 86_400_000, "7 days"),
    "30d": (30 * 86_400_000, "30 days"),
}
DEFAULT_RANGE = "7d"  # never written into a link
TIME = ("range", "from", "to")  # what goes along from page to page


class Address(NamedTuple):
    """Where a visitor is."""

    workspace: str
    page: str
    query: Mapping[str, str]

    def to(self, **changes: str | None) -> str:
        """This page with other parameters; `from_` is from, None leaves one out. The next page of a list ends."""
        asked = {**self.query, "cursor": "", **{name.rstrip("_"): value for name, value in changes.items()}}
        return self._path(self.page) + _query(asked)

    def page_of(self, page: str, **asked: str | None) -> str:
        """Another page, about the same time."""
        along = {name: self.query[name] for name in TIME if name in self.query}
        return self._path(page) + _query({**along, **asked})

    def finding(self, field: str, value: str, key: str = "") -> str:
        """The inferences with this value."""
        return self.page_of("inferences", filter=str(Term(field, (Value(value),), key)))

    def narrowed(self, field: str, value: str, key: str = "") -> str:
        """This page with one condition more; where the filter is no filter, with that alone."""
        term = Term(field, (Value(value),), key)
        return self.to(filter=str(self.filter.also(term)), open=None)

    def without(self, term: Term) -> str:
        """This page with one condition less."""
        return self.to(filter=str(self.filter.without(term)), open=None)

    @property
    def filter(self) -> Filter:
        """What is asked for; what cannot be understood is told by who answers."""
        try:
            return parse(self.query.get("filter", ""))
        except FilterError:
            return Filter()

    @property
    def range(self) -> str:
        """A key of RANGES, or "custom"."""
        if self.query.get("from") or self.query.get("to"):
            return "custom"
        found = self.query.get("range", DEFAULT_RANGE)
        return found if found in RANGES else DEFAULT_RANGE

    def time(self, now_ms: int) -> dict[str, str]:
        """As the query API asks for it."""
        if self.range == "custom":
            return {"from_": self.query.get("from", ""), "to": self.query.get("to", "")}
        return {"from_": str(now_ms - RANGES[self.range][0])}

    def _path(self, page: str) -> str:
        return f"/w/{quote(self.workspace, safe='')}/{page}"


def _query(asked: Mapping[str, str | None]) -> str:
    kept = {name: value for name, value in asked.items() if value and (name, value) != ("range", DEFAULT_RANGE)}
    return f"?{urlencode(kept)}" if kept else ""
