"""How a test of the whole pipeline ends: all is in, once, and exact."""

from pipeline.config import Settings
from tests.integration import oracle
from tests.integration.workers import Fleet


def quick(world: Settings) -> Settings:
    """Small cuts, soon; an answer of ClickHouse is given up early."""
    return world.model_copy(update={"cut_age_ms": 100, "poll_ms": 50, "clickhouse_insert_timeout_s": 5.0})


def prove(settings: Settings, workers: Fleet, log: oracle.Log | None = None) -> oracle.Expected:
    """Waits until all is in, ends the workers, and compares everything."""
    want = oracle.expected(settings, log)
    took_s = oracle.wait(settings, want)
    workers.end_all()
    report = oracle.Tables(settings).compare(want)
    assert report.clean, f"after {took_s:.1f} s: {report}"
    return want
