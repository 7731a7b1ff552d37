"""The newest step of every alert: news, repeats, and what is forgotten when there are too many."""

import pytest
from msgspec.structs import replace

from pipeline.core.alerting.told import Alerts, objection
from pipeline.core.condition import WATCHDOG
from schemas import alert as alert_schema
from schemas.alert import AlertEvent, AlertKind, AlertState
from schemas.silence import Acknowledgement, Says, acknowledgement_id
from tests.alerts import T0, alert


def test_of_too_many_the_oldest_resolved_ones_are_forgotten_first() -> None:
    alerts = Alerts(steps_max=3)
    steps = [alert(model_id=f"m/{n}", at_ms=T0 + n) for n in range(4)]
    steps[1] = replace(steps[1], state=AlertState.RESOLVED)
    for step in steps:
        alerts.observe(alert_schema.encode(step))
    assert [step.model_id for step in alerts.steps.values()] == ["m/0", "m/2", "m/3"]


def test_a_step_that_is_told_again_is_no_news() -> None:
    alerts = Alerts()
    raw = alert_schema.encode(alert())
    assert alerts.observe(raw) == alert()
    assert alerts.observe(raw) is None
    assert alerts.observe(b"{") is None
    assert (len(alerts.open), alerts.refused) == (1, 1)


@pytest.mark.parametrize(
    ("says", "step", "is_taken", "why"),
    [
        ("taken", alert(), False, ""),
        ("taken", alert(AlertState.PENDING), False, "nothing to acknowledge"),
        ("taken", alert(AlertState.RESOLVED), True, "nothing to acknowledge"),
        ("taken", alert(AlertState.ACKNOWLEDGED), False, "acknowledged already"),
        ("taken", alert(), True, "acknowledged already"),
        ("free", alert(), False, "nobody has acknowledged"),
        ("free", alert(AlertState.ACKNOWLEDGED), True, ""),
        ("normal", alert(), False, "comes from a rule"),
        ("normal", alert(kind=AlertKind.ANOMALY), False, ""),
        ("normal", alert(AlertState.RESOLVED, kind=AlertKind.ANOMALY), False, "nothing to learn"),
        ("over", alert(), True, ""),
        ("over", alert(AlertState.RESOLVED), False, "nothing to end"),
        ("taken", alert(metric=WATCHDOG), False, "always fires"),
    ],
)
def test_what_a_person_says_must_fit_how_the_alert_stands(
    says: Says, step: AlertEvent, is_taken: bool, why: str
) -> None:
    name = acknowledgement_id(step.fingerprint, step.episode)
    taken = Acknowledgement(id=name, author="ann", at_ms=T0) if is_taken else None
    said = objection(says, step, taken)
    assert why in said
    assert bool(said) is bool(why)
