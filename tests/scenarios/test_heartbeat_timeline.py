"""Heartbeats drawn as text: what is said of a device at each beat, a beat a character.

Beats:  x heard   . missed   S says that it stops for 10 beats   b heard, booted anew   o ten old beats at once
        c heard, with a clock that was set back
        _ nobody is heard, the log itself stands still
Said:   - nothing   s suspect   L lost (a page)   l lost, said by the site's alert   r well again
"""

from typing import Any

import pytest

from pipeline.core.condition import Condition
from pipeline.core.devices.device import HeartbeatPolicy
from pipeline.core.devices.heartbeats import TICK_WORKSPACE, HeartbeatMonitor
from pipeline.core.devices.quiet import SILENCE, SITE_SHARE
from schemas.alert import Severity
from schemas.heartbeat import Heartbeat
from tests.builders import START_MS
from tests.states import reloaded

BEAT_MS = 10_000
KNOWN = "x" * 10  # so often must a device have been heard


def draw(devices: dict[str, str], policy: HeartbeatPolicy | None = None, *, restart: bool = False) -> dict[str, str]:
    """What the monitor says of each device, and of their site under its name "site"."""
    monitor = HeartbeatMonitor(0, policy)
    length = max(map(len, devices.values()))
    drawn = {name: ["-"] * length for name in [*devices, "site"]}
    for i in range(length):
        at_ms = START_MS + i * BEAT_MS
        for name, beats in devices.items():
            for ms, beat in enumerate(_beats(name, beats, i)):
                note(drawn, i, monitor.observe(at_ms + ms, beat))
        for ms in range(1000, BEAT_MS, 1000):  # the detector's own beats
            if any(beats[i : i + 1] == "_" for beats in devices.values()):
                continue
            tick = Heartbeat("detector/0", TICK_WORKSPACE, at_ms + ms, 1000)
            note(drawn, i, monitor.observe(at_ms + ms, tick))
        if restart:
            saved, monitor = reloaded(monitor.snapshot()), HeartbeatMonitor(0, policy)
            monitor.restore(saved)
    return {name: "".join(line) for name, line in drawn.items()}


def _beats(name: str, beats: str, i: int) -> list[Heartbeat]:
    how, sent_ms, boot_id = beats[i : i + 1], START_MS + i * BEAT_MS, str(beats[: i + 1].count("b"))
    match how:
        case "" | "." | "_":
            return []
        case "o":
            return [
                Heartbeat(name, "acme", sent_ms - ago * BEAT_MS, BEAT_MS, boot_id=boot_id) for ago in range(20, 10, -1)
            ]
        case "c":
            return [Heartbeat(name, "acme", sent_ms - 3_600_000, BEAT_MS, boot_id=boot_id)]
        case "S":
            stop: dict[str, Any] = {"status": "stopping", "expected_downtime_ms": 10 * BEAT_MS}
            return [Heartbeat(name, "acme", sent_ms, BEAT_MS, boot_id=boot_id, **stop)]
        case _:
            return [Heartbeat(name, "acme", sent_ms, BEAT_MS, boot_id=boot_id)]


def note(drawn: dict[str, list[str]], i: int, said: list[Condition]) -> None:
    for condition in said:
        name = "site" if condition.subject.metric == SITE_SHARE else condition.subject.device_id
        if condition.subject.metric not in (SILENCE, SITE_SHARE):
            continue
        assert name is not None
        drawn[name][i] = (
            ("s" if condition.severity is not Severity.CRITICAL else "l" if condition.suppressed_by else "L")
            if condition.breached
            else "r"
        )


FIXED = HeartbeatPolicy(learned=False, remind_ms=10**9)


@pytest.mark.parametrize("restart", [False, True], ids=["", "restarted at every beat"])
@pytest.mark.parametrize(
    ("story", "beats", "said"),
    [
        ("a lost beat is nothing", "xx.xxx..xxx", "-----------"),
        ("heard just in time", "x...xxx", "-------"),
        ("after four beats suspect", "x....xx", "----sr-"),
        ("after twelve lost, once", "x..............x", "----s-------L--r"),
        ("well is said until it is believed", "x............xxxxx", "----s-------Lrrr--"),
        ("one last gasp", "x............x.............", "----s-------Lr---s-------L-"),
        ("a planned stop is no silence", "xS.........xxx", "--------------"),
        ("a planned stop that lasts counts from its end", "xS.......................", "---------------s-------L-"),
        ("a restart is no silence", "x..bxx", "------"),
        ("old beats revive nobody", "x...o.o.o.o.o....", "----s-------L----"),
        ("a clock that is set is no silence", "xxccccccccccccccc", "-----------------"),
        ("nor do they end a page", "x............oo..", "----s-------L----"),
        ("the log stood still", "x.._____________.............", "--------------------s-------L"),
        ("lost before the log stood still", "x............____....x", "----s-------L--------r"),
    ],
)
def test_timeline(story: str, beats: str, said: str, restart: bool) -> None:
    others = "".join("_" if beat == "_" else "x" for beat in KNOWN + beats)
    drawn = draw({"cam": KNOWN + beats, "other": others}, FIXED, restart=restart)
    assert drawn["cam"].removeprefix("-" * len(KNOWN)) == said, story


def test_a_device_that_was_hardly_ever_heard_is_not_missed() -> None:
    drawn = draw({"new": "x" * 9 + "." * 21, "old": "x" * 10 + "." * 20})
    assert drawn["new"] == "-" * 30
    assert "L" in drawn["old"]


SITE_OUT = {
    "a": KNOWN + "x.............xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "b": KNOWN + "x.............xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "c": KNOWN + "x...........................................",
    "d": KNOWN + "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
}


@pytest.mark.parametrize("restart", [False, True], ids=["", "restarted at every beat"])
def test_a_site_that_goes_is_one_alert_and_who_stays_away_has_its_own_later(restart: bool) -> None:
    drawn = draw(SITE_OUT, FIXED, restart=restart)
    assert {name: line.removeprefix("-" * len(KNOWN)) for name, line in drawn.items()} == {
        "a": "----s-------l-rrr---------------------------",
        "b": "----s-------l-rrr---------------------------",
        "c": "----s-------l-------------L-----------------",
        "d": "--------------------------------------------",
        "site": "------------l-r-----------------------------",
    }


def test_two_of_three_are_no_site() -> None:
    drawn = draw({name: SITE_OUT[name] for name in "acd"}, FIXED)
    assert drawn["site"].strip("-") == ""
    assert drawn["a"].count("L") == drawn["c"].count("L") == 1


def test_what_lasts_is_said_again() -> None:
    drawn = draw(
        {"a": KNOWN + "x" + "." * 50, "b": KNOWN + "x" * 51}, HeartbeatPolicy(learned=False, remind_ms=100_000)
    )
    assert drawn["a"].removeprefix("-" * len(KNOWN)) == "----s-------L---------L---------L---------L--------"
