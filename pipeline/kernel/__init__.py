"""What costs most of a worker's time, as two pure functions. Another kernel may stand beside the Python one.

    fold(batch, limits, from_offset, closed_ms) -> Contributions   what events add to windows
    rows(topic, limits, batch, chain, epoch)    -> Recorded        what records become in ClickHouse

Which kernel runs is decided here and nowhere else; whoever works takes the two from this package. A kernel must make
the same of every batch as `python` does: tests/unit/test_kernel.py holds each of KERNELS to it.
"""

from collections.abc import Mapping
from typing import Protocol

from pipeline.core.batch import Batch
from pipeline.core.ledger.names import Position
from pipeline.core.rows.tables import Recorded
from pipeline.core.windows.contributions import Contributions
from pipeline.kernel import python
from schemas.event import TimeLimits
from schemas.topics import Topic


class Kernel(Protocol):
    """A module with these two functions."""

    def fold(self, batch: Batch, limits: TimeLimits, from_offset: int, closed_ms: int) -> Contributions:
        """What events add to windows, less what is done."""

    def rows(
        self,
        topic: Topic,
        limits: TimeLimits,
        batch: Batch,
        chain: Mapping[int, Position] = ...,
        epoch: int = ...,
    ) -> Recorded:
        """What records become in ClickHouse."""


KERNELS: tuple[Kernel, ...] = (python,)  # best last
fold, rows = KERNELS[-1].fold, KERNELS[-1].rows
