"""The SQL files as statements: what stands in braces is filled in.

{ttl_windows_days}     a setting's value
{engine:MergeTree}     that engine, or its replicated kin on a cluster
{cluster}              ON CLUSTER ..., on a cluster
{deduplication}        for how long a table knows the names of inserts, among its SETTINGS
{window}               the statement stands for one of each size (schemas/windows.py): the suffix of its tables;
                       {window_s}, {window_partition}, {window_ttl}: what else differs
{model|class}          the statement stands for one with the first words in all braces, one with the second, ...
/* each window: UNION ALL */ ... /* end */   inside one statement, once for each size, joined by these words
"""

import re
from collections.abc import Iterator

from pipeline.config.sections import StoreSettings
from schemas.windows import SIZES, WindowSize

_TOKENS = 100_000  # names of inserts that a table knows: a day of small cuts
_TOKENS_S = 604_800  # a replicated table also forgets by time

_COMMENT = re.compile(r"^\s*--.*$", re.MULTILINE)
_END = re.compile(r";\s*$", re.MULTILINE)
_UNION = re.compile(r"/\* each window: (.*?) \*/(.*?)/\* end \*/", re.DOTALL)
_WORDS = re.compile(r"\{([^{}:]*\|[^{}:]*)\}")
_ENGINE = re.compile(r"\{engine:(\w+)\}")
_NAME = re.compile(r"\{(\w+)\}")


class TemplateError(Exception):
    """A name in braces that stands for nothing."""


def statements(text: str, settings: StoreSettings) -> list[str]:
    """The SQL of a file, in the order to run it. Raises TemplateError."""
    found = [s.strip() for s in _END.split(_COMMENT.sub("", text)) if s.strip()]
    return [_filled(s, settings) for statement in found for s in _each(statement, settings)]


def on_cluster(settings: StoreSettings) -> str:
    """What stands behind a name that is created, altered or dropped; "" on a single server."""
    return f" ON CLUSTER `{settings.clickhouse_cluster}`" if settings.clickhouse_cluster else ""


def _each(statement: str, settings: StoreSettings) -> Iterator[str]:
    """The statements that one stands for."""

    def union(found: re.Match[str]) -> str:
        parts = [_of_size(found[2].strip(), size, settings) for size in SIZES]
        return f"\n    {found[1]}\n    ".join(parts)

    statement = _UNION.sub(union, statement)
    choices = max((len(words.split("|")) for words in _WORDS.findall(statement)), default=1)
    for number in range(choices):
        # What stands between two braces is a text every second time.
        parts = _WORDS.split(statement)
        chosen = "".join(part.split("|")[number] if i % 2 else part for i, part in enumerate(parts))
        for size in SIZES if "{window" in chosen else SIZES[:1]:
            yield _of_size(chosen, size, settings)


def _of_size(text: str, size: WindowSize, settings: StoreSettings) -> str:
    ttl = "" if size.ttl is None else f"TTL window_start + toIntervalDay({getattr(settings, size.ttl)})"
    for name, value in (
        ("window", size.suffix),
        ("window_s", str(size.seconds)),
        ("window_partition", size.partition),
        ("window_ttl", ttl),
    ):
        text = text.replace(f"{{{name}}}", value)
    return text


def _filled(statement: str, settings: StoreSettings) -> str:
    replicated = bool(settings.clickhouse_cluster)
    deduplication = f"non_replicated_deduplication_window = {_TOKENS}"
    if replicated:
        deduplication = (
            f"replicated_deduplication_window = {_TOKENS}, replicated_deduplication_window_seconds = {_TOKENS_S}"
        )
    statement = _ENGINE.sub(r"Replicated\1" if replicated else r"\1", statement)
    statement = statement.replace(" {cluster}", on_cluster(settings)).replace("{deduplication}", deduplication)

    def value(name: re.Match[str]) -> str:
        if name[1] not in StoreSettings.model_fields:
            raise TemplateError(f"{{{name[1]}}} is no setting")
        return str(getattr(settings, name[1]))

    return _NAME.sub(value, statement)
