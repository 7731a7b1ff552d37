"""The writer after a ClickHouse that was killed between a token and its part."""

from functools import partial

import pytest

from pipeline.config import load
from pipeline.core.rows.blocks import Block
from pipeline.core.rows.inferences import record_events
from pipeline.edge.clock import now_ms
from pipeline.edge.store.inserts import Attempt, Writer
from tests.builders import LIMITS, event, records
from tests.native_reader import read_block
from tests.simulation.clickhouse import ClickHouse, ServerDied
from tests.simulation.loop import VirtualLoop
from tests.simulation.luck import Luck

TOKEN = "inference.events:3:100-102:0"


class Steady:
    """A worker that is never frozen."""

    async def gate(self) -> None:
        """Open."""


def cut() -> Block:
    """Two events."""
    (rows,) = record_events(records([event(), event()]), LIMITS).blocks
    return rows


def spend(clickhouse: ClickHouse, rows: Block, token: str) -> None:
    """The server logs the token, and dies."""

    def die() -> None:
        raise ServerDied

    with pytest.raises(ServerDied):
        clickhouse.tables[rows.table].insert(token, read_block(rows.body)[1], lambda: None, die)


@pytest.mark.parametrize("spent", [0, 1, 2, 3])
@pytest.mark.parametrize("attempt", [Attempt.AGAIN, Attempt.AGAIN_OLD])
def test_rows_are_put_back_however_many_tokens_were_spent_without_them(spent: int, attempt: Attempt) -> None:
    # By whoever was at this cut before: of the insert itself, and of mends of it.
    luck, rows, loop = Luck(0), cut(), VirtualLoop()
    luck.stormy = False
    clickhouse = ClickHouse(luck, tokens_max=100)
    for token in [TOKEN, *(f"{TOKEN}:r{mend}" for mend in (1, 2))][:spent]:
        spend(clickhouse, rows, token)

    async def put() -> None:
        writer = Writer(load({}), partial(clickhouse.answer, Steady()))
        await writer.put(rows, TOKEN, attempt, now_ms(), lambda: None)

    try:
        loop.run_until_complete(put())
    finally:
        loop.end()
    assert [row["kafka_offset"] for row in clickhouse.tables["inferences"].rows] == [100, 101]
