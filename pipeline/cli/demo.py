"""inferwatch demo: everything on this machine, and real inferences to look at."""

import asyncio
import logging
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.markup import escape

from pipeline.cli.data_dir import DEFAULT
from pipeline.cli.duration import seconds
from pipeline.cli.running import run
from pipeline.cli.signals import tell, when_asked_to_end
from pipeline.cli.up import PROCESSES, Steps, addresses, commands
from pipeline.config import Settings
from pipeline.core.detection.detector import FIRST_SAY_WINDOWS
from pipeline.core.windows.log_clock import WINDOW_MS
from pipeline.edge.audit.report import Audit
from pipeline.edge.clock import now_ms
from pipeline.edge.kafka.client import Kafka
from pipeline.edge.kafka.compacted import put_rules
from pipeline.edge.kafka.publish import publishing
from pipeline.edge.local.stack import Stack
from pipeline.edge.store.client import ClickHouse, ClickHouseUnavailable
from pipeline.edge.store.queries.demo import FIRST_QUERY, Alert, DemoStats, Window
from pipeline.trial.demo.digits import train
from pipeline.trial.demo.job import DEGRADED, Demo, confidence_rule
from pipeline.trial.demo.view import KINDS, WINDOWS_SHOWN, alerts_table, live_view, summary
from pipeline.trial.phases import schedule

POLL_S = 2.0
RESOLVED_S = 20.0  # for alerts that end with the last windows
DEGRADE_AFTER_S = 20.0
HISTORY_WINDOWS = FIRST_SAY_WINDOWS + 3  # then automatic detection has a say, and those before are judged, too
ARRIVAL_S = 45.0  # windows close 2 s after their end, an idle partition a little later


def demo(
    data_dir: Annotated[
        Path, typer.Option(help="where everything is kept, for up and for the next demo, too")
    ] = DEFAULT,
    for_: Annotated[str | None, typer.Option("--for", help="end after a time, like 60s; default: at Ctrl-C")] = None,
    devices: Annotated[int, typer.Option(min=1, max=100, help="cameras; they run two models in turn")] = 6,
    degrade_after: Annotated[
        str | None, typer.Option(help="when the cameras of one model begin to fail; default: 20s, a quarter of --for")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="in the end, keep everything running until Ctrl-C")] = False,
) -> None:
    """Start everything, run a real classifier on real images, watch its confidence drop, and prove the counts.

    A rule and the heartbeats raise alerts at once. Automatic detection judges a model once it has ten minutes of its
    history: with --for 15m, or without --for, the faults come again then.

    Exit code 1 if the audit at the end finds anything wrong.
    """
    total_s = seconds(for_) if for_ else None
    least_s = DEGRADE_AFTER_S if total_s is None else min(DEGRADE_AFTER_S, total_s / 4)
    degrade_after_s = seconds(degrade_after) if degrade_after else least_s
    if total_s is not None and total_s <= degrade_after_s:
        raise typer.BadParameter("--for must be longer than --degrade-after")
    logging.getLogger("aiokafka").setLevel(
        logging.CRITICAL
    )  # it would write over the picture; failures are told anyway
    clean = run(_Run(data_dir, total_s, degrade_after_s, devices, keep=keep).run())
    raise typer.Exit(0 if clean else 1)


class _Run:
    """One demo, from the first start to the last stop."""

    def __init__(
        self, data_dir: Path, total_s: float | None, degrade_after_s: float, device_count: int, *, keep: bool
    ) -> None:
        self._console = Console()
        self._total_s = total_s
        self._degrade_after_s = degrade_after_s
        self._device_count = device_count
        self._keep = keep
        self._steps = Steps(self._console)
        self._problem = ""
        self._windows: dict[str, list[Window]] = {}
        self._alerts: list[Alert] = []
        self._history: dict[str, int] = {}  # windows that automatic detection knows, by model
        self._judged: set[str] = set()  # models of which that was told
        self._told: set[tuple[str, str]] = set()  # alerts and states that were printed
        self._stop = asyncio.Event()
        self._signals = 0
        self._task: asyncio.Task[bool] | None = None
        self._stack = Stack(data_dir, roles=PROCESSES, progress=self._steps, notice=self._notice)

    async def run(self) -> bool:
        """Whether all was well."""
        when_asked_to_end(self._on_signal)
        self._task = asyncio.current_task()
        try:
            return await self._play() if await self._start() else True
        except asyncio.CancelledError:
            if self._signals < 2:  # not by us
                raise
            return True
        finally:
            tell(self._console, "stopping: workers, ClickHouse, Kafka …")
            await self._stack.stop()

    def _on_signal(self) -> None:
        """Asked once: ends the run and sums up. Twice: stops at once, in order. Three times: at all costs."""
        self._signals += 1
        self._stop.set()
        if self._signals == 2 and self._task:
            self._task.cancel()
        elif self._signals > 2:
            self._stack.kill()

    def _notice(self, text: str) -> None:
        self._problem = text
        tell(self._console, f"[yellow]![/] {escape(text)}")

    async def _start(self) -> bool:
        """Starts the stack; False when it was stopped before it was up."""
        with self._steps.shown:
            starting, stopped = asyncio.create_task(self._stack.start()), asyncio.create_task(self._stop.wait())
            await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if self._stop.is_set():
                starting.cancel()
                await asyncio.gather(starting, return_exceptions=True)
                return False
            stopped.cancel()
        await starting
        self._tell_addresses()
        return True

    def _tell_addresses(self) -> None:
        self._console.print(addresses(self._stack))
        self._console.print(commands(self._stack), highlight=False, soft_wrap=True)

    async def _play(self) -> bool:
        settings = self._stack.settings
        with self._console.status("training two classifiers on scikit-learn's digits"):
            digits = await asyncio.to_thread(train, self._stack.directory / "images")
        rule = confidence_rule(settings.workspace)
        await put_rules(settings, [rule])
        self._console.print(
            f"rule {rule.rule_id}: an alert when the mean confidence of {rule.model_id} over "
            f"{rule.window_s} s is below {rule.threshold}",
            highlight=False,
            soft_wrap=True,
        )
        async with publishing(settings) as publisher, ClickHouse(settings, "reader") as store:
            stats = DemoStats(store, settings.workspace, now_ms())
            phases = schedule(self._degrade_after_s, self._total_s, await self._history_s(stats))
            demo = Demo(settings, digits, publisher, phases, self._device_count)
            await self._watch(demo, stats)
            await self._sum_up(demo, stats)
        clean = await self._audit(settings, demo.start_ms)
        if self._keep:
            self._stop.clear()
            self._tell_addresses()
            self._console.print("everything keeps running; Ctrl-C stops it")
            await self._stop.wait()
        return clean

    async def _history_s(self, stats: DemoStats) -> float:
        """How long it takes until automatic detection has a say about the model that is to be degraded; says so."""
        history = await stats.history(now_ms())
        self._judged = {model_id for model_id, windows in history.items() if windows >= FIRST_SAY_WINDOWS}
        wait_s = max(0, HISTORY_WINDOWS - history.get(DEGRADED, 0)) * WINDOW_MS / 1000
        text = f"automatic detection judges {DEGRADED} already: it has some history of it"
        if wait_s:
            text = f"automatic detection judges {DEGRADED} in {wait_s / 60:.0f} min, when it has some history of it"
        if wait_s > (self._total_s or float("inf")):
            text += "; this run ends before"
        self._console.print(text, highlight=False, soft_wrap=True)
        return wait_s

    async def _watch(self, demo: Demo, stats: DemoStats) -> None:
        """The picture, until the run is over."""
        start = time.monotonic()
        run = asyncio.create_task(demo.run(self._stop, self._total_s))
        poll = asyncio.create_task(self._poll(demo, stats))
        told = 0
        await asyncio.sleep(0)  # the run enters its first phase
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while not run.done():
                left_s = None if self._total_s is None else self._total_s - (time.monotonic() - start)
                if self._console.is_terminal:
                    view = live_view(demo, self._windows, self._history, self._alerts, self._problem, left_s)
                    live.update(view, refresh=True)
                elif len(demo.played) > told:
                    told = len(demo.played)
                    self._tell(demo, f"{demo.played[-1].phase.name}: {demo.story()}")
                await asyncio.wait({run}, timeout=0.25)
        poll.cancel()
        await asyncio.gather(poll, return_exceptions=True)
        await run

    async def _poll(self, demo: Demo, stats: DemoStats) -> None:
        while True:
            try:
                self._windows = await stats.windows(WINDOWS_SHOWN)
                self._history = await stats.history(now_ms())
                self._alerts = await stats.alerts()
                self._tell_judged(demo)
                self._tell_alerts(demo)
                self._problem = ""
            except ClickHouseUnavailable as error:  # the supervisor is bringing it back
                self._problem = str(error)
            await asyncio.sleep(POLL_S)

    def _tell_judged(self, demo: Demo) -> None:
        """A line when automatic detection begins to judge a model."""
        for model_id, windows in self._history.items():
            if windows >= FIRST_SAY_WINDOWS and model_id not in self._judged:
                self._judged.add(model_id)
                self._tell(
                    demo, f"automatic detection judges {model_id} from now on; smaller changes when it knows it longer"
                )

    def _tell_alerts(self, demo: Demo) -> None:
        """A line for each that has changed."""
        for alert in self._alerts:
            if (alert.id, alert.state) not in self._told:
                self._told.add((alert.id, alert.state))
                self._tell(demo, f"{KINDS.get(alert.kind, alert.kind)} alert {alert.state}: {alert.summary}")

    def _tell(self, demo: Demo, text: str) -> None:
        """It stays on the terminal, above the picture."""
        moment = f"{(now_ms() - demo.start_ms) / 1000:5.0f} s  "
        self._console.print(moment + text, markup=False, highlight=False, soft_wrap=True)

    async def _sum_up(self, demo: Demo, stats: DemoStats) -> None:
        """Waits until the last windows are in ClickHouse, then tells what is there."""
        published = sum(demo.published.values())
        deadline = time.monotonic() + ARRIVAL_S
        with self._console.status(f"{published:,} inferences published; waiting for the last windows to close"):
            while True:
                totals = await stats.totals()
                if sum(inferences for _, inferences in totals.values()) >= published or time.monotonic() > deadline:
                    break
                await asyncio.sleep(0.5)
        await self._wait_for_ends(demo, stats)
        spans = demo.spans_ms()
        phases = {name: await stats.stretches(spans[name]) for name in spans}
        overall = await stats.stretches([(demo.start_ms, demo.end_ms)])
        self._console.print(summary(totals, overall, phases))
        self._console.print(alerts_table(self._alerts, demo.start_ms))
        if any(alert.resolved_ms is None for alert in self._alerts):
            text = "No end: the run was over before an alert had the evidence for it (automatic detection: a minute)."
            self._console.print(text, highlight=False, soft_wrap=True)
        self._console.print(f"{published:,} inferences were published.")
        self._tell_where_to_look()

    def _tell_where_to_look(self) -> None:
        """While everything runs, or when it was brought back."""
        up = f"inferwatch up --data-dir {self._stack.directory}"
        query = FIRST_QUERY.format(database=self._stack.settings.clickhouse_database)
        for text, style in (
            (f"\nA first query, with the reader's login in {self._stack.endpoints_file}:", ""),
            (query, "cyan"),
            ("Every step of every alert is in the table alerts; the open ones are in open_alerts.", ""),
            ("Dashboards for Grafana are in deploy/grafana; they need the reader's login, too.", ""),
            (f"{up} brings everything back; it says how to list and follow alerts.\n", ""),
        ):
            self._console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    async def _wait_for_ends(self, demo: Demo, stats: DemoStats) -> None:
        """An alert ends with a window that shows it: soon after the last ones."""
        deadline = time.monotonic() + RESOLVED_S
        with self._console.status("waiting for the last alerts to resolve"):
            while True:
                found = await stats.alerts()
                # Automatic detection goes on, and finds that there is no traffic any more.
                self._alerts = [a for a in found if a.kind != "anomaly" or a.fired_ms <= demo.end_ms]
                self._tell_alerts(demo)
                is_over = all(alert.state == "resolved" for alert in self._alerts)
                if is_over or self._stop.is_set() or time.monotonic() > deadline:
                    return
                await asyncio.sleep(0.5)

    async def _audit(self, settings: Settings, since_ms: int) -> bool:
        with self._console.status("auditing"):
            async with Kafka(settings) as kafka:
                report = await Audit(kafka, wait_s=ARRIVAL_S, since_ms=since_ms).run()
        for check in report.checks:
            mark = "[green]ok[/]" if check.ok else "[red]wrong[/]"
            self._console.print(f"audit: {mark} {check.name}: {check.summary}", highlight=False, soft_wrap=True)
            for finding in check.findings:
                self._console.print(f"    {finding.text}", markup=False, highlight=False)
        return report.ok
