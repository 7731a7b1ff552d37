"""Numbers for texts, in the order of their first use."""

from pipeline.core.windows.numbering import Numbering


def test_a_text_keeps_the_number_that_it_got_at_first() -> None:
    numbering = Numbering[str]()
    assert [numbering[text] for text in ("b", "a", "b", "", "a")] == [0, 1, 0, 2, 1]
    assert list(numbering.texts) == ["b", "a", ""]
    assert len(numbering) == 3


def test_what_was_never_met_has_no_number() -> None:
    assert list(Numbering[str]().texts) == []
