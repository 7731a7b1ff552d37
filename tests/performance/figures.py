"""What the benchmarks report: figures with their targets, as a table and as JSON."""

from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number. `target`: what it is to reach, `more` telling in which direction."""

    bench: str
    what: str
    value: float
    unit: str
    target: float | None = None
    more: bool = False  # is better

    @property
    def ratio(self) -> float | None:
        """How far it is from its target: 1 or more has reached it."""
        if self.target is None or not self.value:
            return None
        return self.value / self.target if self.more else self.target / self.value

    def as_json(self) -> dict[str, Any]:
        """For a script."""
        return {**asdict(self), "ratio": self.ratio}


def table(figures: list[Figure], title: str) -> Table:
    """All figures, a section each benchmark."""
    out = Table(title=title, title_justify="left", caption="ratio: 1 or more has reached the target")
    out.add_column("benchmark")
    out.add_column("figure")
    for name in ("value", "unit", "target", "ratio"):
        out.add_column(name, justify="left" if name == "unit" else "right")
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


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) >= 10 else f"{value:.2f}"
