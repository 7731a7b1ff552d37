"""One fact a line: JSON for machines, colours for a person at a terminal. No secret is ever logged."""

import logging
import sys

import structlog

from pipeline.config import Settings

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(settings: Settings, **bound: object) -> None:
    """Sends our logs, and those of the libraries, to stderr. `bound` goes into every line."""
    human = settings.log_format == "text" or (settings.log_format == "auto" and sys.stderr.isatty())
    level = _LEVELS[settings.log_level]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    render: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if human else structlog.processors.JSONRenderer()
    )
    last: list[structlog.typing.Processor] = [render] if human else [structlog.processors.format_exc_info, render]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    for library in ("clickhouse_connect", "aiokafka"):
        logging.getLogger(library).setLevel(logging.NOTSET)  # the command line keeps them quiet; a worker does not
    root.setLevel(max(level, logging.WARNING))  # libraries are quiet unless something is wrong
    structlog.contextvars.bind_contextvars(**bound)
