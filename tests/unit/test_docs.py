"""Every command, setting and link in the documents exists."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from pipeline.cli.app import Deferred, app
from pipeline.cli.up import ROLES
from pipeline.config import PREFIX, Settings
from pipeline.config.loading import OF_THE_CLIENT

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
MAKE_TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
COMMAND = typer.main.get_command(app)

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def commands(text: str, program: str) -> Iterator[list[str]]:
    """The arguments of each call of a program: alone in `...`, or a line of a block."""
    for line in re.findall(r"`([^`\n]+)`", text) + re.findall(
        r"^(?!\|).*$", "".join(re.findall(r"```.*?```", text, re.S)), re.M
    ):
        for call in re.findall(rf"(?:^|&& |bin/){program} ([^|&#;]*)", line):
            yield shlex.split(call)


def parse(command: Any, arguments: list[str]) -> None:
    """As the command line would, without running it; words in capitals stand for something of yours."""
    if arguments[:1] == ["worker"]:  # Faust's part of the command line
        assert arguments[1] in (*ROLES, "ROLE"), arguments
        return
    while hasattr(command, "commands"):
        if not arguments or arguments[0] == "--help":
            return
        verb, *arguments = arguments
        names = verb.split(",")[0].split("|")  # list|apply FILE
        assert set(names) <= set(command.commands), f"{verb}: {sorted(command.commands)}"
        command = command.commands[names[0]]
        command = command.load() if isinstance(command, Deferred) else command
    known = {name for parameter in command.params for name in parameter.opts}
    for argument in arguments:
        if argument.startswith("-"):
            assert argument.split("=")[0] in known, f"{command.name} {argument}"


@pages
def test_every_command_can_be_typed(page: Path) -> None:
    for arguments in commands(page.read_text(), "inferwatch"):
        parse(COMMAND, arguments)


@pages
def test_every_make_target_exists(page: Path) -> None:
    for target, *_ in commands(page.read_text(), "make"):
        assert target in MAKE_TARGETS, target


@pages
def test_every_setting_exists(page: Path) -> None:
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | {f"{PREFIX}CONFIG_FILE"} | OF_THE_CLIENT
    for name in re.findall(rf"\b{PREFIX}[A-Z][A-Z0-9_]+[A-Z0-9]\b", page.read_text()):
        assert name.removesuffix("_FILE") in known or name in known, name


@pages
def test_every_link_and_file_leads_somewhere(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (page.parent / target).exists(), target
    for name in re.findall(r"`((?:tests|pipeline|deploy|schemas|agents|docs)/[\w/.*]+)`", text):
        assert [*ROOT.glob(name.rstrip("/")), *ROOT.glob(f"{name}.py")], name
