"""What the audit decides: what must be there, up to where, in which slices it is asked, and what an answer means.

The promise (design section 2): every record is exactly once a row or a dead letter, and every complete window says
exactly what its rows say. The edge asks the engines; nothing here does.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.core.ledger.names import AggregatorName
from pipeline.core.span import Span
from pipeline.core.windows.histogram import LATENCY_BOUNDS, ZERO_BUCKET

BLOCK = 1_000_000  # offsets that are counted together; only a block that does not add up is looked into
FINDINGS_MAX = 20  # shown of one check


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: in words, and its parts for a machine."""

    text: str
    parts: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report."""

    name: str
    summary: str
    compared: int  # offsets, windows or records that were looked at
    wrong: int = 0  # how many of them are not as promised
    findings: tuple[Finding, ...] = ()  # the first FINDINGS_MAX

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.wrong == 0


@dataclass(frozen=True, slots=True)
class Report:
    """All checks of one audit."""

    checks: tuple[Check, ...]
    complete_through_ms: int  # windows that end by then are complete, and were compared; 0: none is

    @property
    def ok(self) -> bool:
        """Whether every check is."""
        return all(check.ok for check in self.checks)

    def as_json(self) -> dict[str, object]:
        """For a script."""
        return {
            "ok": self.ok,
            "complete_through_ms": self.complete_through_ms,
            "checks": [
                {
                    "name": c.name,
                    "ok": c.ok,
                    "compared": c.compared,
                    "wrong": c.wrong,
                    "summary": c.summary,
                    "findings": [{"text": f.text, **f.parts} for f in c.findings],
                }
                for c in self.checks
            ],
        }


def suspects(expected: Span, blocks: Mapping[int, tuple[int, int]]) -> list[Span]:
    """The parts of `expected` that do not add up. `blocks`: block number -> (rows, distinct offsets) found inside."""
    out = []
    for block in range(expected.start // BLOCK, -(-expected.end // BLOCK)):
        part = Span(max(expected.start, block * BLOCK), min(expected.end, (block + 1) * BLOCK))
        if blocks.get(block, (0, 0)) != (len(part), len(part)):
            out.append(part)
    return out


def near(spans: Iterable[Span], apart_max: int) -> list[list[Span]]:
    """Neighbours in order, together while no more than `apart_max` lies between one and the next."""
    out: list[list[Span]] = []
    for span in spans:
        if out and span.start - out[-1][-1].end <= apart_max:
            out[-1].append(span)
        else:
            out.append([span])
    return out


def through_by_partition(names: Mapping[int, AggregatorName], logs: Mapping[int, Span]) -> dict[int, int]:
    """By partition: the end of the last window that it adds to no more, but for late events. 0: none.

    `names` as committed; `logs` the offsets on the broker. A partition that never held a record
    and has no name holds nothing back, and is left out.
    """
    return {p: name.through_ms if name else 0 for p in logs if (name := names.get(p)) or logs[p].end > 0}


def ceil_to(second: int, size_s: int) -> int:
    """The first multiple of `size_s` that is not before."""
    return -(-second // size_s) * size_s


def latency_table() -> tuple[list[int], list[int]]:
    """(least latency in us, bucket) of every bucket that holds a whole microsecond, for a search in SQL.

    From the integer bounds, as the histogram itself; a logarithm may be an ulp off.
    """
    least, buckets = [0], [ZERO_BUCKET]
    largest_before = 0
    for bucket, largest in enumerate(LATENCY_BOUNDS.tolist()):
        if largest > largest_before:
            least.append(largest_before + 1)
            buckets.append(bucket)
            largest_before = largest
    return least, buckets


def differences(columns: Sequence[str], expected: Sequence[str] | None, actual: Sequence[str] | None) -> str:
    """What differs between two rows of the same columns, in words."""
    if actual is None:
        return "is missing"
    if expected is None:
        return "should not be there"
    return ", ".join(
        f"{column} is {_short(there)}, should be {_short(due)}"
        for column, due, there in zip(columns, expected, actual, strict=True)
        if due != there
    )


def _short(value: str) -> str:
    return value if len(value) <= 60 else f"{value[:57]}..."
