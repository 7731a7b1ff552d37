"""The newest step of every alert: news, repeats, and what is forgotten when there are too many."""

from msgspec.structs import replace

from pipeline.core.alerting.told import Alerts
from schemas import alert as alert_schema
from schemas.alert import AlertState
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
