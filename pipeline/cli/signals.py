"""Ending by a signal: Ctrl-C, `kill`, a closed terminal. What is then still said goes to nobody, and harms nothing."""

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress

from rich.console import Console


def when_asked_to_end(action: Callable[[], None]) -> None:
    """Has the running loop call `action` at each such signal, except those that were ignored from the start (nohup).

    A closed terminal never counts as a second time: the kernel and the shell both tell of it.
    """
    loop = asyncio.get_running_loop()
    asked: list[int] = []

    def ask(number: int) -> None:
        if not (asked and number == signal.SIGHUP):
            asked.append(number)
            action()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            loop.add_signal_handler(number, ask, number)


def tell(console: Console, text: str) -> None:
    """Prints a line, if there is still somebody to read it."""
    with suppress(OSError, SystemExit):  # rich ends the process at a broken pipe
        console.print(text, highlight=False, soft_wrap=True)
