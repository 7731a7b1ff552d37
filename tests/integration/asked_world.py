"""A workspace with a few hundred inferences of the last hours, their windows, and a second workspace with the same."""

import random
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from pipeline.config import Settings
from tests.integration.outside import connect
from tests.integration.seeding import class_windows, event_row, insert, model_windows

CLASSES = ("person", "helmet", "vest")


def rows(now_ms: int, count: int = 400, workspace: str = "acme", seed: int = 1) -> list[dict[str, Any]]:
    """Rows of `inferences` over three hours, the first one newest; the newest of each model are close to now."""
    luck = random.Random(seed)
    return [_row(luck, number, now_ms - 15_000 - number * 27_000, workspace) for number in range(count)]


def _row(luck: random.Random, number: int, at_ms: int, workspace: str) -> dict[str, Any]:
    found = [{"class": luck.choice(CLASSES), "confidence": luck.randrange(101) / 100} for _ in range(luck.randrange(4))]
    event = {
        "event_id": f"e{number:04}",
        "event_time_ms": at_ms,
        "workspace": workspace,
        "model_id": f"helmets/{number % 2 + 1}" if number % 5 else "vests",
        "device_id": f"cam-{number % 3}" if number % 11 else "",
        "latency_ms": None if number % 7 == 3 else luck.randrange(1, 90_000) / 1000,
        "predictions": found,
        "error": "out of memory" if number % 13 == 0 else None,
    }
    extra = {"metadata": {"site": f"s{number % 4}"}, "tags": ["edge"] if number % 2 else [], "source": "roboflow"}
    return event_row(event, number % 8, number, at_ms) | extra


def fill(settings: Settings, found: Sequence[dict[str, Any]]) -> None:
    """These rows, and the windows that are made of them."""
    with closing(connect(settings, "admin")) as admin:
        insert(admin, "inferences", list(found))
        insert(admin, "model_windows_in", list(model_windows(list(found))))
        insert(admin, "class_windows_in", list(class_windows(list(found))))
