"""When a cut is due. Any answer keeps the promise (rule 2 of the ledger): this is about delay and cost only."""

from dataclasses import dataclass

CORRECTIONS_MS = 10_000  # late events do not wait longer than this for a window to close


@dataclass(frozen=True, slots=True)
class Ripening:
    """When the recorder has waited long enough for a cut to fill."""

    rows_max: int
    age_ms: int

    def left_ms(self, waited_ms: float, records: int, is_full: bool) -> float:
        """How much longer to wait; 0: cut. `is_full`: no more fits in, so nothing more will come."""
        return 0 if is_full or records >= self.rows_max else max(0, self.age_ms - waited_ms)


def is_cut_due(*, since_cut_ms: int, through_ms: int, closed_ms: int, has_corrections: bool) -> bool:
    """Whether the aggregator cuts: a window more is closed, or contributions to closed ones have waited long enough.

    `has_corrections`: something is pending for a window that ends by `closed_ms`. While windows are closed ahead of the
    log's time (it was idle, then old records came) none closes.
    """
    return through_ms > closed_ms or (has_corrections and since_cut_ms >= CORRECTIONS_MS)
