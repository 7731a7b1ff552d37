"""One key's failure is its own: what is judged of a model, a rule or a device may fail, and harms no other.

Whoever judges many keys catches what one of them raises, drops that key's state, which is learned anew, and notes it
here. It is counted, logged and told as an alert of the pipeline. In a strict context (`strictly`: all tests but those
of this) it is raised, so that no mistake of ours hides behind it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_WHY_LENGTH_MAX = 200
_KEPT_MAX = 1000  # of one turn

_strict: ContextVar[bool] = ContextVar("strict", default=False)


class Judged(Enum):
    """What could not be judged. A closed set: it labels metrics."""

    MODEL = "model"  # by automatic detection
    RULE = "rule"  # of one model
    DEVICE = "device"
    DEVICE_BEYOND = "device beyond the limit"  # not watched at all
    NOTICE = "notice"  # what somebody is to be told, or a rule or a silence that it goes by


@dataclass(frozen=True, slots=True)
class NotJudged:
    """A key that could not be judged, and why."""

    what: Judged
    workspace: str
    name: str  # of the model or device; of a rule, "rule of model"
    why: str


class Failures:
    """What failed, until somebody takes it."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._failed: list[NotJudged] = []

    def add(self, what: Judged, workspace: str, name: str, error: Exception | str) -> None:
        """Notes what was raised, or what is wrong."""
        if isinstance(error, Exception) and _strict.get():
            raise error
        why = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        if len(self._failed) < _KEPT_MAX:
            self._failed.append(NotJudged(what, workspace, name, why[:_WHY_LENGTH_MAX]))

    def take(self) -> list[NotJudged]:
        """What was noted since the last time."""
        taken, self._failed = self._failed, []
        return taken


def attempt(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | Exception:
    """What it gives, or what it raises: for `Failures.add`. The one place where any error of a key is caught."""
    try:
        return call(*args, **kwargs)
    except Exception as error:
        return error


@contextmanager
def strictly(on: bool = True) -> Iterator[None]:
    """What one key raises goes through."""
    token = _strict.set(on)
    try:
        yield
    finally:
        _strict.reset(token)
