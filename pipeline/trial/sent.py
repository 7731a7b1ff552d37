"""What a load generator sent and Kafka acknowledged: the file of `produce --verify`, which `audit --sent` reads.

Sums hold the good events alone, duplicates counted each time as the pipeline must; refused ones are counted by reason.
"""

from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np

from pipeline.core.tally import Ints, dense_groups, group_sum
from pipeline.core.windows.log_clock import WINDOW_MS
from pipeline.trial.breakage import WAYS
from pipeline.trial.workload import NO_LATENCY, DrawnRecords, Stream

VERSION = 1
_PENDING_MAX = 65_536  # records are added up in lots of about this many
_WITHOUT_OFFSET = -1


class Cell(msgspec.Struct, frozen=True, array_like=True):
    """Exact sums of one (workspace, model, device, 10-second window); a JSON array in this order."""

    workspace: str
    model_id: str
    device_id: str
    window_start_ms: int
    inference_count: int
    error_count: int
    empty_count: int
    detection_count: int
    latency_count: int
    latency_us_sum: int
    confidence_ppm_sum: int


class Unknown(msgspec.Struct, frozen=True):
    """A batch that was sent and never answered: all of it is on the broker, or none."""

    partition: int
    record_count: int
    refused: dict[str, int]
    cells: list[Cell]


class SentRecords(msgspec.Struct, frozen=True):
    """Everything acknowledged. `ranges` are (first offset, count) by partition, in order, neighbours joined."""

    topic: str
    seed: int
    started_ms: int
    ended_ms: int
    record_count: int  # acknowledged, refused ones included
    duplicate_count: int
    refused: dict[str, int]  # malformed records by reason
    ranges: dict[int, list[tuple[int, int]]]
    without_offset: dict[int, int]  # records by partition that Kafka has, without saying where
    cells: list[Cell]
    unknown: list[Unknown]
    version: int = VERSION


def encode(sent: SentRecords) -> bytes:
    """The file's bytes."""
    return msgspec.json.encode(sent)


def decode(raw: bytes) -> SentRecords:
    """The file's content. Raises msgspec.DecodeError (or its ValidationError) when it is no such file."""
    sent = msgspec.json.decode(raw, type=SentRecords)
    if sent.version != VERSION:
        raise msgspec.ValidationError(f"version {sent.version}, expected {VERSION}")
    return sent


def recount(workspace: str, streams: Sequence[Stream], records: DrawnRecords) -> tuple[list[Cell], dict[str, int]]:
    """(the cells of the good events, refused by reason), of some records."""
    sums = _Sums(len(streams))
    sums.add(records)
    return sums.cells(workspace, streams), sums.refused()


class Account:
    """A machine that adds up acknowledgements, in any order."""

    def __init__(self, workspace: str, streams: Sequence[Stream]) -> None:
        self._workspace = workspace
        self._streams = streams
        self._sums = _Sums(len(streams))
        self._pending: list[DrawnRecords] = []
        self._pending_count = 0
        self._ranges: dict[int, list[tuple[int, int]]] = {}
        self._without_offset: Counter[int] = Counter()
        self._unknown: list[Unknown] = []
        self.record_count = 0
        self._duplicate_count = 0

    def acknowledged(self, partition: int, base_offset: int, records: DrawnRecords) -> None:
        """Kafka has these records, from `base_offset` on (-1: it does not say where)."""
        count = len(records)
        if base_offset == _WITHOUT_OFFSET:
            self._without_offset[partition] += count
        else:
            ranges = self._ranges.setdefault(partition, [])
            if ranges and sum(ranges[-1]) == base_offset:
                ranges[-1] = (ranges[-1][0], ranges[-1][1] + count)
            else:
                ranges.append((base_offset, count))
        self.record_count += count
        self._duplicate_count += int(np.count_nonzero(np.diff(records.number) == 0))
        self._pending.append(records)
        self._pending_count += count
        if self._pending_count >= _PENDING_MAX:
            self._add_pending()

    def unknown(self, partition: int, records: DrawnRecords) -> None:
        """Kafka was sent these records and did not answer."""
        cells, refused = recount(self._workspace, self._streams, records)
        self._unknown.append(Unknown(partition, len(records), refused, cells))

    def sent(self, topic: str, seed: int, started_ms: int, ended_ms: int) -> SentRecords:
        """What was acknowledged until now."""
        self._add_pending()
        return SentRecords(
            topic=topic,
            seed=seed,
            started_ms=started_ms,
            ended_ms=ended_ms,
            record_count=self.record_count,
            duplicate_count=self._duplicate_count,
            refused=self._sums.refused(),
            ranges={partition: sorted(self._ranges[partition]) for partition in sorted(self._ranges)},
            without_offset=dict(self._without_offset),
            cells=self._sums.cells(self._workspace, self._streams),
            unknown=list(self._unknown),
        )

    def _add_pending(self) -> None:
        if self._pending:
            columns = (
                np.concatenate([getattr(part, name) for part in self._pending]) for name in DrawnRecords.__slots__
            )
            self._sums.add(DrawnRecords(*columns))
            self._pending, self._pending_count = [], 0


class _Sums:
    """Sums by (window, stream)."""

    def __init__(self, stream_count: int) -> None:
        self._stream_count = stream_count
        self._by_code: dict[int, Ints] = {}  # window number * streams + stream -> the counts of Cell, in its order
        self._refused: Counter[str] = Counter()

    def add(self, records: DrawnRecords) -> None:
        """Adds some records."""
        for way in records.way[records.way >= 0].tolist():
            self._refused[WAYS[way].reason.value] += 1
        good = records.select(np.flatnonzero(records.way < 0))
        if not len(good):
            return
        codes = good.time_ms // WINDOW_MS * self._stream_count + good.stream
        found, groups = dense_groups(codes - codes.min())
        has_latency = good.latency_us != NO_LATENCY
        values = (
            np.ones(len(good), np.int64),
            good.is_error,
            (good.detection_count == 0).astype(np.int64),
            good.detection_count,
            has_latency.astype(np.int64),
            np.where(has_latency, good.latency_us, 0),
            good.confidence_ppm_sum,
        )
        table = np.stack([group_sum(groups, value, len(found)) for value in values], axis=1)
        for code, row in zip((found + codes.min()).tolist(), table, strict=True):
            before = self._by_code.get(code)
            self._by_code[code] = row if before is None else before + row

    def cells(self, workspace: str, streams: Sequence[Stream]) -> list[Cell]:
        """The sums, ordered by window, then stream."""
        cells = []
        for code in sorted(self._by_code):
            window, stream = divmod(code, self._stream_count)
            of = streams[stream]
            counts = self._by_code[code].tolist()
            cells.append(Cell(workspace, of.model_id, of.device_id, window * WINDOW_MS, *counts))
        return cells

    def refused(self) -> dict[str, int]:
        """Malformed records by reason."""
        return dict(sorted(self._refused.items()))
