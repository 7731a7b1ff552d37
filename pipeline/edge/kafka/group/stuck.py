"""Where a task stands that does not get on: told before a stalled worker ends itself."""

import asyncio
from typing import Any


def stack(task: "asyncio.Task[None] | None") -> list[str]:
    """Where a task waits, from the outside in; `Task.get_stack` knows the outermost frame only."""
    waits: Any = None if task is None else task.get_coro()
    found = []
    while (frame := getattr(waits, "cr_frame", None)) is not None:
        found.append(f"{frame.f_code.co_qualname} ({frame.f_code.co_filename}:{frame.f_lineno})")
        waits = waits.cr_await
    return found
