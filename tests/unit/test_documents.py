"""The queries in the documents, as far as can be said without a ClickHouse."""

import re

import pytest

from tests.documents import ROOT, all_documented, documented

MEASURED = re.compile(r"^\| (.+?) \| ([\d,]+) \| ([\d,]+) \| ([\d,.]+) \|$", re.MULTILINE)


def test_every_query_has_a_title_of_its_own() -> None:
    titles = [query.title for query in documented("docs/queries.md")]
    assert len(titles) == len(set(titles)) > 20


def test_every_query_only_reads() -> None:
    assert [str(q) for q in all_documented() if not re.match(r"(--.*\n)+(SELECT|WITH)\b", q.sql)] == []


def test_a_query_asked_at_a_moment_does_not_read_the_clock() -> None:
    asked = [query.as_of(1_795_373_683) for query in all_documented()]
    assert not any("now()" in sql for sql in asked)
    assert any("toDateTime(1795373683, 'UTC')" in sql for sql in asked)


def test_every_query_and_only_these_have_a_measured_time() -> None:
    measured = [row[0] for row in MEASURED.findall((ROOT / "docs" / "queries.md").read_text())]
    assert measured == [query.title for query in documented("docs/queries.md")]


@pytest.mark.parametrize("row", MEASURED.findall((ROOT / "docs" / "queries.md").read_text()), ids=lambda row: row[0])
def test_what_was_measured_kept_the_limit(row: tuple[str, ...]) -> None:
    assert int(row[1].replace(",", "")) <= 300
