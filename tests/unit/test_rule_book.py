"""Which rules are about which models."""

import pytest

from pipeline.core.rules.rule_book import RuleBook, is_about, names_model
from tests.alerting import rule

MODELS = [None, "helmets", "helmets/3", "helmets/4", "helmets2/3", "site/helmets", "site/helmets/3"]


@pytest.mark.parametrize(
    ("of", "model_id", "wanted"),
    [
        (None, "helmets/3", True),
        ("helmets", "helmets/3", True),
        ("helmets", "helmets", True),
        ("helmets", "helmets2/3", False),
        ("helmets/3", "helmets/3", True),
        ("helmets/3", "helmets/30", False),
        ("helmets/3", "helmets", False),
        ("site", "site/helmets/3", True),
        ("site/helmets", "site/helmets/3", True),
    ],
)
def test_a_rule_is_about_a_model_or_all_its_versions(of: str | None, model_id: str, wanted: bool) -> None:
    assert is_about(rule(model_id=of), "acme", model_id) is wanted
    assert not is_about(rule(model_id=of, workspace="other"), "acme", model_id)


def test_the_book_finds_what_a_scan_would_find() -> None:
    rules = [
        rule(rule_id=f"r{i}", model_id=m, workspace=w)
        for w in ("acme", "b")
        for i, m in enumerate(MODELS, 10 * (w == "b"))
    ]
    book = RuleBook()
    for one in rules:
        book.put(one)
    for model_id in ("helmets", "helmets/3", "helmets2/3", "site/helmets/3", "else"):
        for workspace in ("acme", "b", "c"):
            scanned = [r.rule_id for r in rules if is_about(r, workspace, model_id)]
            assert [r.rule_id for r in book.about(workspace, model_id)] == sorted(scanned)


def test_a_rule_takes_the_place_of_the_one_with_its_id() -> None:
    book = RuleBook()
    book.put(rule(model_id="helmets"))
    book.put(rule(model_id="boots"))
    assert book.about("acme", "helmets/3") == []
    assert [r.model_id for r in book.about("acme", "boots/1")] == ["boots"]
    assert len(list(book)) == 1


def test_a_rule_that_is_switched_off_is_kept_and_about_nothing() -> None:
    book = RuleBook()
    book.put(rule(enabled=False))
    assert book.about("acme", "helmets/3") == []
    assert book.get("r") is not None
    book.remove("r")
    book.remove("r")
    assert book.get("r") is None


def test_only_a_version_names_one_model() -> None:
    assert [m for m in MODELS if names_model(rule(model_id=m))] == [m for m in MODELS if m and "/" in m]
