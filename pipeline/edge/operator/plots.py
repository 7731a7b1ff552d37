"""A picture of each episode of an alert, as PNG."""

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np

from pipeline.core.history.picture import Curve, Episode, episodes, measuring_rule
from pipeline.core.rules.watched import REFERENCE_S
from pipeline.core.span import Span
from pipeline.core.windows.log_clock import WINDOW_MS
from pipeline.core.words import shown
from pipeline.edge.operator.history import History
from pipeline.edge.store.queries.history import Only
from schemas.alert import AlertEvent, AlertState
from schemas.rule import Metric, Rule

PLOTS_MAX = 200
_TITLE_WIDTH = 120  # characters; matplotlib's own wrapping would read $ as a formula
_COLOURS = {
    AlertState.PENDING: "#f2c14e",
    AlertState.FIRING: "#d1495b",
    AlertState.RECOVERING: "#66a182",
    AlertState.NO_DATA: "#9aa5b1",
}


class PlotsError(Exception):
    """Pictures cannot be made; the text says what to do."""


def check() -> None:
    """Raises PlotsError where matplotlib is missing: better before the work than after it."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise PlotsError("plots need matplotlib; install it with: pip install 'inferwatch[backtest]'") from error


async def draw(
    events: Sequence[AlertEvent], history: History, span: Span, rules: Sequence[Rule], directory: Path
) -> list[Path]:
    """Files of the first PLOTS_MAX episodes that fired, named by their beginning and what they are about."""
    check()
    try:
        await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
        by_id = {rule.rule_id: rule for rule in rules}
        return [await _draw(one, history, span, by_id, directory) for one in episodes(events)[:PLOTS_MAX]]
    except OSError as error:
        raise PlotsError(f"{directory}: {error.strerror or error}") from error


async def _draw(episode: Episode, history: History, span: Span, rules: dict[str, Rule], directory: Path) -> Path:
    from matplotlib import dates
    from matplotlib.figure import Figure

    event, until_ms = episode.loudest, span.end * 1000
    from_ms, to_ms = episode.shown(until_ms)
    from_ms = max(from_ms, span.start * 1000)
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots()
    found = await _points(event, rules, history, span, from_ms, to_ms)
    axes.plot(_times([at for at, _ in found]), [value for _, value in found], color="#30638e", lw=1, label=event.metric)
    expected = [(step.at_ms, step.expected) for step in episode.steps if step.expected is not None]
    if expected:
        times = _times([*(at for at, _ in expected), min(to_ms, episode.steps[-1].at_ms)])
        values = [value for _, value in expected]
        axes.plot(times, [*values, values[-1]], color="#3d3d3d", ls="--", drawstyle="steps-post", label="expected")
    if event.threshold is not None:
        axes.axhline(event.threshold, color="#3d3d3d", ls=":", label="threshold")
    named: set[AlertState] = set()
    for state, start, end in episode.spans(until_ms):
        if state in _COLOURS and start < to_ms:
            label = None if state in named else state.value
            axes.axvspan(*_times([start, min(end, to_ms)]), color=_COLOURS[state], alpha=0.25, lw=0, label=label)
            named.add(state)
    axes.set_xlim(*_times([from_ms, to_ms]))
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(axes.xaxis.get_major_locator()))  # type: ignore[no-untyped-call]
    axes.set_title("\n".join(wrap(shown(event.summary), _TITLE_WIDTH)), fontsize=10, parse_math=False)
    axes.legend(loc="best", fontsize=8)
    path = directory / _name(event)
    figure.savefig(path, dpi=110)
    return path


async def _points(
    event: AlertEvent, rules: dict[str, Rule], history: History, span: Span, from_ms: int, to_ms: int
) -> list[tuple[int, float]]:
    rule = measuring_rule(event, rules)
    if rule is None:
        return []
    before_s = rule.window_s + (REFERENCE_S if rule.metric is Metric.CLASS_DISTANCE else 0)
    start_s = max(span.start, (from_ms - from_ms % WINDOW_MS) // 1000 - before_s)
    curve = Curve(event, rule, from_ms)
    async for windows in history.windows(Span(start_s, to_ms // 1000), Only(event.workspace, event.model_id)):
        curve.observe(*windows)
    return curve.points


def _times(times_ms: Sequence[int]) -> Any:
    return np.array(times_ms, "datetime64[ms]")


def _name(event: AlertEvent) -> str:
    about = "-".join(filter(None, (event.model_id, event.device_id, event.class_name, event.metric)))
    at = str(np.datetime64(event.starts_at_ms // 1000, "s")).replace(":", "")
    return f"{at}-{re.sub(r'[^A-Za-z0-9._-]+', '_', about)[:80]}-{event.fingerprint[:6]}.png"
