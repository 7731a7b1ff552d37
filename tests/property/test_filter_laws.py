"""Laws of the filter language: any text is answered, and whatever is understood reads back as it was written."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.asking.language import FIELDS, FilterError, parse
from pipeline.core.asking.sql import Bound, where

WORDS = st.sampled_from(
    [*FIELDS, "metadata.site", "-", ":", ",", "<", ">=", "..", '"', "\\", "*", " ", "0.5", "x", "é", "\n"]
)


@given(st.lists(WORDS, max_size=20).map("".join) | st.text(max_size=60))
def test_any_text_is_a_filter_or_mistakes(text: str) -> None:
    try:
        asked = parse(text)
    except FilterError:
        return
    assert parse(str(asked)) == asked
    assert where(asked, Bound(), "w")


@given(st.text(min_size=1, max_size=30))
def test_any_text_can_be_asked_for(text: str) -> None:
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    asked = parse(f'device:"{quoted}"')
    (term,) = asked.terms
    assert [value.text for value in term.values] == [text]  # type: ignore[union-attr]
    assert parse(str(asked)) == asked
