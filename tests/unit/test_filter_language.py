"""The filter language: what a line says, what it cannot say, and that it reads back as it was written."""

import pytest

from pipeline.core.asking.language import Filter, FilterError, Range, Term, Value, parse
from pipeline.core.asking.sql import Bound, where


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("model:helmets/3", Term("model", (Value("helmets/3"),))),
        ("-device:cam-7", Term("device", (Value("cam-7"),), negated=True)),
        ("class:person,helmet", Term("class", (Value("person"), Value("helmet")))),
        ("class:hel*", Term("class", (Value("hel*", True),))),
        ('class:"hel*"', Term("class", (Value("hel*"),))),
        ("confidence:<0.5", Term("confidence", (Range(high=0.5, high_in=False),))),
        ("confidence:>=.5", Term("confidence", (Range(low=0.5),))),
        ("latency:10..20", Term("latency", (Range(10, 20),))),
        ("detections:0", Term("detections", (Range(0, 0),))),
        ("metadata.site:s1", Term("metadata", (Value("s1"),), "site")),
        ("metadata.line:4", Term("metadata", (Value("4"),), "line")),
        ("metadata.line:>3", Term("metadata", (Range(low=3, low_in=False),), "line")),
        ('metadata."a b:c":""', Term("metadata", (Value(""),), "a b:c")),
        ("has:error", Term("error")),
        ("-has:metadata.site", Term("metadata", (), "site", negated=True)),
        ('id:"say \\"hi\\" \\\\"', Term("id", (Value('say "hi" \\'),))),
        ("device:камера-1", Term("device", (Value("камера-1"),))),
    ],
)
def test_a_term_says_one_thing(text: str, term: Term) -> None:
    assert parse(text) == Filter((term,))
    assert parse(str(parse(text))) == parse(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("helmets", "write field:value"),
        ("colour:red", "the fields are"),
        ("model", "needs a value"),
        ("model:", "needs a value"),
        ("confidence:high", "is a number"),
        ("confidence:<high", "is a number"),
        ('confidence:"0.5"', "is a number"),
        ("confidence:1e999", "is a number"),
        ("has:wings", "has: knows"),
        ("has:error,image", "takes one name"),
        ("metadata:x", "metadata.KEY"),
        ('class:"person', "closing quote"),
        ('class:per"son', "blank or a comma"),
        ("metadata.a:>3,x", "not both"),
    ],
)
def test_what_cannot_be_expressed_is_a_mistake_that_says_what_to_do(text: str, why: str) -> None:
    with pytest.raises(FilterError, match=why):
        parse(text)


def test_all_mistakes_are_told_together_and_where_they_begin() -> None:
    with pytest.raises(FilterError) as told:
        parse("model:a  colour:red  has:wings  device:b")
    assert [mistake.position for mistake in told.value.mistakes] == [9, 21]


def test_a_filter_has_limits() -> None:
    for text in ("x" * 5000, "has:error " * 60, "class:" + ",".join(["a"] * 300)):
        with pytest.raises(FilterError):
            parse(text)


def test_a_term_is_added_once_and_taken_out() -> None:
    one, other = parse("has:error"), Term("device", (Value("cam-7"),))
    assert one.also(other).also(other) == parse("has:error device:cam-7")
    assert one.also(other).without(other) == one


def test_conditions_on_detections_hold_for_one_and_the_same() -> None:
    bound = Bound()
    sql = where(parse("class:person confidence:<0.5 -class:dog"), bound, "{workspace:String}")
    assert sql.count("arrayExists") == 2
    assert "NOT (arrayExists" in sql


def test_what_people_write_is_bound_and_never_in_the_text() -> None:
    bound = Bound()
    evil = "a') OR 1=1 --"
    sql = where(parse(f'device:"{evil}" metadata."{evil}":"{evil}" class:"{evil}*"'), bound, "{workspace:String}")
    assert "OR 1=1" not in sql
    assert set(bound.parameters.values()) == {evil, evil + "*"}


def test_an_empty_filter_is_everything() -> None:
    assert where(parse("  "), Bound(), "w") == "1"
