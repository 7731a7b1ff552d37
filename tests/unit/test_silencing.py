"""Whom a silence keeps quiet, and which patterns may not be used."""

import re
import time

import pytest

from pipeline.core.notifying.muting import Silences, mistakes, preview
from schemas.alert import Severity
from schemas.silence import Acknowledgement, Matcher, Silence
from tests.alerts import T0, alert


def silence(*matchers: Matcher, **fields: object) -> Silence:
    whole = {"id": "s", "starts_at_ms": T0, "ends_at_ms": T0 + 1000, "author": "ann", "matchers": list(matchers)}
    return Silence(**(whole | fields))  # type: ignore[arg-type]


EVENT = alert(model_id="helmets/3", labels={"site": "plant-a"}, severity=Severity.CRITICAL)


@pytest.mark.parametrize(
    ("matcher", "hits"),
    [
        (Matcher("model_id", "helmets/3"), True),
        (Matcher("model_id", "helmets"), False),
        (Matcher("model_id", "helmets", is_equal=False), True),
        (Matcher("model_id", "helmets/.*", is_regex=True), True),
        (Matcher("model_id", "helmets", is_regex=True), False),
        (Matcher("model_id", "vests/.*", is_regex=True, is_equal=False), True),
        (Matcher("site", "plant-a"), True),
        (Matcher("severity", "critical|warning", is_regex=True), True),
        (Matcher("device_id", ""), True),
        (Matcher("no such label", ""), True),
        (Matcher("no such label", "x"), False),
        (Matcher("fingerprint", EVENT.fingerprint), True),
    ],
    ids=repr,
)
def test_a_matcher_holds_for_the_whole_value(matcher: Matcher, hits: bool) -> None:
    assert preview(silence(matcher), [EVENT]) == ([EVENT] if hits else [])


def test_all_matchers_must_hold() -> None:
    both = silence(Matcher("site", "plant-a"), Matcher("severity", "info"))
    assert preview(both, [EVENT]) == []


def test_a_silence_holds_from_its_start_until_before_its_end() -> None:
    silences = Silences()
    silences.observe("s", silence(Matcher("site", "plant-a")))
    at = {ms: silences.muting(EVENT, ms) is not None for ms in (T0 - 1, T0, T0 + 999, T0 + 1000)}
    assert at == {T0 - 1: False, T0: True, T0 + 999: True, T0 + 1000: False}
    assert silences.tick(T0 + 999) == []
    assert silences.tick(T0 + 1000) == ["s"]


def test_a_silence_that_is_taken_back_holds_no_more() -> None:
    silences = Silences()
    silences.observe("s", silence(Matcher("site", "plant-a")))
    silences.observe("s", None)
    assert silences.muting(EVENT, T0) is None


def test_an_acknowledgement_is_of_one_episode() -> None:
    silences = Silences()
    taken = Acknowledgement(id=f"ack/{EVENT.fingerprint}/{EVENT.episode}", author="ann", at_ms=T0)
    silences.observe(taken.id, taken)
    assert silences.acknowledgement(EVENT) == taken
    assert silences.acknowledgement(alert(episode=T0 + 5000, model_id="helmets/3")) is None
    silences.forget(EVENT)
    assert silences.acknowledgement(EVENT) is None


def test_an_alert_that_was_given_back_is_nobodys() -> None:
    silences = Silences()
    name = f"ack/{EVENT.fingerprint}/{EVENT.episode}"
    for says in ("taken", "free"):
        silences.observe(name, Acknowledgement(id=name, author="ann", at_ms=T0, says=says))
    assert silences.acknowledgement(EVENT) is None


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+",
        "(a|aa)*",
        "((ab)*c)*",
        "(a*){5}",
        "(a+)?b(c|d)+",
        ".*.*.*.*x",
        r"(a)\1",
        "(?P<x>a)(?P=x)",
        "a" * 257,
        "(",
    ],
)
def test_a_pattern_that_may_take_for_ever_is_refused(pattern: str) -> None:
    bad = silence(Matcher("site", pattern, is_regex=True))
    assert len(mistakes(bad)) == 1
    silences = Silences()
    assert not silences.observe("s", bad)
    assert silences.muting(EVENT, T0) is None


@pytest.mark.parametrize(
    "pattern",
    ["plant-[a-z]+", "a|b|c", "(plant|site)-a", r"plant\+a", "[(+*]+x", ".*a.*", "a{2,3}", "(ab){2}c", "[]|*]+", "^a$"],
)
def test_what_people_write_is_allowed_and_quick(pattern: str) -> None:
    asked = silence(Matcher("site", pattern, is_regex=True))
    assert mistakes(asked) == []
    started = time.perf_counter()
    preview(asked, [alert(labels={"site": "a" * 1000})])
    assert time.perf_counter() - started < 0.5
    re.compile(pattern)


def test_no_more_silences_are_kept_than_may_be() -> None:
    silences = Silences(silences_max=2)
    taken = [silences.observe(str(i), silence(Matcher("site", "x"), id=str(i))) for i in range(3)]
    assert taken == [True, True, False]
