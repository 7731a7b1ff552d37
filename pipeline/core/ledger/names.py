"""Names of cuts (design section 2).

A worker names a cut before it makes it: an OffsetCommit whose metadata holds the name. The name says what is done so
far and what this cut adds, so one commit ends the last cut and begins the next. Whoever reads the name can make the
cut again, byte for byte.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

_OFFSET_BITS = 44  # 17 million million records of one partition
METADATA_BYTES_MAX = 4096  # what a broker takes (offset.metadata.max.bytes)


class ForeignMetadataError(Exception):
    """A committed offset whose metadata is not ours: somebody else uses this consumer group."""


class Position(NamedTuple):
    """How far a source partition's output has come. Compared in this order; every cut ends later than it begins."""

    epoch: int  # grows when an operator accepts that the source's log was cut or made anew
    offset: int  # contributions of smaller offsets ...
    through_ms: int  # ... to windows that end by then are out
    part: int = 0  # of a cut that takes several records: how many of them


ORIGIN = Position(0, 0, 0)


@dataclass(frozen=True, slots=True)
class AggregatorName:
    """A cut of one partition of events, and what is done before it.

    It holds all contributions of offsets < to_offset to windows that end by through_ms, less those of
    offsets < from_offset to windows that end by closed_ms. With from = to it only says what is done.
    """

    low: int  # the committed offset: a restart reads from here
    from_offset: int
    closed_ms: int
    to_offset: int
    through_ms: int
    targets: int  # partitions of inference.aggregates that the cut is spread over
    epoch: int = 0
    topic_id: str = ""  # of the topic that the offsets belong to; "" where the broker does not say

    @classmethod
    def begin(cls, offset: int, epoch: int = 0, topic_id: str = "") -> "AggregatorName":
        """Nothing is done: start at `offset`."""
        return cls(offset, offset, 0, offset, 0, 0, epoch, topic_id)

    @classmethod
    def of(cls, numbers: Sequence[int], topic_id: str) -> "AggregatorName":
        """From its parts, as `numbers` has them."""
        low, start, closed_ms, to, through_ms, targets, epoch = numbers
        return cls(low, start, closed_ms, to, through_ms, targets, epoch, topic_id)

    @property
    def reads_from(self) -> int:
        """The first offset that a restart reads."""
        return self.low

    @property
    def numbers(self) -> tuple[int, int, int, int, int, int, int]:
        """All but the topic's id: what a record of the cut keeps of its name."""
        low, start, closed_ms, to, through_ms = (
            self.low, self.from_offset, self.closed_ms, self.to_offset, self.through_ms,
        )  # fmt: skip
        return low, start, closed_ms, to, through_ms, self.targets, self.epoch

    @property
    def is_empty(self) -> bool:
        """Whether it names no cut, only what is done."""
        return (self.from_offset, self.closed_ms) == (self.to_offset, self.through_ms)

    @property
    def start(self) -> Position:
        """Where the cut begins."""
        return Position(self.epoch, self.from_offset, self.closed_ms)

    @property
    def end(self) -> Position:
        """Where the cut ends."""
        return Position(self.epoch, self.to_offset, self.through_ms)

    def done(self, low: int) -> "AggregatorName":
        """What is done once this cut is: a name without a cut."""
        return replace(self, low=low, from_offset=self.to_offset, closed_ms=self.through_ms)

    def goes_on(self, low: int, from_offset: int, topic_id: str) -> "AggregatorName":
        """What an operator accepts when the log is not what it was: it is read from `low`, and new from `from_offset`.

        Windows that are closed stay closed. The named cut counts as done: it may have gone out in part, and twice is
        worse than a known gap. A new epoch tells every reader of the chain that what lies between is known to be gone.
        """
        closed_ms = self.through_ms
        return AggregatorName(low, from_offset, closed_ms, from_offset, closed_ms, 0, self.epoch + 1, topic_id)

    def metadata(self) -> str:
        """What is committed beside `low`."""
        return "a2:" + ":".join(map(str, (*self.numbers[1:], self.topic_id)))

    @classmethod
    def parse(cls, offset: int, metadata: str) -> "AggregatorName":
        """The name in a committed offset. Raises ForeignMetadataError."""
        try:
            version, *fields, topic_id = metadata.rstrip("\0").split(":")
            if version != "a2" or len(fields) != 6:
                raise ValueError(metadata)
            return cls.of([offset, *map(int, fields)], topic_id)
        except ValueError as error:
            raise ForeignMetadataError(f"not the aggregator's: {metadata[:80]!r}") from error


@dataclass(frozen=True, slots=True)
class RecorderName:
    """A cut of one partition: the records of offsets [from_offset, to_offset). Empty (from = to): nothing is named."""

    from_offset: int  # the committed offset
    to_offset: int
    named_at_ms: int  # by the wall clock; only says whether ClickHouse may have forgotten the tokens
    chain: Mapping[int, Position] = field(default_factory=dict)  # inference.aggregates: positions at from_offset
    epoch: int = 0  # grows when an operator accepts that the topic was made anew
    verify_below: int = 0  # ClickHouse may have records up to here already: it is asked before they are put in
    topic_id: str = ""  # of the topic that the offsets belong to; "" where the broker does not say

    @property
    def reads_from(self) -> int:
        """The first offset that a restart reads."""
        return self.from_offset

    @property
    def is_empty(self) -> bool:
        """Whether it names no cut, only what is done."""
        return self.from_offset == self.to_offset

    def metadata(self) -> str:
        """What is committed beside `from_offset`."""
        numbers = f"{self.to_offset}:{self.named_at_ms}:{self.epoch}:{self.verify_below}"
        text = f"r2:{numbers}:{self.topic_id}:{_pack(self.chain)}"
        if len(text) > METADATA_BYTES_MAX:
            raise ValueError(
                f"the chain's positions of {len(self.chain)} sources do not fit into {METADATA_BYTES_MAX} bytes"
            )
        return text

    @classmethod
    def parse(cls, offset: int, metadata: str) -> "RecorderName":
        """The name in a committed offset. Raises ForeignMetadataError."""
        try:
            version, *numbers, topic_id, chain = metadata.rstrip("\0").split(":")
            if version != "r2":
                raise ValueError(metadata)
            to_offset, named_at_ms, epoch, verify_below = map(int, numbers)
            return cls(offset, to_offset, named_at_ms, _unpack(chain), epoch, verify_below, topic_id)
        except (ValueError, IndexError) as error:
            raise ForeignMetadataError(f"not the recorder's: {metadata[:80]!r}") from error


def mark(epoch: int, offset: int) -> int:
    """What a window's row keeps of the cut it came with: grows with every cut, also when the topic is made anew."""
    return epoch << _OFFSET_BITS | offset


def marked(value: int) -> tuple[int, int]:
    """The epoch and the offset of a mark."""
    return value >> _OFFSET_BITS, value & (1 << _OFFSET_BITS) - 1


def _pack(chain: Mapping[int, Position]) -> str:
    # Times as distances from the latest: sources keep pace, so these are short, and some 240 sources fit.
    latest_ms = max((position.through_ms for position in chain.values()), default=0)
    numbers = [latest_ms] if chain else []
    for source, (epoch, offset, through_ms, part) in sorted(chain.items()):
        numbers += (source, epoch, offset, latest_ms - through_ms, part)
    out = bytearray()
    for number in numbers:
        while number > 127:
            out.append(number & 127 | 128)
            number >>= 7
        out.append(number)
    return base64.b64encode(out, b"-_").decode()


def _unpack(text: str) -> dict[int, Position]:
    numbers = list(_varints(base64.b64decode(text, b"-_", validate=True)))
    if len(numbers) % 5 != (1 if numbers else 0):
        raise ValueError("torn chain")
    chain: dict[int, Position] = {}
    for i in range(1, len(numbers), 5):
        source, epoch, offset, behind_ms, part = numbers[i : i + 5]
        chain[source] = Position(epoch, offset, numbers[0] - behind_ms, part)
    return chain


def _varints(packed: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in packed:
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            yield number
            number = shift = 0
    if shift:
        raise ValueError("torn number")
