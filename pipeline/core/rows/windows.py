"""inference.aggregates -> model_windows_in and class_windows_in, which feed the window tables and their rollups."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.core.batch import Batch
from pipeline.core.columns import concatenated, joined
from pipeline.core.ledger.chain import Chain, Verdict
from pipeline.core.ledger.names import Position, mark
from pipeline.core.rows.blocks import Block, Place
from pipeline.core.rows.native import Column, Maps, NullableNumbers, Numbers, Strings
from pipeline.core.rows.tables import Recorded, dead_letters
from pipeline.core.tally import Ints
from schemas import aggregate
from schemas.aggregate import AggregateRecord, Rows
from schemas.rejection import Rejected
from schemas.windows import CLASSES, MODELS, Summary, WindowColumn, WindowTable


def record_aggregates(records: Batch, positions: Mapping[int, Position], epoch: int = 0) -> Recorded:
    """inference.aggregates -> model_windows and class_windows, each link of the chain once."""
    chain, verdicts = Chain(positions), Counter[Verdict]()
    taken: list[tuple[int, AggregateRecord]] = []
    refused: list[tuple[int, Rejected]] = []
    for position, raw in enumerate(records.values):
        record = aggregate.decode(raw)
        if isinstance(record, Rejected):
            refused.append((position, record))
            continue
        verdict = chain.observe(record.source, Position(*record.start), Position(*record.end))
        verdicts[verdict] += 1
        if verdict is not Verdict.REPEAT:
            taken.append((records.offsets[position], record))
    source = records.partition, epoch, records.next_offset - 1
    blocks = [
        _window_rows(MODELS, [(offset, record.models) for offset, record in taken], *source),
        _window_rows(CLASSES, [(offset, record.classes) for offset, record in taken], *source),
    ]
    if refused:
        blocks.append(dead_letters(records, refused))
    reasons = Counter(rejected.reason for _, rejected in refused)
    return Recorded(tuple(block for block in blocks if len(block)), reasons, verdicts=verdicts, chain=chain.snapshot())


def followed(values: Sequence[bytes | None], positions: Mapping[int, Position]) -> Mapping[int, Position]:
    """The chain's positions behind records of inference.aggregates that need not be recorded again."""
    chain = Chain(positions)
    for raw in values:
        record = aggregate.decode(raw)
        if not isinstance(record, Rejected):
            chain.follow(record.source, Position(*record.end))
    return chain.snapshot()


_Parts = Sequence[tuple[int, Rows]]


def _window_rows(table: WindowTable, parts: _Parts, partition: int, epoch: int, last: int) -> Block:
    rows = [part for _, part in parts]
    sizes = [len(part) for part in rows]
    one = np.ones(sum(sizes), np.int64)
    starts = concatenated([part.window_start_s for part in rows])
    offsets = np.repeat(np.array([offset for offset, _ in parts], np.int64), sizes)
    columns: dict[str, Column] = {
        **{name: Strings([text for part in rows for text in part.texts[name]]) for name in table.keys},
        "window_start": Numbers("DateTime", starts),
    }
    for column in table.columns if rows else ():
        columns[column.name] = _column(table, column, rows)
    # Every row says which cut it came with, so that a table can be asked whether the cut is in.
    columns["source"] = Maps(one, Numbers("UInt16", one * partition), Numbers("UInt64", one * mark(epoch, last)))
    return Block.of(f"{table.name}_in", columns, offsets, Place(partition, starts, epoch=epoch))


def _column(table: WindowTable, column: WindowColumn, parts: Sequence[Rows]) -> Column:
    if column.summary is Summary.HISTOGRAM:
        all_rows = joined([part.histograms[column.name] for part in parts])
        return Maps(all_rows.sizes, Numbers("Int32", all_rows.keys), Numbers("UInt64", all_rows.counts))
    values = _numbers(parts, column.name)
    if column.is_wide:
        high, low = values[:, 0], values[:, 1]
        return Numbers(column.type, np.stack([(high & 0xFFFFFFFF) << 32 | low, high >> 32], axis=1))
    if column.is_optional:
        return NullableNumbers(Numbers(column.type, values), _numbers(parts, table.count(column.measure)) > 0)
    return Numbers(column.type, values)


def _numbers(parts: Sequence[Rows], name: str) -> Ints:
    return np.concatenate([part.numbers[name] for part in parts])
