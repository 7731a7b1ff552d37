"""The state of a machine, as another process finds it."""

from typing import Any, TypeVar

from pipeline.core.state import NoSnapshot, decode, encode

T = TypeVar("T")


def reloaded(state: T) -> T:
    """Saved and loaded again: nothing in it is shared with the machine."""
    found = decode(type(state), encode(state))
    assert not isinstance(found, NoSnapshot), found
    return found


def moved(old: Any, new: T) -> T:
    """`new`, as `old` was when it was saved."""
    new.restore(reloaded(old.snapshot()))  # type: ignore[attr-defined]
    return new
