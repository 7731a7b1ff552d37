"""Metadata that belongs to all inferences of a stretch of code: contextvars, so threads and tasks do not mix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_NOTHING: Mapping[str, Any] = {}
CURRENT: ContextVar[Mapping[str, Any]] = ContextVar("inferwatch_metadata", default=_NOTHING)


@contextmanager
def metadata(**fields: Any) -> Iterator[None]:
    """Adds metadata to every inference that is recorded inside."""
    token = CURRENT.set({**CURRENT.get(), **fields})
    try:
        yield
    finally:
        CURRENT.reset(token)
