"""Numbers, times and other people's names in words for people: what many rooms write."""

from unicodedata import category

_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))


def iso(time_ms: int) -> str:
    """A time for people: 2026-11-24T15:00:10Z, with milliseconds only if there are any."""
    import numpy as np  # dear to import, and the command line borrows from here before it knows what is asked

    seconds, rest = divmod(time_ms, 1000)
    return f"{np.datetime64(time_ms, 'ms') if rest else np.datetime64(seconds, 's')}Z"


# What moves a cursor, ends a line, turns the order of reading, cannot be seen, or is half a character.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINERS = "\u200c\u200d"  # scripts and emoji need them, and they join nothing of ours


def shown(name: str) -> str:
    """A name as text on one line, whatever it holds: what cannot be shown is written out, as \\x1b or \\u202e."""
    if name.isprintable():
        return name
    return "".join(
        char.encode("unicode_escape").decode() if category(char) in _UNSEEN and char not in _JOINERS else char
        for char in name
    )


def duration(seconds: float) -> str:
    """5 min, 90 s, 24 h: the largest unit that needs no fraction."""
    for size, unit in _UNITS:
        if seconds % size == 0 and (seconds >= 2 * size or seconds == size != 86_400):
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:g} s"


_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def cell(text: str) -> str:
    """A text for a spreadsheet's cell: what would be read as a formula has a ' before it."""
    return f"'{text}" if text.startswith(_FORMULA) else text
