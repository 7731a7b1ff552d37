"""What the benchmarks report: figures with their targets, as a table and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table


class VoidRunError(Exception):
    """What came out is not what was put in: the run says nothing. The text says what is missing."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number. `target`: what it is to reach; `more`: whether more is better."""

    bench: str
    what: str
    value: float
    unit: str
    target: float | None = None
    more: bool = False

    @property
    def ratio(self) -> float | None:
        """How far it has come: 1 or more has reached the target."""
        if self.target is None or not self.value:
            return None
        return self.value / self.target if self.more else self.target / self.value

    def as_json(self) -> dict[str, Any]:
        """For a script."""
        return {**asdict(self), "ratio": self.ratio}


def table(figures: Sequence[Figure], title: str) -> Table:
    """All figures, a section each benchmark."""
    out = Table(title=title, title_justify="left", caption="ratio: 1 or more has reached the target")
    out.add_column("benchmark")
    out.add_column("figure")
    for name in ("value", "unit", "target", "ratio"):
        out.add_column(name, justify="left" if name == "unit" else "right", no_wrap=True)
    last = ""
    for figure in figures:
        if last and figure.bench != last:
            out.add_section()
        target = "" if figure.target is None else f"{'>=' if figure.more else '<='} {_number(figure.target)}"
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
        name = figure.bench if figure.bench != last else ""
        out.add_row(name, figure.what, _number(figure.value), figure.unit, target, ratio)
        last = figure.bench
    return out


def quantile(values: Sequence[float], q: float) -> float:
    """The q-quantile: the value of rank ceil(q n)."""
    ranked = sorted(values)
    return ranked[max(0, -int(-q * len(ranked) // 1) - 1)]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
