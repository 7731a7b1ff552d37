"""Rules in YAML: three forms, and every mistake with its place."""

from pathlib import Path

import pytest

from pipeline.edge.operator import rule_file
from pipeline.edge.operator.rule_file import RuleFileError

ONE = """
rule_id: {name}
workspace: acme
metric: confidence_mean
operator: "<"
threshold: 0.6
"""


def indented(name: str) -> str:
    lines = ONE.format(name=name).strip().splitlines()
    return "\n".join(["- " + lines[0], *("  " + line for line in lines[1:])]) + "\n"


def read(folder: Path, text: str) -> list[str]:
    path = folder / "rules.yaml"
    path.write_text(text, encoding="utf-8")
    return [rule.rule_id for rule in rule_file.read(path)]


def test_one_rule_a_list_and_a_named_list_are_read(tmp_path: Path) -> None:
    assert read(tmp_path, ONE.format(name="a")) == ["a"]
    assert read(tmp_path, indented("a") + indented("b")) == ["a", "b"]
    assert read(tmp_path, "rules:\n" + indented("a") + indented("b")) == ["a", "b"]


def test_every_mistake_is_told_with_its_rule(tmp_path: Path) -> None:
    text = indented("a").replace("0.6", "60") + indented("b").replace('"<"', "<") + indented("a").replace("acme", "3")
    with pytest.raises(RuleFileError) as error:
        read(tmp_path, text)
    lines = str(error.value).splitlines()
    assert lines[0].endswith("rules.yaml: 2 mistakes")
    assert lines[1:] == [
        "rule 1 (a): threshold: confidence_mean lies between 0 and 1, 60 does not; 0.6?",
        "rule 3 (a): workspace: expected text, got the number 3 (put it in quotes)",
    ]


def test_an_id_that_is_given_twice_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(RuleFileError, match="another rule in the file has the same"):
        read(tmp_path, indented("a") + indented("a"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected a rule"),
        ("[]", "expected a rule"),
        ("just text", "expected a rule"),
        ("rules: 3", "expected a rule"),
        ("a: [", "no YAML"),
        ("\x00", "no YAML"),
        ("when: 2026-99-99", "no YAML"),
        ("rule_id: a\nrule_id: b\n", "rule_id is given twice"),
        ("a: &x [1]\nb: *x\n", "aliases are not understood"),
        ("!!python/object/apply:os.getcwd []", "no YAML"),
        ("? [a]\n: b\n", "no YAML"),
        ("[" * 2000, "no YAML"),
        ("- 3", "rule 1: expected names with values, got the number 3"),
    ],
)
def test_what_is_no_rule_is_said(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(RuleFileError, match=words):
        read(tmp_path, text)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(RuleFileError, match="No such file"):
        rule_file.read(tmp_path / "none.yaml")
