"""The devices of a workspace, by their heartbeats and by what they infer."""

from pipeline.core.asking.language import Filter
from pipeline.core.asking.numbers import moment
from pipeline.core.asking.question import KEYS_MAX, WORKSPACE, Question
from pipeline.core.asking.sql import Bound, window_where


def last_heartbeats(asked: Filter, start_ms: int, end_ms: int) -> Question:
    """The last one of each device: device_id, sent (ms), (interval_ms, version, status, server_id, tags)."""
    bound = Bound()
    of_devices = Filter(tuple(term for term in asked.terms if term.field == "device"))
    return Question(
        "SELECT device_id, toUnixTimestamp64Milli(max(sent_at)), "
        "argMax((interval_ms, version, status, server_id, tags), sent_at) "
        f"FROM device_heartbeats WHERE workspace = {WORKSPACE} AND sent_at >= {moment(start_ms)} "
        f"AND sent_at < {moment(end_ms)} AND kafka_time >= {moment(start_ms)} AND {window_where(of_devices, bound)} "
        "GROUP BY device_id",
        bound.parameters,
        KEYS_MAX,
    )


def silent() -> Question:
    """device_id and state of each open alert about a device that is not heard."""
    return Question(
        f"SELECT device_id, state FROM open_alerts WHERE workspace = {WORKSPACE} AND kind = 'heartbeat' "
        "AND device_id != ''",
        rows_max=KEYS_MAX,
    )
