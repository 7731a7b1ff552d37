"""A rule: its bounds, what contradicts itself, and all mistakes at once, in words."""

import json
from typing import Any

import pytest

from schemas import rule as rule_schema
from schemas.rejection import Reason, Rejected
from schemas.rule import Metric, Operator, Rule, decode, encode, mistakes
from tests.alerting import rule

LEAST = {"rule_id": "r", "workspace": "acme", "metric": "error_rate", "operator": ">", "threshold": 0.1}


def raw(**fields: Any) -> bytes:
    whole = LEAST | fields
    return json.dumps({name: value for name, value in whole.items() if value != "NOT GIVEN"}).encode()


def test_what_is_not_given_is_the_contracts_default() -> None:
    found = decode(raw())
    assert isinstance(found, Rule)
    assert json.loads(encode(found)) == LEAST | {
        "schema": 1,
        "name": "",
        "model_id": None,
        "device_id": None,
        "class": None,
        "window_s": 300,
        "hold_s": 0,
        "keep_firing_s": 0,
        "min_count": 30,
        "severity": "warning",
        "labels": {},
        "recipients": [],
        "max_per_hour": None,
        "max_per_day": None,
        "enabled": True,
    }


def test_what_was_written_is_read_again() -> None:
    of = rule(
        name="Ünsure",
        model_id="helmets",
        metric="confidence_mean",
        operator="<",
        labels={"team": "vision"},
        recipients=["mailto:a@b.c", "alertmanager", "pagerduty:KEY", "slack://a/b/c"],
        max_per_hour=3,
        max_per_day=0,
        hold_s=86_400,
        **{"class": "person"},
    )
    assert decode(encode(of)) == of


def test_a_field_of_a_later_version_is_passed_over_and_a_later_version_is_refused() -> None:
    assert isinstance(decode(raw(colour="red")), Rule)
    assert decode(raw(schema=2)) == Rejected(Reason.UNKNOWN_SCHEMA, "schema")


@pytest.mark.parametrize("metric", [m.value for m in Metric])
@pytest.mark.parametrize("operator", [o.value for o in Operator])
def test_every_metric_and_operator_is_known(metric: str, operator: str) -> None:
    needs_class = metric in ("class_count", "class_share")
    of = LEAST | {"metric": metric, "operator": operator} | ({"class": "person"} if needs_class else {})
    assert isinstance(decode(json.dumps(of).encode()), Rule)
    assert mistakes(of) == []


# field, value, reason of a worker, words for a person
WRONG = [
    ("rule_id", "NOT GIVEN", Reason.MISSING_FIELD, "rule_id: is missing"),
    ("rule_id", "", Reason.OUT_OF_RANGE, "rule_id: expected letters, digits"),
    ("rule_id", "a b", Reason.OUT_OF_RANGE, "rule_id: expected letters, digits"),
    ("rule_id", "ab\n", Reason.OUT_OF_RANGE, "rule_id: expected letters, digits"),
    ("rule_id", "a" * 129, Reason.OUT_OF_RANGE, "rule_id: expected at most 128 characters, got 129"),
    ("workspace", "", Reason.OUT_OF_RANGE, "workspace: must not be empty"),
    ("workspace", 7, Reason.WRONG_TYPE, "workspace: expected text, got the number 7 (put it in quotes)"),
    ("model_id", 3, Reason.WRONG_TYPE, "model_id: expected text, got the number 3 (put it in quotes)"),
    ("model_id", "a" * 257, Reason.OUT_OF_RANGE, "model_id: expected at most 256 characters, got 257"),
    ("class", True, Reason.WRONG_TYPE, "class: expected text, got true (put it in quotes)"),
    ("metric", "confidence", Reason.OUT_OF_RANGE, "metric: expected one of inference_count, "),
    ("metric", ["error_rate"], Reason.WRONG_TYPE, "metric: expected one of inference_count, "),
    ("operator", "==", Reason.OUT_OF_RANGE, "operator: expected one of <, <=, >, >=; got '=='"),
    ("threshold", "0.1", Reason.WRONG_TYPE, "threshold: expected a number, got '0.1'"),
    ("threshold", None, Reason.WRONG_TYPE, "threshold: expected a number, got nothing"),
    ("threshold", 1e16, Reason.OUT_OF_RANGE, "threshold: expected at most 1e+15, got 1e+16"),
    ("threshold", 10, Reason.OUT_OF_RANGE, "threshold: error_rate lies between 0 and 1, 10 does not; 0.1?"),
    ("threshold", -1, Reason.OUT_OF_RANGE, "threshold: error_rate lies between 0 and 1, -1 does not"),
    ("window_s", 50, Reason.OUT_OF_RANGE, "window_s: expected at least 60, got 50"),
    ("window_s", 65, Reason.OUT_OF_RANGE, "window_s: expected a multiple of 10, got 65"),
    ("window_s", 86_460, Reason.OUT_OF_RANGE, "window_s: expected at most 86,400, got 86,460"),
    ("window_s", 3610, Reason.OUT_OF_RANGE, "window_s: beyond one hour, expected whole minutes (a multiple of 60)"),
    ("window_s", 60.5, Reason.WRONG_TYPE, "window_s: expected a whole number, got the number 60.5"),
    ("hold_s", -1, Reason.OUT_OF_RANGE, "hold_s: expected at least 0, got -1"),
    ("keep_firing_s", 86_401, Reason.OUT_OF_RANGE, "keep_firing_s: expected at most 86,400, got 86,401"),
    ("min_count", -1, Reason.OUT_OF_RANGE, "min_count: expected at least 0, got -1"),
    ("severity", "bad", Reason.OUT_OF_RANGE, "severity: expected one of info, warning, critical; got 'bad'"),
    ("labels", ["a"], Reason.WRONG_TYPE, "labels: expected names with values, got a list"),
    ("labels", {"a b": "x"}, Reason.OUT_OF_RANGE, "labels: 'a b': expected a label's name"),
    ("labels", {"a": 1}, Reason.WRONG_TYPE, "labels.a: expected text, got the number 1 (put it in quotes)"),
    ("recipients", "a@b.c", Reason.WRONG_TYPE, "recipients: expected a list, got 'a@b.c'"),
    ("recipients", ["mailto:a@b.c", "bob"], Reason.OUT_OF_RANGE, "recipients[1]: expected alertmanager, "),
    ("recipients", ["mailto:a@b.c\n"], Reason.OUT_OF_RANGE, "recipients[0]: expected alertmanager, "),
    ("max_per_hour", -1, Reason.OUT_OF_RANGE, "max_per_hour: expected at least 0, got -1"),
    ("enabled", 1, Reason.WRONG_TYPE, "enabled: expected true or false, got the number 1"),
    ("device_id", "", Reason.OUT_OF_RANGE, "device_id: must not be empty"),
]


@pytest.mark.parametrize(("field", "value", "reason", "words"), WRONG)
def test_workers_and_people_are_told_the_same(field: str, value: Any, reason: Reason, words: str) -> None:
    refused = decode(raw(**{field: value}))
    assert isinstance(refused, Rejected)
    assert (refused.reason, refused.field.split(".")[0].split("[")[0]) == (reason, field)
    given = {name: v for name, v in (LEAST | {field: value}).items() if v != "NOT GIVEN"}
    (found,) = mistakes(given)
    assert found.startswith(words)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"metric": "class_share"}, "class: class_share is about one class: give its name"),
        ({"metric": "latency_p95_ms", "class": "person"}, "class: there is no latency_p95_ms of a single class"),
        (
            {"metric": "confidence_p5", "class": "person", "device_id": "cam-7"},
            "device_id: classes are counted by model",
        ),
        ({"metric": "class_distance", "device_id": "cam-7"}, "device_id: classes are counted by model"),
        ({"metric": "inference_count", "threshold": -1}, "threshold: inference_count is never below 0"),
    ],
)
def test_what_contradicts_itself_is_refused(fields: dict[str, Any], words: str) -> None:
    refused = decode(raw(**fields))
    assert isinstance(refused, Rejected)
    assert refused.reason is Reason.OUT_OF_RANGE
    assert refused.field == words.split(":")[0]
    (found,) = mistakes(LEAST | fields)
    assert found.startswith(words)


def test_all_mistakes_are_listed() -> None:
    given = {
        "rule_id": "a b",
        "workspce": "acme",
        "metric": "confidence_mean",
        "operator": "",
        "threshold": 60,
        "window_s": 65,
        "labels": {"te am": 3, "b": "x" * 1001},
        "recipients": ["bob", 7],
    }
    assert [mistake.split(": ")[0] for mistake in mistakes(given)] == [
        "workspce",
        "rule_id",
        "workspace",
        "operator",
        "window_s",
        "labels",
        "labels.te am",
        "labels.b",
        "recipients[0]",
        "recipients[1]",
        "operator",
        "threshold",
    ]
    assert "workspce: there is no such field; workspace?" in mistakes(given)
    assert "operator: put it in quotes: YAML reads a bare > as the beginning of a text" in mistakes(given)


def test_what_is_no_rule_at_all_is_said() -> None:
    assert mistakes([]) == ["expected names with values, got a list"]
    assert mistakes(None) == ["expected names with values, got nothing"]


def test_a_recipient_that_is_wrong_is_not_repeated() -> None:
    """It may hold a key."""
    assert "s3cret" not in str(mistakes(LEAST | {"recipients": ["pagerduty s3cret"]}))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 10**400])
def test_a_number_beyond_all_bounds_is_a_mistake(value: float) -> None:
    for field in ("threshold", "window_s"):
        assert mistakes(LEAST | {field: value})


def test_text_that_is_not_unicode_is_a_mistake() -> None:
    assert mistakes(LEAST | {"name": "\ud800"}) == ["name: is not valid Unicode"]


def test_a_tombstone_is_no_rule() -> None:
    assert decode(None) == Rejected(Reason.NOT_JSON, "")


def test_fields_without_mistakes_are_a_rule() -> None:
    assert rule_schema.from_fields(LEAST) == decode(raw())
