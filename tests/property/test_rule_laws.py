"""What people and workers are told of a rule agrees, whatever they are given; nobody raises."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from schemas import alert, rule, silence
from schemas.rejection import Rejected
from schemas.rule import Metric, Operator, Rule
from tests.property.test_decode import as_json

FIELDS = [field.encode_name for field in msgspec.structs.fields(Rule)]
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-100, 100_000),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["mailto:a@b.c", "alertmanager", "helmets/3", "person", "critical"]),
    st.lists(st.sampled_from(["mailto:a@b.c", "bob", 7]), max_size=3),
    st.dictionaries(st.sampled_from(["team", "a b", ""]), st.sampled_from(["x", 3, None]), max_size=2),
)
sound = st.fixed_dictionaries(
    {
        "rule_id": st.just("r"),
        "workspace": st.just("acme"),
        "metric": st.sampled_from([metric.value for metric in Metric]),
        "operator": st.sampled_from([operator.value for operator in Operator]),
        "threshold": st.floats(0, 1) | st.integers(-2, 200),
    },
    optional={
        "class": st.none() | st.just("person"),
        "device_id": st.none() | st.just("cam-7"),
        "window_s": st.integers(6, 8640).map(lambda n: 10 * n),
    },
)
given_rules = st.builds(
    lambda base, over: base | over, sound, st.dictionaries(st.sampled_from(FIELDS), values, max_size=2)
)


@given(given_rules)
def test_what_people_are_told_and_what_workers_do_agrees(fields: dict[str, Any]) -> None:
    found = rule.mistakes(fields)
    taken = rule.decode(as_json(fields))
    assert bool(found) == isinstance(taken, Rejected), (found, taken)
    if not found:
        assert rule.from_fields(fields) == taken
        assert rule.decode(rule.encode(rule.from_fields(fields))) == taken


@given(
    st.recursive(values, lambda inner: st.lists(inner) | st.dictionaries(st.integers() | st.text(max_size=3), inner))
)
def test_anything_at_all_is_answered(anything: Any) -> None:
    assert rule.mistakes(anything)


@given(st.binary(max_size=100) | values.map(as_json))
def test_any_bytes_are_answered(raw: bytes) -> None:
    for decode in (rule.decode, alert.decode, silence.decode):
        assert isinstance(decode(raw), Rejected)
