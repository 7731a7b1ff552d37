"""Questions as data: what is read for which range and filter."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.asking import inferences
from pipeline.core.asking.inferences import After, Sort
from pipeline.core.asking.language import parse
from pipeline.core.asking.numbers import NUMBERS, NumbersAt, Stretch, place, select
from pipeline.core.asking.pieces import DAY_S, finest, pieces, points
from pipeline.core.asking.sql import Bound
from pipeline.web.asgi import Refused
from pipeline.web.query.cursors import cursor, place_in
from pipeline.web.query.moments import asked_ms, told

KEPT = {10: 7, 60: 90, 3600: 730, DAY_S: None}
NOW_S = 1_795_373_683

RANGES = st.tuples(st.integers(0, 4 * 365 * DAY_S), st.integers(1, 400 * DAY_S)).map(
    lambda drawn: (NOW_S - drawn[0] - drawn[1], NOW_S - drawn[0])
)


@given(RANGES)
def test_pieces_cover_a_range_once_with_windows_that_are_kept(span: tuple[int, int]) -> None:
    start_s, end_s = span
    found = pieces(start_s, end_s, NOW_S, KEPT)
    assert all(one.end_s == following.start_s for one, following in pairwise(found))
    assert start_s - finest(start_s, NOW_S, KEPT).seconds < found[0].start_s <= start_s
    assert end_s <= found[-1].end_s < end_s + finest(end_s, NOW_S, KEPT).seconds
    for piece in found:
        assert piece.start_s % piece.size.seconds == piece.end_s % piece.size.seconds == 0
        days = KEPT[piece.size.seconds]
        assert days is None or NOW_S - piece.start_s < (days + 1) * DAY_S
    windows = sum((piece.end_s - piece.start_s) // piece.size.seconds for piece in found)
    assert windows <= 2 * (5 + 59 + 23) + (end_s - start_s) // DAY_S + 2


@given(RANGES, st.integers(1, 1000))
def test_points_are_whole_windows_and_no_more_than_asked(span: tuple[int, int], points_max: int) -> None:
    step_s, over = points(*span, points_max, NOW_S, KEPT)
    assert over.start_s <= span[0] < span[1] <= over.end_s
    assert over.start_s % step_s == over.end_s % step_s == step_s % over.size.seconds == 0
    assert (over.end_s - over.start_s) // step_s <= max(points_max, 2)


@pytest.mark.parametrize(
    ("text", "keys", "numbers", "where"),
    [
        ("", [], ["inferences", "latency_p95_ms"], NumbersAt.MODELS),
        ("model:helmets -device:cam-1 has:device", ["device"], ["errors"], NumbersAt.MODELS),
        ("class:person", [], ["detections", "confidence_p5"], NumbersAt.CLASSES),
        ("class:pers* model:a", ["class"], ["inferences"], NumbersAt.CLASSES),
        ("class:person", [], ["inferences"], NumbersAt.CLASSES),
        ("class:person,helmet", [], ["inferences"], NumbersAt.ROWS),  # one with both would count twice
        ("class:person class:helmet", [], ["detections"], NumbersAt.ROWS),
        ("-class:person", [], ["detections"], NumbersAt.ROWS),  # inferences without any person
        ("class:person", [], ["errors"], NumbersAt.ROWS),
        ("class:person device:a", [], ["detections"], NumbersAt.ROWS),
        ("has:error", [], ["inferences"], NumbersAt.ROWS),
    ],
)
def test_windows_are_read_where_they_can_say_it(
    text: str, keys: list[str], numbers: list[str], where: NumbersAt
) -> None:
    assert place(parse(text), keys, numbers) is where


def test_what_people_write_is_bound_in_every_question() -> None:
    evil = "a') OR 1=1 --"
    asked = parse(f'device:"{evil}" class:"{evil}" metadata."{evil}":"{evil}"')
    over = Stretch(NOW_S * 1000 - 1000, NOW_S * 1000, NOW_S * 1000, KEPT)
    for filter_ in (asked, parse(f'device:"{evil}"'), parse(f'class:"{evil}"')):
        bound = Bound()
        text = select(filter_, over, ["detections"], bound, {"key": "class"})
        page = inferences.page(filter_, (0, 1), Sort.SLOWEST, After(1, 2, 3), 10)
        for sql, parameters in ((text, bound.parameters), (page.text, page.parameters)):
            assert "OR 1=1" not in sql
            assert evil in parameters.values()
    assert set(NUMBERS) >= {"inferences", "errors", "detections"}


@pytest.mark.parametrize("text", ["", "AAAA", "%%%", "WzEsMl0", cursor("another", 1, 2), cursor("mine", 1)])
def test_a_cursor_of_another_question_is_refused(text: str) -> None:
    assert place_in(cursor("mine", 1, -2), "mine", 2) == (1, -2)
    with pytest.raises(Refused, match="next"):
        place_in(text, "mine", 2)


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("1795373683301", 1795373683301),
        ("2026-11-22T18:54:43.301Z", 1795373683301),
        ("2026-11-22T19:54:43.301+01:00", 1795373683301),
        ("2026-11-22", 1795305600000),
    ],
)
def test_a_time_is_rfc_3339_or_milliseconds(text: str, at_ms: int) -> None:
    assert asked_ms("from", text) == at_ms
    assert asked_ms("from", told(at_ms)) == at_ms


@pytest.mark.parametrize("text", ["", "yesterday", "-5", "²", "99999999999999999999999", "2026-13-01", "9999-12-31"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="is a time"):
        asked_ms("from", text)
