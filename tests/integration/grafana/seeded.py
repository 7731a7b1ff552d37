"""A small workspace over half a year, beside a large one, and a recount in plain Python of what panels should show."""

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from clickhouse_connect.driver.client import Client

from tests.integration.seeding import class_windows, insert, latency_bucket, model_windows

HOUR_S, DAY_S = 3600, 86_400
RANGES_S = {"15 min": 900, "6 h": 6 * HOUR_S, "7 d": 7 * DAY_S, "90 d": 90 * DAY_S}
# What a range of that length is read from, by a panel with deploy.grafana.dashboard.POINTS points.
WINDOWS_S = {"15 min": 10, "6 h": 60, "7 d": HOUR_S, "90 d": HOUR_S}

WORKSPACE = 'o\'brien "&" sons'
MODELS = ("it's/1", "it's/2", 'dou"ble/7', "plain")
DEVICES = ("cam'1", 'cam"2', "cam), 3")
NAMES = ("pers'on", 'hel"met', "vest")
LARGE, SINKING = "large", "sinking"
Row = dict[str, Any]


@dataclass(frozen=True)
class Seeded:
    """What was inserted, as rows of `inferences`, and the moment that counts as now."""

    rows: list[Row]
    now_s: int

    def within(self, since_s: float, until_s: float, window_s: int, keep: Callable[[Row], bool] = bool) -> list[Row]:
        """Inferences whose window begins in the range."""
        return [
            row for row in self.rows if since_s <= row["event_time"] // window_s * window_s <= until_s and keep(row)
        ]


def seed(client: Client, now_s: int) -> Seeded:
    """Everything that a dashboard asks for."""
    client.set_client_setting("max_partitions_per_insert_block", 0)  # half a year is in one insert
    rows = _inferences(random.Random(20261124), now_s)
    insert(client, "model_windows_in", list(model_windows(rows)))
    insert(client, "class_windows_in", list(class_windows(rows)))
    insert(
        client,
        "inferences",
        [{**row, "ingested_at": row["event_time"] + 1} for row in rows if row["event_time"] > now_s - 240],
    )
    insert(client, "device_heartbeats", _heartbeats(now_s))
    insert(client, "alerts", _alerts(now_s))
    insert(client, "dead_letters", _dead_letters(now_s))
    _large(client, now_s)
    _sinking(client, now_s)
    for table in (
        *(f"{kind}_windows{size}" for kind in ("model", "class") for size in ("", "_1m")),
        "device_heartbeats",
    ):
        client.command(f"OPTIMIZE TABLE {table} FINAL")
    return Seeded(rows, now_s)


def _inferences(draw: random.Random, now_s: int) -> list[Row]:
    """More of them the younger they are, so that every range and the one before it has some."""
    rows: list[Row] = []
    times_us = [round(draw.lognormvariate(10, 0.6)) for _ in range(80)]
    for length_s in (1500, *(2 * length for length in RANGES_S.values())):
        for _ in range(600):
            names = [draw.choice(NAMES) for _ in range(draw.randint(0, 4))]
            ago_s = draw.randrange(length_s)
            if ago_s > 20 * DAY_S:
                ago_s -= ago_s // DAY_S % 8 * DAY_S  # on one day of eight: each costs a part in each table
            at_s = now_s - 20 - ago_s
            rows.append(
                {
                    "event_id": f"event-{len(rows)}",
                    "event_time": at_s,
                    "workspace": WORKSPACE,
                    "model_id": draw.choice(MODELS),
                    "device_id": draw.choice(DEVICES),
                    "latency_us": None if draw.random() < 0.1 else draw.choice(times_us),
                    "detections.class": names,
                    "detections.confidence_ppm": [draw.randint(0, 1_000_000) for _ in names],
                    **{f"detections.{side}": [0.0] * len(names) for side in ("x", "y", "width", "height")},
                    "error": "out of memory" if draw.random() < 0.05 else "",
                    "kafka_partition": len(rows) % 8,
                    "kafka_offset": len(rows),
                    "kafka_time": at_s,
                }
            )
    return rows


def _heartbeats(now_s: int) -> list[Row]:
    """Of three devices: one beats, one has been silent for half an hour, one said that it stops."""
    ends = {DEVICES[0]: now_s, DEVICES[1]: now_s - 1800, "only beats": now_s - 3600}
    return [
        {
            "workspace": WORKSPACE,
            "device_id": name,
            "sent_at": at_s,
            "interval_ms": 30_000,
            "version": "1.2",
            "status": "stopping" if name == "only beats" and at_s == end_s else "up",
            "kafka_time": at_s,
        }
        for name, end_s in ends.items()
        for at_s in range(end_s, end_s - DAY_S, -30)
    ]


def _alerts(now_s: int) -> list[Row]:
    """Each severity once, each a few minutes old; the warning is over."""
    steps = [
        ("a", "critical", "firing", 600), ("b", "warning", "firing", 500), ("b", "warning", "resolved", 260),
        ("c", "info", "firing", 400),
    ]  # fmt: skip
    return [
        {
            "fingerprint": name,
            "episode": now_s - 700,
            "sequence": number,
            "state": state,
            "at": now_s - ago_s,
            "starts_at": now_s - 700,
            "kind": "pipeline" if name == "c" else "rule",
            "workspace": WORKSPACE,
            "model_id": "it's" if name == "a" else "it's/1",
            "device_id": DEVICES[0],
            "metric": "confidence_mean",
            "value": 0.4,
            "threshold": 0.7,
            "severity": severity,
            "summary": f"{name}: it's less sure than it was",
            "kafka_time": now_s - ago_s,
        }
        for number, (name, severity, state, ago_s) in enumerate(steps)
    ]


def _dead_letters(now_s: int) -> list[Row]:
    return [
        {
            "reason": ("not_json", "missing_field")[number % 2],
            "kafka_topic": "inference.events",
            "kafka_partition": 0,
            "kafka_offset": number,
            "kafka_time": now_s - 30 - number * 10,
            "value": "{",
            "value_bytes": 1,
        }
        for number in range(20)
    ]


def _large(client: Client, now_s: int) -> None:
    """50 models on two devices, every 5 minutes for 6 days: what a question about the small one must not read."""
    for table, key in (("model_windows_in", "device_id"), ("class_windows_in", "class")):
        client.command(f"""
            INSERT INTO {table} (workspace, model_id, {key}, window_start, inference_count, detection_count)
            SELECT '{LARGE}', 'model-' || toString(intDiv(number, 2) % 50), 'one-' || toString(number % 2),
                   toDateTime({now_s - 6 * DAY_S} + intDiv(number, 100) * 300), 1, 1
            FROM numbers(6 * 288 * 100)""")
    client.command(f"""
        INSERT INTO device_heartbeats (workspace, device_id, sent_at, interval_ms, version, status, kafka_time)
        SELECT '{LARGE}', 'one-' || toString(number % 20), toDateTime({now_s}) - intDiv(number, 20) * 30 AS at, 30000,
               '1', 'up', at
        FROM numbers(7 * 2880 * 20)""")


def _sinking(client: Client, now_s: int) -> None:
    """A model whose confidence halves and whose time doubles in the last 5 minutes; another that goes on as it was."""
    rows = [
        {
            "workspace": SINKING,
            "model_id": model_id,
            "device_id": "cam",
            "window_start": at_s,
            "inference_count": 10,
            "detection_count": 10,
            "confidence_ppm_sum": 4_000_000 if bad else 8_000_000,
            "latency_count": 10,
            "latency_us_sum": 200_000 if bad else 100_000,
            "latency_histogram": {latency_bucket(20_000 if bad else 10_000): 10},
        }
        for model_id in ("steady/1", "sinking/1")
        for at_s in range(now_s - HOUR_S, now_s, 60)
        for bad in (model_id == "sinking/1" and at_s >= now_s - 300,)
    ]
    insert(client, "model_windows_in", rows)


# The recount.


def mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def confidences(rows: list[Row]) -> list[float]:
    return [ppm / 1e6 for row in rows for ppm in row["detections.confidence_ppm"]]


def latencies_ms(rows: list[Row]) -> list[float]:
    return [row["latency_us"] / 1e3 for row in rows if row["latency_us"] is not None]


def rank(values: Sequence[float], level: float) -> float:
    """The value of rank ceil(level * n)."""
    return sorted(values)[-int(-level * len(values) // 1) - 1]


def by(rows: list[Row], key: str) -> dict[str, list[Row]]:
    groups = defaultdict(list)
    for row in rows:
        groups[row[key]].append(row)
    return groups
