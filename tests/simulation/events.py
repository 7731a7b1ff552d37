"""What producers do in a small world: a few models, devices and classes; late, early and malformed records."""

import random
from collections.abc import Iterator

from tests.builders import event, prediction

SERIES = (("w", "b/2", "cam"), ("w", "b/1", None), ("w", "a", "z"), ("é", "a", "cam"))
CLASSES = ("person", "car", "Ж", "a" * 70)
BEHIND_MS = (0, 0, 0, 0, 50, 1500, 4000, 4000, 13_000, 33_000, 71_000, -6000, -12_000)
LATENCY_MS = (None, 0, 0.4, 7, 43.2, 43.2, 512.125, 86_400_000)


def values(rng: random.Random, time_ms: int) -> bytes | None:
    """A record's value, produced at `time_ms`."""
    if rng.random() < 0.1:
        return _refused(rng, time_ms)
    workspace, model, device = rng.choice(SERIES)
    predictions = [
        prediction(rng.choice(CLASSES), rng.choice((0, 1, 0.5, 0.123456))) for _ in range(rng.choice((0, 1, 1, 2, 3)))
    ]
    return event(
        event_id=f"e{rng.randrange(1000)}",
        event_time_ms=time_ms - rng.choice(BEHIND_MS),
        workspace=workspace,
        model_id=model,
        device_id=device,
        latency_ms=rng.choice(LATENCY_MS),
        predictions=predictions,
        error=rng.choice((None, None, None, "", "out of memory")),
    )


def _refused(rng: random.Random, time_ms: int) -> bytes | None:
    out_of_time = [event(event_time_ms=time_ms + days * 86_400_000) for days in (-31, 1)]
    negative = event(latency_ms=-1, event_time_ms=time_ms)
    return rng.choice((None, b"", b"{", b"\xff", b'{"event_id": "e"}', event(schema=2), negative, *out_of_time))


def pauses(rng: random.Random, count: int) -> Iterator[float]:
    """Seconds before each of `count` records: bursts, and silences longer than a window."""
    pace_s = rng.choice((0.3, 1.0, 2.0))
    for _ in range(count):
        yield rng.choice((0, 0, 0.001, pace_s * rng.random(), pace_s, 4 * pace_s, 11.0 * (rng.random() < 0.3)))
