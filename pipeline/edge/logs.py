"""One fact a line: JSON for machines, colours for a person at a terminal. No secret, no record, no local variable.

What is said again and again while an engine is away (aiokafka: three lines every 0.1 s; our own retries) is folded into
one line a minute for each kind of message, which says how many there were.
"""

import logging
import re
import sys
import time
import traceback
from collections.abc import Hashable, MutableMapping
from typing import Any, TextIO

import structlog

from pipeline.config import Settings
from pipeline.core.words import shown

FOLD_S = 60.0
KINDS_MAX = 200  # the kinds heard longest ago are forgotten first
VALUE_LENGTH_MAX = 2000
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_AGAIN = ("_retry", "_unreachable", "_unknown")
# What differs between two messages of one kind.
_VARIABLE = re.compile(r"\d+|'[^']*'|\"[^\"]*\"|<[^>]*>|\([^)]*\)|\{[^}]*\}")


class RepeatCount:
    """What was said of late: each kind once in FOLD_S. Its memory is bounded."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._said: dict[Hashable, tuple[float, int]] = {}  # when last, and how many since

    def take(self, kind: Hashable, at_s: float) -> int | None:
        """How many like it were kept back since the last; None: this one is, too."""
        said_s, more = self._said.pop(kind, (float("-inf"), 0))
        if at_s - said_s < FOLD_S:
            self._said[kind] = said_s, more + 1
            return None
        self._said[kind] = at_s, 0
        while len(self._said) > KINDS_MAX:
            del self._said[next(iter(self._said))]
        return more


class FoldedRepeats(logging.Filter):
    """Of libraries: lets one record of each kind through in FOLD_S."""

    def __init__(self) -> None:
        """Nothing was said yet."""
        super().__init__()
        self._repeats = RepeatCount()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is to be said; if so, with how many were not."""
        kind = record.name, record.levelno, _VARIABLE.sub("#", str(record.msg)[:VALUE_LENGTH_MAX])
        more = self._repeats.take(kind, record.created)
        if more:
            record.msg, record.args = f"{record.getMessage()} (and {more} more like it since the last)", None
        return more is not None


class FoldedRetries:
    """Of our own: the same for what is tried again until it works, by event and topic or table."""

    def __init__(self) -> None:
        """Nothing was said yet."""
        self._repeats = RepeatCount()

    def __call__(self, _: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Drops it, or adds how many were dropped."""
        if not str(line.get("event")).endswith(_AGAIN):
            return line
        more = self._repeats.take((line["event"], line.get("topic"), line.get("table")), time.monotonic())
        if more is None:
            raise structlog.DropEvent
        return {**line, "more_like_it": more} if more else line


def configure(settings: Settings, **bound: object) -> None:
    """Sends our logs, and those of the libraries, to stderr. `bound` goes into every line."""
    human = settings.log_format == "text" or (settings.log_format == "auto" and sys.stderr.isatty())
    level = _LEVELS[settings.log_level]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _bounded,
    ]
    # Plain tracebacks: the boxes of rich show local variables, and so the records of other people.
    last: list[structlog.typing.Processor] = (
        [_one_line, structlog.dev.ConsoleRenderer(exception_formatter=_plain)]
        if human
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[FoldedRetries(), *shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    handler.addFilter(FoldedRepeats())
    root = logging.getLogger()
    root.handlers = [handler]
    for library in ("clickhouse_connect", "aiokafka"):
        logging.getLogger(library).setLevel(logging.NOTSET)  # the command line keeps them quiet; a worker does not
    root.setLevel(max(level, logging.WARNING))  # libraries are quiet unless something is wrong
    structlog.contextvars.bind_contextvars(**bound)


def _bounded(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """No value is longer than a person reads."""
    for name, value in line.items():
        if isinstance(value, str) and len(value) > VALUE_LENGTH_MAX:
            line[name] = f"{value[:VALUE_LENGTH_MAX]} … ({len(value):,} characters)"
    return line


def _plain(out: TextIO, exc_info: Any) -> None:
    """A traceback's own lines, and nothing of what a terminal would obey."""
    lines = "".join(traceback.format_exception(*exc_info)).rstrip().split("\n")
    out.write("\n" + "\n".join(map(shown, lines)))


def _one_line(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """For a terminal: what others wrote moves no cursor. JSON escapes it by itself."""
    return {name: shown(value) if isinstance(value, str) else value for name, value in line.items()}
