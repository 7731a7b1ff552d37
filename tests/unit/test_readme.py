"""What the documents say is what the code does."""

from pathlib import Path

from pipeline.cli.app import VERBS
from pipeline.cli.settings import reference
from schemas import reference as reference_of_records

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_settings_reference_is_what_the_command_writes() -> None:
    """`make docs` writes docs/settings.md."""
    assert (ROOT / "docs" / "settings.md").read_text().endswith(reference() + "\n")


def test_the_records_reference_is_what_the_structs_say() -> None:
    """`make docs` writes docs/events.md."""
    assert reference_of_records.FILE.read_text() == reference_of_records.text()


def test_every_verb_is_in_the_readme() -> None:
    """A verb that the README does not name is not found by anybody."""
    assert [verb for verb in VERBS if f"`{verb}" not in README] == []
