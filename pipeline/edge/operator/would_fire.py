"""A rule over history for somebody who waits: the machine of the detector, for so long and over so much at most."""

import asyncio
from dataclasses import dataclass

from pipeline.core.history.replay import AT_ONCE_S, Replay, asks_confidence_bins
from pipeline.core.rules.rule_book import names_model
from pipeline.core.span import Span
from pipeline.edge.operator.history import History
from pipeline.edge.store.queries.history import Only
from schemas.alert import AlertEvent
from schemas.rule import Rule

ROWS_MAX = 5_000_000  # that are looked at
EVENTS_MAX = 20_000  # steps of alerts: what says more is no rule


@dataclass(frozen=True, slots=True)
class Tried:
    """What a rule would have led to, from `span.start` to `span.end`: less than was asked for unless `whole`."""

    events: list[AlertEvent]
    span: Span
    rows: int
    whole: bool


async def would_fire(history: History, asked: Span, rule: Rule, within_s: float) -> Tried:
    """From the start of the time on, until its end, or until time or rows are used up."""
    machine, events, rows = Replay([rule]), list[AlertEvent](), 0
    # Of all versions of a model the engine picks its own: the table is asked for one by its full name only.
    only = Only(rule.workspace, rule.model_id if names_model(rule) else None, asks_confidence_bins([rule]))
    reached_ms, deadline = asked.start * 1000, asyncio.get_running_loop().time() + within_s
    async for through_ms, models, classes in history.windows(asked, only, AT_ONCE_S):
        # Elsewhere: the loop answers others meanwhile.
        events += await asyncio.to_thread(machine.observe, through_ms, models, classes)
        rows, reached_ms = rows + len(models) + len(classes), through_ms
        if rows > ROWS_MAX or len(events) > EVENTS_MAX or asyncio.get_running_loop().time() > deadline:
            break
    end = min(asked.end, reached_ms // 1000)
    return Tried(events, Span(asked.start, end), rows, end == asked.end)
