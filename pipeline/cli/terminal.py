"""What a terminal is given: text that it can show, and of what others wrote nothing that it would obey."""

import io
import sys

from rich import markup


def prepare() -> None:
    """Where the terminal has no letter for something (latin-1, ASCII), it is written out, and no verb ends by it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def escape(name: str) -> str:
    """A name among rich's markup: neither markup nor a terminal's control, and on one line."""
    return markup.escape(_shown(name))


def lines(text: str) -> str:
    """Several lines of ours that quote others."""
    return "\n".join(map(_shown, text.split("\n")))


def _shown(name: str) -> str:
    from pipeline.core.words import shown  # with numpy, which the list of verbs does not wait for

    return shown(name)
