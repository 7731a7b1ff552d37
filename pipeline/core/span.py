"""Half-open stretches of offsets or seconds, and how they are cut and joined."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """Half-open: offsets, or seconds, from `start` to before `end`."""

    start: int
    end: int

    def __len__(self) -> int:
        return max(0, self.end - self.start)


def runs(offsets: Iterable[int]) -> list[Span]:
    """Offsets as ranges, in order."""
    out: list[Span] = []
    for offset in sorted(offsets):
        if out and out[-1].end == offset:
            out[-1] = Span(out[-1].start, offset + 1)
        else:
            out.append(Span(offset, offset + 1))
    return out


def slices(rows: Mapping[int, int], size_s: int, rows_max: int) -> list[Span]:
    """Neighbouring periods joined while they hold at most `rows_max` rows. `rows`: start in seconds -> rows."""
    out: list[Span] = []
    held = 0
    for start_s, count in sorted(rows.items()):
        if out and held + count <= rows_max:
            out[-1] = Span(out[-1].start, start_s + size_s)
            held += count
        else:
            out.append(Span(start_s, start_s + size_s))
            held = count
    return out
