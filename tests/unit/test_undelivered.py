"""Who cannot be told is an alert, until he can be told again for long enough."""

from pipeline.core.alerting.undelivered import KEEP_FIRING_MS, Undelivered
from schemas.alert import AlertEvent
from tests.states import reloaded

MAIL, HOOK = "mailto:oncall@example.org", "https:*** (1a2b3c)"
NOW_MS = 1_795_374_000_000


def told(events: list[AlertEvent]) -> list[tuple[str | None, str]]:
    """Who, and the state."""
    return [(event.device_id, event.state.value) for event in events]


def again(machine: Undelivered) -> Undelivered:
    """As after a restart."""
    fresh = Undelivered()
    fresh.restore(reloaded(machine.snapshot()))
    return fresh


def test_a_recipient_that_cannot_be_told_is_one_alert_however_often() -> None:
    machine = Undelivered()
    first = machine.failed(MAIL, "no connection", NOW_MS)
    assert told(first) == [(MAIL, "firing")]
    assert "no connection" in first[0].summary
    assert machine.failed(MAIL, "no connection", NOW_MS + 1) == []
    assert told(machine.failed(HOOK, "HTTP 400", NOW_MS + 2)) == [(HOOK, "firing")]
    assert machine.tick(NOW_MS + KEEP_FIRING_MS * 9) == []  # nothing says that it is well


def test_it_ends_when_messages_arrive_for_long_enough() -> None:
    machine = Undelivered()
    (fired,) = machine.failed(MAIL, "no connection", NOW_MS)
    machine.delivered(MAIL)
    machine = again(machine)
    assert told(machine.tick(NOW_MS + 1000)) == [(MAIL, "recovering")]
    assert machine.tick(NOW_MS + KEEP_FIRING_MS) == []
    machine = again(machine)
    (ended,) = machine.tick(NOW_MS + 1000 + KEEP_FIRING_MS)
    assert (ended.state.value, ended.fingerprint, ended.episode) == ("resolved", fired.fingerprint, fired.episode)
    assert machine.tick(NOW_MS + 2 * KEEP_FIRING_MS) == []


def test_one_that_takes_this_and_refuses_that_stays_an_alert() -> None:
    machine = Undelivered()
    assert told(machine.failed(HOOK, "HTTP 400", NOW_MS)) == [(HOOK, "firing")]
    for i in range(1, 20):
        at_ms = NOW_MS + i * KEEP_FIRING_MS // 4
        machine.delivered(HOOK)
        assert all(state in ("recovering", "firing") for _, state in told(machine.tick(at_ms)))
        assert all(state == "firing" for _, state in told(machine.failed(HOOK, "HTTP 400", at_ms + 1)))


def test_who_was_never_in_trouble_is_no_alert() -> None:
    machine = Undelivered()
    machine.delivered(MAIL)
    assert machine.tick(NOW_MS) == []
