"""What the demo shows on a terminal: what happens, what ClickHouse says of it, and in the end the sums."""

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pipeline.core.detection.detector import FIRST_SAY_WINDOWS
from pipeline.core.windows.log_clock import WINDOW_MS
from pipeline.edge.clock import now_ms
from pipeline.edge.store.queries.demo import Alert, PhaseNumbers, Window
from pipeline.trial.demo.job import BEAT_S, Camera, Demo

WINDOWS_SHOWN = 30
ALERTS_SHOWN = 8
KINDS = {"anomaly": "automatic"}
_BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float | None]) -> str:
    """One character per value of 0..1; a gap where there is none."""
    return "".join(" " if v is None else _BARS[min(int(v * len(_BARS)), len(_BARS) - 1)] for v in values)


def live_view(
    demo: Demo,
    windows: Mapping[str, Sequence[Window]],
    history: Mapping[str, int],
    alerts: Sequence[Alert],
    problem: str,
    left_s: float | None,
) -> RenderableType:
    """The whole picture, as of now."""
    phase = demo.played[-1].phase
    colour = "green" if phase.name in ("healthy", "recovered") else "red"
    story = Text.assemble((f" {phase.name} ", f"bold white on {colour}"), f"  {demo.story()}")
    end = "Ctrl-C ends it" if left_s is None else f"{max(left_s, 0):.0f} s left"
    parts: list[RenderableType] = [story, _models(demo, windows), _devices(demo.devices)]
    parts += [_judged(history), _alerts(alerts)]
    if problem:
        parts.append(Text(problem, style="yellow"))
    return Panel(Group(*parts), title="inferwatch demo", subtitle=end)


def _models(demo: Demo, windows: Mapping[str, Sequence[Window]]) -> Table:
    table = Table(expand=True, box=None, pad_edge=False)
    for heading in ("model", "published", "in ClickHouse: last window", "confidence", "p95", "confidence by window"):
        table.add_column(heading, justify="left" if heading in ("model", "confidence by window") else "right")
    for model_id, published in sorted(demo.published.items()):
        seen = windows.get(model_id, ())
        cells = ["-", "-", "-"]
        if seen:
            last = seen[-1]
            age_s = (now_ms() - last.start_ms) // 1000
            cells = [
                f"{last.inference_count} inferences, {age_s} s ago",
                "-" if last.confidence_mean is None else f"{last.confidence_mean:.3f}",
                "-" if last.latency_p95_ms is None else f"{last.latency_p95_ms:.2f} ms",
            ]
        table.add_row(model_id, f"{published:,}", *cells, sparkline([window.confidence_mean for window in seen]))
    return table


def _devices(devices: Sequence[Camera]) -> Text:
    """Each device and its last heartbeat; red when one is overdue."""
    text = Text("last heartbeat  ", style="dim")
    for device in devices:
        if device.last_beat_ms is None:
            continue
        age_s = (now_ms() - device.last_beat_ms) / 1000
        text.append(f"{device.device_id} {age_s:.0f} s   ", style="bold red" if age_s > 2 * BEAT_S else "green")
    return text


def _judged(history: Mapping[str, int]) -> Text:
    """Whom automatic detection judges by now, and when it will."""
    told = []
    for model_id, windows in sorted(history.items()):
        wait_s = (FIRST_SAY_WINDOWS - windows) * WINDOW_MS // 1000
        when = "is judged" if wait_s <= 0 else f"will be judged in {wait_s // 60}:{wait_s % 60:02d}"
        told.append((f"{model_id} {when}   ", "green" if wait_s <= 0 else "dim"))
    return Text.assemble(("automatic detection  ", "dim"), *told)


def _alerts(alerts: Sequence[Alert]) -> Text:
    """The last ones, those that are open in red."""
    if not alerts:
        return Text("alerts          none", style="dim")
    lines = [
        Text.assemble((f"{alert.state:<12}", _style(alert)), f"{KINDS.get(alert.kind, alert.kind):<11}{alert.summary}")
        for alert in alerts
    ]
    return Text("\n").join([Text("alerts", style="dim"), *lines[-ALERTS_SHOWN:]])


def _style(alert: Alert) -> str:
    if alert.state == "resolved":
        return "green"
    return "bold red" if alert.state == "firing" else "yellow"


def alerts_table(alerts: Sequence[Alert], start_ms: int) -> Table:
    """Every alert of the run: when it fired and when it was over, in seconds since the start."""
    table = Table(title="Alerts, from ClickHouse", title_justify="left")
    for heading in ("about", "kind", "fired", "resolved"):
        table.add_column(heading, justify="right" if heading in ("fired", "resolved") else "left")
    table.add_column("why")
    for alert in alerts:
        ends = ("-" if ms is None else f"{(ms - start_ms) / 1000:.0f} s" for ms in (alert.fired_ms, alert.resolved_ms))
        table.add_row(alert.what, KINDS.get(alert.kind, alert.kind), *ends, alert.why)
    return table


def summary(
    totals: Mapping[str, tuple[int, int]],
    overall: Mapping[str, PhaseNumbers],
    phases: Mapping[str, Mapping[str, PhaseNumbers]],
) -> Table:
    """All from ClickHouse, a column for each model: counts, p95, and how sure and how right it was in each phase."""
    table = Table(title="What ClickHouse has of it", title_justify="left")
    table.add_column("")
    for model_id in totals:
        table.add_column(model_id, justify="right")
    table.add_row("windows of 10 s", *(f"{windows:,}" for windows, _ in totals.values()))
    table.add_row("inferences", *(f"{inferences:,}" for _, inferences in totals.values()))
    table.add_row(
        "p95 latency", *(_told(overall.get(m), "{0.latency_p95_ms:.2f} ms") for m in totals), end_section=True
    )
    table.add_row("mean confidence (right answers)", style="dim")
    for name, stretches in phases.items():
        cells = (_told(stretches.get(m), "{0.confidence_mean:.3f} ({0.correct_share:.0%})") for m in totals)
        table.add_row(f"  {name}", *cells)
    return table


def _told(stretch: PhaseNumbers | None, form: str) -> str:
    return "-" if stretch is None else form.format(stretch)
