"""What is asked of vision events is understood whole or refused by name, and its values are bound."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.asking import vision
from pipeline.core.asking.question import Question
from pipeline.core.asking.vision import PAGE_MAX, Detected, ValueAsked, VisionPage
from pipeline.web.asgi import Refused
from pipeline.web.roboflow.vision.asked import asked_of, cursor_of

NOW = 1_795_374_402_000
DAY = 86_400_000


def asked(**fields: Any) -> VisionPage:
    return asked_of({"useCaseId": "uc"} | fields, NOW, 14)


def test_a_use_case_is_enough() -> None:
    assert asked() == VisionPage("uc", NOW - 14 * DAY, NOW + 2 * DAY)


def test_all_that_can_be_asked_is_understood() -> None:
    page = asked(
        startTime="2026-11-22T00:00:00Z",
        endTime="2026-11-23T00:00:00+00:00",
        eventType="custom",
        eventTypes=["quality_check"],
        deviceId={"operator": "neq", "value": "cam-7"},
        streamId="s-1",
        customMetadataFilters=[
            {"field": "count", "operator": "gt", "value": 3, "type": "number"},
            {"field": "count", "operator": "lte", "value": "7.5", "type": "number"},
            {"field": "line", "value": "A1"},
            {"field": "line", "operator": "contains", "value": "a"},
            {"field": "on", "operator": "neq", "value": True},
        ],
        eventFieldFilters=[{"column": "result", "operator": "eq", "value": "fail"}],
        imageMetadataFilters=[],
        detectionFilters=[{"class": "bolt", "confidence": 0.5}, {"class": "nut"}],
        hasWarnings=False,
        limit=7,
        workflowId=None,
        cursor=cursor_of(NOW, "e"),
    )
    assert (page.start_ms, page.end_ms) == (1_795_305_600_000, 1_795_392_000_000)
    assert page.event_types == ("quality_check", "custom")
    assert page.comparisons == (
        ValueAsked("device_id", "neq", "cam-7"),
        ValueAsked("stream_id", "eq", "s-1"),
        ValueAsked("custom_metadata", "gt", 3, "count"),
        ValueAsked("custom_metadata", "lte", 7.5, "count"),
        ValueAsked("custom_metadata", "eq", "A1", "line"),
        ValueAsked("custom_metadata", "contains", "a", "line"),
        ValueAsked("custom_metadata", "neq", True, "on"),
        ValueAsked("event_data", "eq", "fail", "result"),
    )
    assert page.detected == (Detected("bolt", 0.5), Detected("nut"))
    assert (page.with_warnings, page.limit, page.after) == (False, 7, (NOW, "e"))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"useCaseId": ""}, "useCaseId"),
        ({"useCaseId": None}, "useCaseId"),
        ({"solution": "x"}, "solution"),
        ({"startTime": "soon"}, "startTime"),
        ({"endTime": 7}, "endTime"),
        ({"startTime": "0001-01-01T00:00:00Z"}, "startTime"),
        ({"eventType": "party"}, "eventType"),
        ({"eventTypes": "custom"}, "eventTypes"),
        ({"eventTypes": ["custom"] * 21}, "eventTypes"),
        ({"deviceId": {"operator": "gt", "value": "a"}}, "deviceId"),
        ({"deviceId": {"value": 1}}, "deviceId"),
        ({"deviceId": 1}, "deviceId"),
        ({"customMetadataFilters": {}}, "customMetadataFilters"),
        ({"customMetadataFilters": [{}]}, "customMetadataFilters"),
        ({"customMetadataFilters": [{"field": "a", "value": [1]}]}, "customMetadataFilters"),
        ({"customMetadataFilters": [{"field": "a", "value": "x", "operator": "gt"}]}, "customMetadataFilters"),
        ({"customMetadataFilters": [{"field": "a", "value": True, "operator": "gt"}]}, "customMetadataFilters"),
        ({"customMetadataFilters": [{"field": "a", "value": "x", "type": "number"}]}, "customMetadataFilters"),
        ({"eventFieldFilters": [{"column": "a", "value": 1, "operator": "like"}]}, "eventFieldFilters"),
        ({"detectionFilters": [{"class": 1}]}, "detectionFilters"),
        ({"detectionFilters": [{"class": "a", "least": 1}]}, "detectionFilters"),
        ({"hasWarnings": "yes"}, "hasWarnings"),
        ({"limit": 0}, "limit"),
        ({"limit": PAGE_MAX + 1}, "limit"),
        ({"limit": True}, "limit"),
        ({"cursor": "x"}, "cursor"),
        ({"cursor": 7}, "cursor"),
        ({"cursor": "WzEsIDJd"}, "cursor"),
    ],
)
def test_what_is_not_understood_is_refused_by_its_name(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(Refused) as why:
        asked(**fields)
    assert why.value.status == 400
    assert named in why.value.message


def placeholders(question: Question) -> set[str]:
    return set(re.findall(r"\{(\w+):\w+\}", question.text))


NASTY = "'; DROP TABLE vision_events; --"


@given(st.text(min_size=1, max_size=20).map(lambda text: text + NASTY))
def test_every_value_is_bound(text: str) -> None:
    page = VisionPage(
        text,
        0,
        NOW,
        event_types=(text,),
        comparisons=(
            ValueAsked("device_id", "eq", text),
            *(ValueAsked("event_data", operator, text, text) for operator in vision.TEXTS),
            *(ValueAsked("custom_metadata", operator, 0.5, text) for operator in vision.NUMBERS),
        ),
        detected=(Detected(text, 0.5), Detected(None, 0.5)),
        with_warnings=True,
        after=(NOW, text),
    )
    questions = [
        vision.page(page),
        vision.last_versions([text, "b"]),
        vision.bodies(page, [(text, 1)]),
        vision.fields(text, "custom_metadata"),
        vision.event_counts(),
    ]
    for question in questions:
        assert NASTY not in question.text
        assert placeholders(question) == {*question.parameters, "workspace"}
