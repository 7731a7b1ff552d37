"""Records of one partition on their way through a worker, in log order."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain


@dataclass(frozen=True, slots=True)
class Batch:
    """Some records of one partition, at least one. Who only passes them on asks for ends and sizes, not for columns."""

    topic: str  # as on the broker
    partition: int
    offsets: Sequence[int]
    times_ms: Sequence[int]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    create_time: bool = False  # times are the producers', not the broker's
    bytes: int = field(init=False)  # all values together

    def __post_init__(self) -> None:
        object.__setattr__(self, "bytes", sum(map(len, filter(None, self.values))))

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def first_offset(self) -> int:
        """Of its first record."""
        return self.offsets[0]

    @property
    def next_offset(self) -> int:
        """Behind its last record."""
        return self.offsets[-1] + 1

    @property
    def oldest_ms(self) -> int:
        """The time of its first record."""
        return self.times_ms[0]

    @property
    def newest_ms(self) -> int:
        """The time of its last record."""
        return self.times_ms[-1]

    def split(self, offset: int) -> "tuple[Batch | None, Batch | None]":
        """What is before `offset`, and the rest."""
        if self.next_offset <= offset:
            return self, None
        if self.first_offset >= offset:
            return None, self
        at = bisect_left(self.offsets, offset)
        return self._slice(slice(None, at)), self._slice(slice(at, None))

    def _slice(self, part: slice) -> "Batch":
        columns = self.offsets[part], self.times_ms[part], self.keys[part], self.values[part]
        return Batch(self.topic, self.partition, *columns, self.create_time)


def join(parts: Sequence[Batch]) -> Batch:
    """The records of all parts, in order."""
    first = parts[0]
    if len(parts) == 1:
        return first
    return Batch(
        first.topic,
        first.partition,
        list(chain.from_iterable(part.offsets for part in parts)),
        list(chain.from_iterable(part.times_ms for part in parts)),
        list(chain.from_iterable(part.keys for part in parts)),
        list(chain.from_iterable(part.values for part in parts)),
        first.create_time,
    )
