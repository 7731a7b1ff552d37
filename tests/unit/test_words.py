"""Other people's names, as text among our own words."""

from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.words import shown
from tests.names import NAMES, SURROGATE


@pytest.mark.parametrize("name", ["helmets/3", "каска", "安全帽\u3000二", NAMES["joined"], NAMES["html"], ""])
def test_what_can_be_seen_is_shown_as_it_is(name: str) -> None:
    assert shown(name) == name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a\r\nb", r"a\r\nb"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\x9b", r"\x9b"),
        ("a\u202eb\u2028", r"a\u202eb\u2028"),
        (SURROGATE, r"a\ud800b"),
        ("a\u200b", r"a\u200b"),
    ],
)
def test_what_can_not_is_written_out(name: str, text: str) -> None:
    assert shown(name) == text


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_a_shown_name_is_one_line_that_can_be_written_anywhere(name: str) -> None:
    line = shown(name)
    assert not {category(char) for char in line} & {"Cc", "Cs", "Zl", "Zp"}
    line.encode()
    assert shown(line) == line
