"""What a terminal is given: names as text, in whatever encoding it has."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from pipeline.cli.terminal import escape, lines
from pipeline.core.words import shown
from tests.names import NAMES

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
COLOURS = re.compile(r"\x1b\[[\d;]*m")
names = pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)


def printed(thing: object) -> str:
    """What leaves for a terminal, without our own colours."""
    out = io.StringIO()
    Console(file=out, force_terminal=True, width=20_000, legacy_windows=False).print(
        thing, highlight=False, soft_wrap=True
    )
    return COLOURS.sub("", out.getvalue()).rstrip()


@names
def test_a_name_among_markup_is_neither_markup_nor_a_control(name: str) -> None:
    assert printed(f"[bold]is[/] <{escape(name)}>") == f"is <{shown(name)}>"


@names
def test_a_name_in_a_table_is_one_row(name: str) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_row(escape(name), "end")
    assert printed(table).split("\n") == [f"{shown(name)}  end"]


def test_our_own_lines_stay_lines() -> None:
    assert lines("rules.yaml: 2 mistakes\nrule 1 (\x1b[2J): x\r") == "rules.yaml: 2 mistakes\nrule 1 (\\x1b[2J): x\\r"


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "ascii:strict", "utf-8"])
def test_no_verb_ends_by_a_terminal_that_has_no_letter_for_something(encoding: str, tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("{rule_id: каска, metric: 安全帽}", encoding="utf-8")
    said = "from rich.console import Console; Console().print('каска …'); print('安全帽 …')"
    for program in (
        ["-c", f"from pipeline.cli import terminal; terminal.prepare(); {said}"],
        ["-m", "agents.main", "rules", "apply", str(rules)],
        ["-m", "agents.main", "settings", "--help"],
    ):
        environ = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)}
        ran = subprocess.run(
            [sys.executable, *program], env=environ, cwd=tmp_path, capture_output=True, timeout=60, check=False
        )
        assert b"Traceback" not in ran.stderr
        assert ran.returncode == (2 if "rules" in program else 0)
