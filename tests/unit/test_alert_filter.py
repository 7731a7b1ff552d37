"""The filter language on alerts: what it finds, and that SQL and the judge mean the same."""

import pytest

from pipeline.core.asking.alerts import alert_filter, alerts_judge, alerts_where
from pipeline.core.asking.language import FilterError
from pipeline.core.asking.sql import Bound
from schemas.alert import Severity
from tests.alerts import alert, silent

EVENT = alert(labels={"site": "north-1"}, severity=Severity.CRITICAL)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("", True),
        ("model:helmets", True),
        ("model:helmets/3 severity:critical,warning", True),
        ("model:helm", False),
        ("-model:helmets", False),
        ("model:helm*/3", True),
        ("kind:rule state:firing rule:low-confidence metric:confidence_mean", True),
        ("kind:heartbeat", False),
        ("label.site:north*", True),
        ("-label.site:north-1", False),
        ('label.site:"north*"', False),
        ("label.floor:", None),
        ('label.floor:""', True),
        ("device:*", True),
        ('-device:""', False),
        ("summary:*below*75", True),
        ("confidence:<0.5", None),
        ("has:error", None),
    ],
)
def test_a_filter_holds_for_an_alert_or_says_that_it_cannot_be_asked(text: str, holds: bool | None) -> None:
    if holds is None:
        with pytest.raises(FilterError):
            alert_filter(text)
        return
    assert alerts_judge(alert_filter(text))(EVENT) is holds
    assert alert_filter(str(alert_filter(text))) == alert_filter(text)


def test_what_people_wrote_is_bound_and_never_pasted() -> None:
    bound = Bound()
    sql = alerts_where(alert_filter('-label.site:"it\'s" model:helmets summary:*x*'), bound)
    assert sql == (
        "(NOT (labels[{f0:String}] = {f1:String})) AND "
        "(model_id = {f2:String} OR startsWith(model_id, concat({f2:String}, '/'))) AND (summary LIKE {f3:String})"
    )
    assert bound.parameters == {"f0": "site", "f1": "it's", "f2": "helmets", "f3": "%x%"}
    assert alerts_where(alert_filter(""), Bound()) == "1"


def test_a_device_without_a_model_is_found_by_its_device() -> None:
    assert alerts_judge(alert_filter("device:cam-7 -model:*/*"))(silent("cam-7"))
