"""One partition of inference.heartbeats, watched: steps of alerts from records, the same after a restart anywhere."""

import random
from collections.abc import Callable, Sequence

import pytest

from pipeline.core.alerting.device_watch import DeviceWatch
from pipeline.core.alerting.life_cycle import FLAP_MS
from pipeline.core.batch import Batch
from pipeline.core.devices.device import HeartbeatPolicy
from schemas.alert import AlertEvent
from schemas.silence import Acknowledgement, acknowledgement_id
from tests import builders
from tests.alerting import START_MS
from tests.states import reloaded

BEAT_MS = 10_000
POLICY = HeartbeatPolicy(learned=False)

Said = list[tuple[int, bytes | None]]  # (beat of the log, record)


def beat(device: str, at: float) -> tuple[int, bytes]:
    at_ms = START_MS + round(at * BEAT_MS)
    return at_ms, builders.heartbeat(device_id=device, sent_at_ms=at_ms, interval_ms=BEAT_MS)


def tick(at: float) -> tuple[int, bytes]:
    """The detector's own."""
    at_ms = START_MS + round(at * BEAT_MS)
    return at_ms, builders.heartbeat(device_id="detector/0", workspace="inferwatch", sent_at_ms=at_ms, interval_ms=5000)


def log(said: Sequence[tuple[int, bytes | None]], first: int = 0) -> Batch:
    """Records at their moments."""
    times, values = [at_ms for at_ms, _ in said], [value for _, value in said]
    return Batch("inference.heartbeats", 0, list(range(first, first + len(said))), times, [None] * len(said), values)


def drawn(events: Sequence[AlertEvent]) -> str:
    return " ".join(f"{event.state.value}@{(event.at_ms - START_MS) / BEAT_MS:g}" for event in events)


def silent(until: int) -> Said:
    """cam-7 beats ten times, is silent until then, and comes back; the detector's own beats go on."""
    beats = [beat("cam-7", i) for i in (*range(11), *range(until, until + 5))]
    return sorted(beats + [tick(i + 0.5) for i in range(until + 5)])


def test_a_device_is_suspected_then_lost_and_well_again_when_it_beats() -> None:
    events = DeviceWatch(0, POLICY).observe(log(silent(30)))
    assert drawn(events) == "pending@14 firing@22 recovering@30 resolved@32"
    assert events[1].device_id == "cam-7"
    assert "has not been heard for 2 min" in events[1].summary


def test_what_is_refused_moves_the_time_on() -> None:
    watch = DeviceWatch(0, POLICY)
    junk: Said = [(START_MS + i * 5000, raw) for i, raw in enumerate([b"{", None] * 30)]
    events = watch.observe(log(sorted([*junk, *(beat("cam-7", i) for i in range(11))], key=lambda one: one[0])))
    assert drawn(events) == "pending@14 firing@22"


def test_a_person_takes_the_alert() -> None:
    watch = DeviceWatch(0, POLICY)
    (_, fired) = watch.observe(log([one for one in silent(40) if one[0] < START_MS + 30 * BEAT_MS]))
    ack_id = acknowledgement_id(fired.fingerprint, fired.episode)
    (acked,) = watch.hear(Acknowledgement(id=ack_id, author="kim", at_ms=START_MS))
    assert (acked.state.value, acked.sequence) == ("acknowledged", 3)


def test_what_is_over_for_an_hour_is_forgotten() -> None:
    watch = DeviceWatch(0, POLICY)
    watch.observe(log(silent(30)))
    assert watch.snapshot().life.tracks
    later = 30 + FLAP_MS // BEAT_MS
    watch.observe(log([one for i in range(35, later) for one in (beat("cam-7", i), tick(i + 0.5))]))
    assert not watch.snapshot().life.tracks


@pytest.mark.parametrize("seed", range(4))
def test_neither_restarts_nor_how_the_log_is_read_change_what_is_told(seed: int) -> None:
    rng = random.Random(seed)
    said: Said = [tick(i + 0.5) for i in range(400)]
    for device in ("cam-1", "cam-2", "cam-3", "cam-4"):
        at = rng.random()
        while at < 400:
            said.append(beat(device, at))
            at += 1 if rng.random() < 0.97 else rng.choice((6, 15, 40, 150))
    said = [
        one for one in sorted(said, key=lambda one: one[0]) if not START_MS + 2_000_000 < one[0] < START_MS + 2_100_000
    ]
    said.insert(50, (said[50][0], b"{"))

    def play(chunk: Callable[[], int], restart: bool) -> list[AlertEvent]:
        watch, events, at = DeviceWatch(0, POLICY), [], 0
        while at < len(said):
            size = chunk()
            events += watch.observe(log(said[at : at + size], at))
            at += size
            if restart:
                saved = reloaded(watch.snapshot())
                watch = DeviceWatch(0, POLICY)
                watch.restore(saved)
        return events

    whole = play(lambda: len(said), restart=False)
    assert {event.state.value for event in whole} >= {"firing", "resolved"}
    assert len({event.id for event in whole}) == len(whole)
    assert play(lambda: rng.randint(1, 9), restart=False) == whole
    assert play(lambda: 1, restart=True) == whole
