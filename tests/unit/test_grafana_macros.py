"""The expander of the tests against pairs that Go has given: the plugin SDK's own sqlutil.Interpolate, v0.277.0.

The macros under it were typed after those of grafana-clickhouse-datasource (which is no Go module to be had).
Range: 2025-11-24 16:00:00.123 to 22:00:00.987 UTC. Variables: as formatRegistry.js of @grafana/scenes 9.2.2 does it.
"""

import pytest

from tests.integration.grafana import All, MacroError, Value, expand, interval_ms

FROM_MS, TO_MS = 1764000000123, 1764021600987
RECORDED = [
    (
        "SELECT $__fromTime, $__toTime, $__fromTime_ms, $__toTime_ms",
        20_000,
        "SELECT toDateTime(1764000000), toDateTime(1764021600), fromUnixTimestamp64Milli(1764000000123), "
        "fromUnixTimestamp64Milli(1764021600987)",
    ),
    (
        "WHERE $__timeFilter(at) AND $__timeFilter_ms(sent_at)",
        20_000,
        "WHERE at >= toDateTime(1764000000) AND at <= toDateTime(1764021600) AND sent_at >= "
        "fromUnixTimestamp64Milli(1764000000123) AND sent_at <= fromUnixTimestamp64Milli(1764021600987)",
    ),
    (
        "WHERE $__timeFilter(toStartOfHour(sent_at)) AND $__interval_s < 3600",
        500,
        "WHERE toStartOfHour(sent_at) >= toDateTime(1764000000) AND toStartOfHour(sent_at) <= toDateTime(1764021600) "
        "AND 1 < 3600",
    ),
    (
        "WHERE $__dateFilter(day) AND $__dateTimeFilter(day, at)",
        20_000,
        "WHERE day >= toDate('2025-11-24') AND day <= toDate('2025-11-24') AND (day >= toDate('2025-11-24') AND "
        "day <= toDate('2025-11-24')) AND (at >= toDateTime(1764000000) AND at <= toDateTime(1764021600))",
    ),
    (
        "SELECT $__timeInterval(if(a = 1, b, c)) AS time, $__timeInterval_ms(at), $__timeInterval( at )",
        500,
        "SELECT toStartOfInterval(toDateTime(if(a = 1, b, c)), INTERVAL 1 second) AS time, "
        "toStartOfInterval(toDateTime64(at, 3), INTERVAL 500 millisecond), "
        "toStartOfInterval(toDateTime(at), INTERVAL 1 second)",
    ),
    (
        "SELECT $__timeInterval(if(a = 1, b, c)) AS time, $__timeInterval_ms(at), $__timeInterval( at )",
        20_000,
        "SELECT toStartOfInterval(toDateTime(if(a = 1, b, c)), INTERVAL 20 second) AS time, "
        "toStartOfInterval(toDateTime64(at, 3), INTERVAL 20000 millisecond), "
        "toStartOfInterval(toDateTime(at), INTERVAL 20 second)",
    ),
    (
        "FROM model_range(since = $__fromTime - ($__toTime - $__fromTime), until = $__toTime, step_s = $__interval_s)",
        20_000,
        "FROM model_range(since = toDateTime(1764000000) - (toDateTime(1764021600) - toDateTime(1764000000)), "
        "until = toDateTime(1764021600), step_s = 20)",
    ),
    (
        "WHERE name = 'it''s (not' AND $__timeFilter(at)",
        20_000,
        "WHERE name = 'it''s (not' AND at >= toDateTime(1764000000) AND at <= toDateTime(1764021600)",
    ),
]


@pytest.mark.parametrize(("sql", "step_ms", "sent"), RECORDED)
def test_macros_become_what_the_plugin_makes_of_them(sql: str, step_ms: int, sent: str) -> None:
    assert expand(sql, FROM_MS, TO_MS, step_ms, {}) == sent


@pytest.mark.parametrize(("sql", "why"), [
    ("WHERE $__timeFilter(at", "not closed"),
    ("WHERE $__timeFilter(a, b)", "takes 1"),
    ("WHERE $__timeFilter", "takes 1"),
    ("WHERE $__unheardOf(a)", "unknown macro"),
    ("WHERE a = ${nothing:sqlstring}", "unknown variable"),
    ("WHERE a = ${name:glob}", "not known"),
    ("$__conditionalAll(a = 1)", "takes a condition"),
])  # fmt: skip
def test_what_grafana_would_not_take_is_a_mistake(sql: str, why: str) -> None:
    with pytest.raises(MacroError, match=why):
        expand(sql, FROM_MS, TO_MS, 1000, {"name": "x"})


@pytest.mark.parametrize(("value", "sent"), [
    ("plain", "'plain'"),
    ("it's \"so\"", "'it''s \\\"so\\\"'"),
    (["a", "b'c"], "'a','b''c'"),
    (All(("a", "b, (c'")), "'a','b, (c'''"),
])  # fmt: skip
def test_values_are_quoted_and_their_quotes_escaped(value: Value, sent: str) -> None:
    for name in ("${name:sqlstring}", "[[name:sqlstring]]"):
        assert expand(f"WHERE a IN ({name})", FROM_MS, TO_MS, 1000, {"name": value}) == f"WHERE a IN ({sent})"


def test_without_a_format_a_list_is_quoted_and_nothing_is_escaped() -> None:
    chosen: dict[str, Value] = {"one": "it's", "two": ["a", "b"]}
    assert expand("$one ${two} [[one]]", FROM_MS, TO_MS, 1000, chosen) == "it's 'a','b' it's"


@pytest.mark.parametrize(("value", "sent"), [
    (All(), "WHERE 1=1 AND b"), ("", "WHERE 1=1 AND b"), (["x'y", "z"], "WHERE a IN ('x''y','z') AND b"),
])  # fmt: skip
def test_a_condition_falls_away_when_all_is_chosen(value: Value, sent: str) -> None:
    sql = "WHERE $__conditionalAll(a IN (${name:sqlstring}), $name) AND b"
    assert expand(sql, FROM_MS, TO_MS, 1000, {"name": value}) == sent


@pytest.mark.parametrize(("length_s", "min_ms", "step_ms"), [
    (900, 0, 1000), (900, 10_000, 10_000), (6 * 3600, 10_000, 20_000), (7 * 86_400, 10_000, 600_000),
    (90 * 86_400, 10_000, 7_200_000),
])  # fmt: skip
def test_points_are_as_far_apart_as_grafana_would_have_them(length_s: int, min_ms: int, step_ms: int) -> None:
    assert interval_ms(0, length_s * 1000, min_ms) == step_ms
