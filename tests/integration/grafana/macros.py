"""From a panel's SQL to what ClickHouse is sent, as Grafana 11.6 and grafana-clickhouse-datasource 4.x do it.

In the browser: `$__conditionalAll(condition, $variable)`, then variables (`$a`, `${a}`, `${a:format}`, `[[a]]`), then,
in the plugin's backend, the other macros, the longest name first. tests/unit/test_grafana_macros.py has pairs that the
Go code itself has given.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime


class MacroError(Exception):
    """Grafana would refuse this SQL, or send something that was not meant."""


@dataclass(frozen=True, slots=True)
class All:
    """The choice `All` of a variable; `values` are what Grafana writes out for it outside of `$__conditionalAll`."""

    values: tuple[str, ...] = ()


Value = str | Sequence[str] | All
_Macro = Callable[[list[str]], str]

_VARIABLE = re.compile(r"\$\{(\w+)(?::(\w+))?\}|\[\[(\w+)(?::(\w+))?\]\]|\$(\w+)")
_CONDITIONAL_ALL = "$__conditionalAll("

# Grafana's rangeUtil.roundInterval: (below this, it is this), in milliseconds.
_ROUNDED_MS = [
    (10, 1), (15, 10), (35, 20), (75, 50), (150, 100), (350, 200), (750, 500), (1_500, 1_000), (3_500, 2_000),
    (7_500, 5_000), (12_500, 10_000), (17_500, 15_000), (25_000, 20_000), (45_000, 30_000), (90_000, 60_000),
    (210_000, 120_000), (450_000, 300_000), (750_000, 600_000), (1_050_000, 900_000), (1_500_000, 1_200_000),
    (2_700_000, 1_800_000), (5_400_000, 3_600_000), (9_000_000, 7_200_000), (16_200_000, 10_800_000),
    (32_400_000, 21_600_000), (86_400_000, 43_200_000), (604_800_000, 86_400_000), (1_814_400_000, 604_800_000),
]  # fmt: skip


def interval_ms(from_ms: int, to_ms: int, min_interval_ms: int = 0, max_data_points: int = 1000) -> int:
    """How far apart Grafana wants a panel's points: the range over its width, rounded; at least the minimum."""
    wanted = (to_ms - from_ms) / max_data_points
    rounded = next((rounded for below, rounded in _ROUNDED_MS if wanted < below), 2_592_000_000)
    return max(rounded, min_interval_ms)


def expand(sql: str, from_ms: int, to_ms: int, interval_ms: int, variables: Mapping[str, Value]) -> str:
    """What ClickHouse is sent. Raises MacroError where a variable or a macro is unknown or wrongly used."""
    out = _with_macros(
        _with_variables(_with_conditions(sql, variables), variables), _macros(from_ms, to_ms, interval_ms)
    )
    if "$__" in out:
        raise MacroError(f"unknown macro: {out[out.index('$__') :][:40]}")
    return out


def _with_conditions(sql: str, variables: Mapping[str, Value]) -> str:
    while (start := sql.rfind(_CONDITIONAL_ALL)) >= 0:
        args, end = _arguments(sql, start + len(_CONDITIONAL_ALL) - 1, strip=False)
        if len(args) != 2 or not (named := re.search(r"\$\{?(\w+)", args[1])):
            raise MacroError(f"$__conditionalAll takes a condition and a variable: {sql[start:end]}")
        value = _value(variables, named[1])
        sql = sql[:start] + ("1=1" if isinstance(value, All) or value == "" else args[0]) + sql[end:]
    return sql


def _with_variables(sql: str, variables: Mapping[str, Value]) -> str:
    def replaced(found: re.Match[str]) -> str:
        name, form = found[1] or found[3] or found[5], found[2] or found[4]
        if name.startswith("__"):
            return found[0]  # a macro of the backend
        return _formatted(_value(variables, name), form)

    return _VARIABLE.sub(replaced, sql)


def _value(variables: Mapping[str, Value], name: str) -> Value:
    if name not in variables:
        raise MacroError(f"unknown variable ${name}")
    return variables[name]


def _formatted(value: Value, form: str | None) -> str:
    if isinstance(value, All):
        value = value.values
    one = isinstance(value, str)
    values = [value] if isinstance(value, str) else list(value)
    match form:
        case "sqlstring":
            return ",".join("'" + v.replace("'", "''").replace('"', '\\"') + "'" for v in values)
        case "raw" | "csv" | "text":
            return ",".join(values)
        case None:  # the plugin's own: quotes around a list's values, and no escape
            return values[0] if one else "'" + "','".join(values) + "'"
    raise MacroError(f"format {form} is not known here")


def _macros(from_ms: int, to_ms: int, interval_ms: int) -> dict[str, _Macro]:
    def seconds(ms: int) -> str:
        return f"toDateTime({ms // 1000})"

    def millis(ms: int) -> str:
        return f"fromUnixTimestamp64Milli({ms})"

    def date(ms: int) -> str:
        return f"toDate('{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d}')"

    def between(column: str, moment: Callable[[int], str]) -> str:
        return f"{column} >= {moment(from_ms)} AND {column} <= {moment(to_ms)}"

    interval_s = max(interval_ms // 1000, 1)
    macros: dict[str, tuple[int | None, _Macro]] = {
        "fromTime": (None, lambda _: seconds(from_ms)),
        "toTime": (None, lambda _: seconds(to_ms)),
        "fromTime_ms": (None, lambda _: millis(from_ms)),
        "toTime_ms": (None, lambda _: millis(to_ms)),
        "interval_s": (None, lambda _: str(interval_s)),
        "timeFilter": (1, lambda args: between(args[0], seconds)),
        "timeFilter_ms": (1, lambda args: between(args[0], millis)),
        "dateFilter": (1, lambda args: between(args[0], date)),
        "dateTimeFilter": (2, lambda args: f"({between(args[0], date)}) AND ({between(args[1], seconds)})"),
        "timeInterval": (
            1,
            lambda args: f"toStartOfInterval(toDateTime({args[0]}), INTERVAL {interval_s} second)",
        ),
        "timeInterval_ms": (
            1,
            lambda args: f"toStartOfInterval(toDateTime64({args[0]}, 3), INTERVAL {max(interval_ms, 1)} millisecond)",
        ),
    }
    return {name: _counted(name, count, macro) for name, (count, macro) in macros.items()}


def _counted(name: str, count: int | None, macro: _Macro) -> _Macro:
    def checked(args: list[str]) -> str:
        if count is not None and len(args) != count:
            raise MacroError(f"$__{name} takes {count} arguments, got {len(args)}")
        return macro(args)

    return checked


def _with_macros(sql: str, macros: Mapping[str, _Macro]) -> str:
    for name in sorted(macros, key=len, reverse=True):
        pattern = re.compile(rf"\$__{name}\b")
        while found := pattern.search(sql):
            args, end = _arguments(sql, found.end())
            sql = sql[: found.start()] + macros[name](args) + sql[end:]
    return sql


def _arguments(sql: str, at: int, *, strip: bool = True) -> tuple[list[str], int]:
    """What stands in the brackets that open at `at`, split at its commas, and where they end; none where none open."""
    if sql[at : at + 1] != "(":
        return [], at
    depth, start, args = 0, at + 1, []
    for i in range(at, len(sql)):
        if sql[i] == "(":
            depth += 1
        elif sql[i] == ")":
            depth -= 1
        if (sql[i] == "," and depth == 1) or depth == 0:
            args.append(sql[start:i].strip() if strip else sql[start:i])
            start = i + 1
        if depth == 0:
            return args, i + 1
    raise MacroError(f"a bracket is not closed: {sql[at:][:60]}")
