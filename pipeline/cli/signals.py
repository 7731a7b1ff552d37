"""Ending by a signal: Ctrl-C, `kill`, a closed terminal."""

import asyncio
import signal
from collections.abc import Callable


def when_asked_to_end(action: Callable[[], None]) -> None:
    """Has the running loop call `action` at each such signal, except those that were ignored from the start (nohup)."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            loop.add_signal_handler(number, action)
