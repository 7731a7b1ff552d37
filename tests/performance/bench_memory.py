"""Memory: what the recorder holds while ClickHouse is away and events keep coming, and while it catches up."""

import time
from pathlib import Path

from tests.integration.engines import Engines
from tests.performance import system
from tests.performance.figures import Figure, VoidRunError

RATE = 20_000
BEFORE_S = 5
LIMIT_MB = 500.0


def run(running: Engines, directory: Path, minutes: float) -> list[Figure]:
    """ClickHouse is stopped for `minutes`, then it comes back and everything must be there."""
    settings = system.world(running)
    system.make(settings)
    with system.worker("recorder", settings, directory) as recorder:
        with system.producer(settings, directory, RATE, BEFORE_S + round(60 * minutes)) as producer:
            time.sleep(BEFORE_S)
            running.clickhouse.stop()
            away_mb = [system.rss_mb(recorder)]
            while not producer.ended:
                away_mb.append(system.rss_mb(recorder))
                time.sleep(0.5)
            events = producer.acknowledged()
        running.clickhouse.start()
        back_mb, began = [system.rss_mb(recorder)], time.monotonic()
        with system.client(settings) as client:
            rows = 0
            while rows < events:
                if time.monotonic() - began > system.WAIT_S:
                    raise VoidRunError(f"{rows} of {events} events are rows")
                rows = system.number(client, "SELECT count() FROM inferences")
                back_mb.append(system.rss_mb(recorder))
                time.sleep(0.5)
            took_s = time.monotonic() - began
            different = system.number(client, "SELECT uniqExact(kafka_partition, kafka_offset) FROM inferences")
            if rows != events or different != events:
                raise VoidRunError(f"{different} different rows of {rows}; there were {events} events")
    bench = f"memory: ClickHouse away for {minutes:g} min at {RATE:,} events/s"
    return [
        Figure(bench, "recorder, while it is away", max(away_mb), "MB", LIMIT_MB),
        Figure(bench, "recorder, while it catches up", max(back_mb), "MB", LIMIT_MB),
        Figure(bench, "catching up", events / took_s, "events/s"),
    ]
