"""A fleet's trap weeks for the heartbeat monitor: `python -m tests.performance.detect.heartbeats`.

The world: beats every 10 s of which 1 % get lost; half of the devices on a wifi that buffers for up to 90 s and then
flushes, and restarting every other day for up to 75 s; clocks that are off by up to 90 s, or drift; a consumer that is
restarted and lags every day. One site loses its network for ten minutes, one night the broker is away for five. Some
devices really die, for an hour each. A page that is not for one of those deaths is a false one.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from rich.console import Console

from pipeline.core.condition import Condition
from pipeline.core.devices.device import HeartbeatPolicy
from pipeline.core.devices.heartbeats import TICK_DEVICE_PREFIX, TICK_WORKSPACE, HeartbeatMonitor
from pipeline.core.devices.quiet import CLOCK, SITE_SHARE
from schemas.alert import Severity
from schemas.heartbeat import Heartbeat
from tests.performance.figures import Figure, table
from tests.states import reloaded

START_MS = 1_795_373_680_000
HOUR, DAY = 3600.0, 86_400.0
BEAT = 10.0
TICK = 2.0
SITES = 3
DEATH = HOUR
SITE_OUT, BROKER_OUT = 600.0, 300.0
POLICIES = {
    "3 beats": HeartbeatPolicy(suspect_beats=2, page_beats=3, learned=False),
    "6 beats": HeartbeatPolicy(page_beats=6, learned=False),
    "12 beats": HeartbeatPolicy(page_beats=12, learned=False),
    "learned in 6 h": HeartbeatPolicy(learn_after_ms=6 * 3_600_000, learn_after_interruptions=10**9),
    "learned": HeartbeatPolicy(),
}

Times = np.ndarray[tuple[int], np.dtype[np.float64]]


@dataclass(slots=True)
class Fleet:
    """When every beat of a world was appended and sent, in seconds, and which devices died when."""

    seconds: float
    site_out: float  # site 0, for SITE_OUT
    broker_out: float  # for BROKER_OUT
    deaths: dict[int, float] = field(default_factory=dict)
    appended: list[Times] = field(default_factory=list)
    sent: list[Times] = field(default_factory=list)
    restarts: list[Times] = field(default_factory=list)


def fleet(rng: np.random.Generator, devices: int, days: float) -> Fleet:
    """A world. It has one death for five devices, an outage of site 0, and one of the broker."""
    world = Fleet(days * DAY, *(rng.uniform(0.5, 0.9, 2) * days * DAY).tolist())
    for i in sorted(rng.choice(devices, devices // 5, replace=False).tolist()):
        world.deaths[i] = float(rng.uniform(DAY * 0.3, world.seconds - 2 * HOUR))
    for i in range(devices):
        _device(rng, world, i, flaky=i % 2 == 1)
    return world


def _device(rng: np.random.Generator, world: Fleet, i: int, *, flaky: bool) -> None:
    sent = np.arange(int(world.seconds / BEAT)) * BEAT + rng.uniform(0, BEAT)
    silent = rng.random(len(sent)) < 0.01
    restarts = []
    at = rng.uniform(0, 2 * DAY) if flaky else world.seconds
    while at < world.seconds:
        down = rng.uniform(20, 75)
        silent |= (sent >= at) & (sent < at + down)
        restarts.append(at)
        at += 2 * DAY * rng.uniform(0.7, 1.3)
    if i in world.deaths:
        silent |= (sent >= world.deaths[i]) & (sent < world.deaths[i] + DEATH)
    if i % SITES == 0:
        silent |= (sent >= world.site_out) & (sent < world.site_out + SITE_OUT)
    sent = sent[~silent]
    appended = sent + rng.lognormal(-2.5, 0.8, len(sent))
    at = rng.uniform(0, DAY / 2) if flaky else world.seconds
    while at < world.seconds:
        span = rng.uniform(30, 90) if rng.random() < 0.5 else rng.uniform(5, 30)
        buffered = (sent >= at) & (sent < at + span)
        appended[buffered] = np.maximum(appended[buffered], at + span + rng.uniform(0, 1, buffered.sum()))
        at += DAY / 2 * rng.uniform(0.5, 1.5)
    back = world.broker_out + BROKER_OUT
    waiting = (appended >= world.broker_out) & (appended < back)  # producers try again, and again
    appended[waiting] = back + rng.uniform(0, 40, waiting.sum())
    skew = rng.choice([-90.0, 90.0]) * rng.uniform(0.5, 1) if rng.random() < 0.05 else rng.normal(0, 0.2)
    drift = 1 + (2e-3 if rng.random() < 0.01 else 0)  # 7 s per hour
    order = np.argsort(appended, kind="stable")
    world.appended.append(appended[order])
    world.sent.append(sent[order] * drift + skew)
    world.restarts.append(np.array(restarts))


def records(world: Fleet) -> Iterator[tuple[int, Heartbeat]]:
    """The partition's log: all beats, and the detector's own, by broker timestamp."""
    names = [f"cam-{i}" for i in range(len(world.appended))]
    tags = [[f"site:{i % SITES}"] for i in range(len(names))]
    for begin in np.arange(0, world.seconds, HOUR):
        ticks = np.arange(begin, begin + HOUR, TICK)
        ticks = ticks[(ticks < world.broker_out) | (ticks >= world.broker_out + BROKER_OUT)]
        parts = [np.column_stack((ticks, np.full(len(ticks), -1.0), ticks, np.zeros(len(ticks))))]
        for i, appended in enumerate(world.appended):
            low, high = np.searchsorted(appended, (begin, begin + HOUR))
            boots = np.searchsorted(world.restarts[i], appended[low:high])
            parts.append(np.column_stack((appended[low:high], np.full(high - low, i), world.sent[i][low:high], boots)))
        hour = np.concatenate(parts)
        for at, i, sent, boot in hour[np.argsort(hour[:, 0], kind="stable")].tolist():
            broker_ms, sent_ms = START_MS + round(at * 1000), START_MS + round(sent * 1000)
            if i < 0:
                yield broker_ms, Heartbeat(f"{TICK_DEVICE_PREFIX}0", TICK_WORKSPACE, sent_ms, int(TICK * 1000))
            else:
                name, site = names[int(i)], tags[int(i)]
                yield broker_ms, Heartbeat(name, "acme", sent_ms, int(BEAT * 1000), boot_id=str(boot), tags=site)


@dataclass(slots=True)
class Score:
    """What one policy came to."""

    false_pages: int = 0
    suspicions: int = 0
    site_alerts: int = 0
    clocks: set[str] = field(default_factory=set)
    open: set[str] = field(default_factory=set)  # fingerprints
    delays: dict[int, float] = field(default_factory=dict)  # device -> from its last beat's time to the page

    def take(self, condition: Condition, world: Fleet) -> None:
        """Judges a condition by what is true in the world."""
        subject = condition.subject
        stage = f"{subject.fingerprint} {condition.severity.value}"
        if not condition.breached:
            self.open = {one for one in self.open if not one.startswith(subject.fingerprint)}
        if subject.metric == SITE_SHARE and condition.breached and stage not in self.open:
            self.open.add(stage)
            self.site_alerts += 1
        if not condition.breached or condition.suppressed_by or stage in self.open:
            return
        self.open.add(stage)
        if subject.metric == CLOCK:
            self.clocks.add(subject.device_id or "")
        elif condition.severity is not Severity.CRITICAL:
            self.suspicions += 1
        else:
            device = int((subject.device_id or "").removeprefix("cam-"))
            delay = (condition.at_ms - START_MS) / 1000 - world.deaths.get(device, float("inf"))
            if -1 <= delay <= DEATH:
                self.delays.setdefault(device, delay)
            else:
                self.false_pages += 1


def run(world: Fleet, policy: HeartbeatPolicy, rng: np.random.Generator) -> tuple[Score, float]:
    """Feeds the log to a monitor that is restarted and lags every day; the score, and microseconds a record."""
    score, spent, count = Score(), 0.0, 0
    monitor = HeartbeatMonitor(0, policy)
    restarts = [START_MS + round((day + rng.uniform(0, 1)) * DAY * 1000) for day in range(int(world.seconds / DAY))]
    for broker_ms, beat in records(world):
        if restarts and broker_ms >= restarts[0]:
            restarts.pop(0)
            saved = reloaded(monitor.snapshot())
            monitor = HeartbeatMonitor(0, policy)
            monitor.restore(saved)
        started = time.perf_counter()
        said = monitor.observe(broker_ms, beat)
        spent += time.perf_counter() - started
        count += 1
        for condition in said:
            score.take(condition, world)
    return score, 1e6 * spent / count


def main() -> None:
    """Prints a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=300)
    parser.add_argument("--days", type=float, default=7)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--policy", choices=POLICIES, action="append", help="default: all")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    world = fleet(np.random.default_rng(asked.seed), asked.devices, asked.days)
    weeks = asked.devices * asked.days / 7
    figures = []
    for name in asked.policy or POLICIES:
        score, us = run(world, POLICIES[name], np.random.default_rng(asked.seed + 1))
        delays = list(score.delays.values())
        mean, p95 = (np.mean(delays), np.percentile(delays, 95)) if delays else (float("nan"), float("nan"))
        at_12, learned = name == "12 beats", name == "learned in 6 h"
        figures += [
            Figure(name, "false pages", score.false_pages, "", 0 if at_12 else None),
            Figure(name, "false pages per device-week", score.false_pages / weeks, "", 0.5 if learned else None),
            Figure(name, "mean delay", float(mean), "s", 75 if learned else None),
            Figure(name, "p95 delay", float(p95), "s"),
            Figure(name, "deaths missed", len(world.deaths) - len(delays), f"of {len(world.deaths)}", 0),
            Figure(name, "suspicions per device-week", score.suspicions / weeks, ""),
            Figure(name, "site alerts", score.site_alerts, "(1 outage)"),
            Figure(name, "clocks reported", len(score.clocks), ""),
            Figure(name, "time per record", us, "µs"),
        ]
    if asked.json:
        Console().print_json(json.dumps([figure.as_json() for figure in figures]))
    else:
        Console().print(table(figures, f"{asked.devices} devices, {asked.days:g} days, seed {asked.seed}"))


if __name__ == "__main__":
    main()
