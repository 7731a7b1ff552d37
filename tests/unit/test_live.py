"""The live view as a machine: who sees what, who loses what, and that nothing grows."""

from typing import Any

import numpy as np
import orjson
import pytest

from pipeline.core.asking.language import parse
from pipeline.core.asking.live.room import FRAMES_MAX, KEPT_MAX, WINDOWS_MAX, Live, Viewer, Wanted
from schemas import aggregate, alert
from schemas.aggregate import AggregateRecord, Rows, with_all
from schemas.alert import AlertEvent, AlertKind, AlertState, Severity
from schemas.event import TimeLimits
from schemas.windows import CLASSES, MODELS
from tests.names import NAMES

NOW_MS = 1_795_373_680_000
EVERYTHING = frozenset(Wanted)


def live() -> Live:
    return Live("run1", NOW_MS - 60_000, TimeLimits())


def viewer(room: Live, line: str = "", workspace: str = "acme", after: str = "", wanted: Any = EVERYTHING) -> Viewer:
    one = Viewer(workspace, parse(line), wanted)
    room.join(one, after)
    return one


def happen(room: Live, event_id: str, **fields: Any) -> None:
    own = {"event_id": event_id, "event_time_ms": NOW_MS, "workspace": "acme", "model_id": "m/1", **fields}
    room.observe_event(orjson.dumps(own), NOW_MS, 3, 7)


def frames(one: Viewer) -> list[tuple[str, str, Any]]:
    """(event, id, data) as a browser's EventSource reads them."""
    found = []
    for block in one.take().decode().split("\n\n")[:-1]:
        told = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append((told["event"], told.get("id", ""), orjson.loads(told["data"])))
    return found


def ids(one: Viewer) -> list[str]:
    return [data["event_id"] for name, _, data in frames(one) if name == "inference"]


def test_each_viewer_sees_what_the_filter_holds_for_in_its_own_workspace() -> None:
    room = live()
    all_, cats, others = viewer(room), viewer(room, "class:cat"), viewer(room, workspace="other")
    happen(room, "1", predictions=[{"class": "cat", "confidence": 0.5}])
    happen(room, "2")
    happen(room, "3", workspace="other")
    assert (ids(all_), ids(cats), ids(others)) == (["1", "2"], ["1"], ["3"])


def test_what_the_pipeline_refuses_is_not_shown() -> None:
    room = live()
    one = viewer(room)
    room.observe_event(b"{", NOW_MS, 0, 0)
    room.observe_event(None, NOW_MS, 0, 1)
    happen(room, "1", latency_ms=-1)
    room.observe_alert(b"{}")
    room.observe_windows(0, b"\x01x")
    room.tick()
    assert one.take() == b""


def test_a_slow_viewer_loses_the_oldest_and_is_told_how_many() -> None:
    room = live()
    slow, quick = viewer(room), viewer(room)
    seen = []
    for number in range(FRAMES_MAX + 7):
        happen(room, str(number))
        seen += ids(quick)
    assert len(seen) == FRAMES_MAX + 7
    (name, _, data), *rest = frames(slow)
    assert (name, data) == ("lost", {"count": 7})
    assert rest[0][2]["event_id"] == "7"
    assert frames(slow) == []


def test_what_waits_is_bounded_by_bytes_too() -> None:
    room = live()
    slow = viewer(room)
    for number in range(300):
        happen(room, str(number), error="x" * 9_999)
    assert len(slow.take()) < 3 << 20


def test_whoever_comes_again_gets_what_it_missed() -> None:
    room = live()
    first = viewer(room, "class:cat")
    for number in range(4):
        happen(room, str(number), predictions=[{"class": "cat" if number % 2 else "dog", "confidence": 0.5}])
    (_, last_id, _), _ = frames(first)
    for one in room.viewers:
        room.leave(one)
    happen(room, "4", predictions=[{"class": "cat", "confidence": 0.5}])  # while nobody is there
    assert ids(viewer(room, "class:cat", after=last_id)) == ["3", "4"]
    assert ids(viewer(room, after="run1-5")) == []


@pytest.mark.parametrize("after", ["run0-1", "run1-", "nonsense", "run1-٣"])
def test_an_id_that_means_nothing_here_is_told_as_a_loss_of_nobody_knows_what(after: str) -> None:
    room = live()
    viewer(room)
    happen(room, "1")
    assert frames(viewer(room, after=after)) == [("lost", "", {"count": None})]


def test_what_is_kept_is_bounded_and_a_gap_is_told() -> None:
    room = live()
    quick = viewer(room)
    for number in range(KEPT_MAX + 10):
        happen(room, str(number))
        quick.take()
    found = frames(viewer(room, after="run1-1"))
    assert found[0][0] == "lost"


def test_an_alert_is_told_once() -> None:
    room = live()
    one = viewer(room, "class:cat")
    step = AlertEvent(
        fingerprint="0" * 16, episode=1, sequence=1, state=AlertState.FIRING, at_ms=1, starts_at_ms=1,
        kind=AlertKind.RULE, metric="m", severity=Severity.INFO, workspace="acme",
    )  # fmt: skip
    for _ in range(2):
        room.observe_alert(alert.encode(step))
    ((name, _, data),) = frames(one)
    assert (name, data["state"], data["workspace"]) == ("alert", "firing", "acme")


def windows(start: int, rows: list[tuple[str, int, int]], source: int = 0) -> bytes:
    """(workspace, start in s, inferences) as the aggregator publishes them: the link from `start` to the next."""
    found = Rows(
        np.array([at for _, at, _ in rows], np.int64),
        {"workspace": [w for w, _, _ in rows], "model_id": ["m"] * len(rows), "device_id": ["d"] * len(rows)},
        {"inference_count": np.array([n for _, _, n in rows], np.int64)},
        {},
    )
    none = Rows(np.zeros(0, np.int64), {name: [] for name in CLASSES.keys}, {}, {})
    link = [0, start, start, 0], [0, start + 1, start + 1, 0]
    record = AggregateRecord(source, *link, [0] * 7, 0, with_all(MODELS, found), with_all(CLASSES, none), 0, {})
    return aggregate.encode(record)


def test_numbers_are_sums_of_windows_told_once_a_tick_and_a_repeat_adds_nothing() -> None:
    room, at = live(), NOW_MS // 1000
    one = viewer(room)
    room.observe_windows(0, windows(1, [("acme", at, 5), ("acme", at, 2), ("other", at, 9), ("acme", at - 1000, 1)]))
    room.observe_windows(0, windows(1, [("acme", at, 5)]))
    room.observe_windows(1, windows(1, [("acme", at, 1)]))  # another partition has a chain of its own
    assert one.take() == b""
    room.tick()
    ((name, _, data),) = frames(one)
    (window,) = data["windows"]
    assert (name, window["inference_count"], window["start"]) == ("numbers", 8, "2026-11-22T18:54:40.000Z")
    assert window["latency_mean_ms"] is None
    room.tick()
    assert one.take() == b""
    assert frames(viewer(room))[0][2]["windows"] == [window]  # whoever comes later has them at once


def test_windows_are_bounded() -> None:
    room = live()
    for number in range(3 * WINDOWS_MAX):
        room.observe_windows(0, windows(number + 1, [("acme", NOW_MS // 1000 + 10 * number, 1)]))
    assert len(frames(viewer(room))[0][2]["windows"]) == WINDOWS_MAX


def test_only_what_is_wanted_is_sent_and_nothing_to_who_has_gone() -> None:
    room = live()
    alerts, gone = viewer(room, wanted=frozenset({Wanted.ALERT})), viewer(room)
    room.leave(gone)
    happen(room, "1")
    assert (alerts.take(), gone.take()) == (b"", b"")
    room.leave(alerts)
    assert room.viewers == []


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_no_name_breaks_a_frame(name: str) -> None:
    room = live()
    one = viewer(room)
    happen(room, "1", device_id=name[:256], error=name)
    ((_, _, data),) = frames(one)
    assert (data["device_id"], data["error"]) == (name[:256], name)
