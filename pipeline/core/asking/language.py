"""The filter language: one line that lists, pages, exports, live tails and links share.

    model:helmets/3 confidence:<0.5 class:person,helmet -device:cam-7 metadata.site:s1 has:error

Terms are joined by "and", the values of one term (separated by commas) by "or"; a minus before a term says "not".
A bare value may hold `*` for any text; in "quotes" every character is itself (\\" and \\\\ for those two). Numbers are
compared by < <= > >= or lie in a range 0.2..0.5, both ends included. `model:helmets` means all its versions.
What is asked of detections (class, confidence) holds for one and the same detection.

Nothing is dropped silently: what cannot be expressed is a mistake, and all mistakes are told together.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from pipeline.core.asking.reader import LineReader, NotUnderstoodError

LENGTH_MAX = 4000  # characters of a filter
TERMS_MAX = 50
VALUES_MAX = 200  # of all terms together
_BARE = re.compile(r'[^\s",]+')
_NAME = re.compile(r"[a-z_]+")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
METADATA = "metadata"  # the field with a key: metadata.site


class ValueKind(Enum):
    """What the values of a field are."""

    TEXT = "text"
    NUMBER = "number"
    EITHER = "text or number"  # a value of metadata: by how it is asked
    PRESENCE = "presence"


FIELDS: Mapping[str, tuple[ValueKind, str]] = {
    "id": (ValueKind.TEXT, "event_id of an inference"),
    "model": (ValueKind.TEXT, "model_id; without a version: all versions"),
    "device": (ValueKind.TEXT, "device_id"),
    "class": (ValueKind.TEXT, "class of a detection"),
    "confidence": (ValueKind.NUMBER, "confidence of a detection, 0 to 1"),
    "latency": (ValueKind.NUMBER, "milliseconds"),
    "detections": (ValueKind.NUMBER, "how many there are"),
    "error": (ValueKind.TEXT, "text of the error; error:* is any"),
    "tag": (ValueKind.TEXT, "one of the tags"),
    "source": (ValueKind.TEXT, "what sent the event"),
    "deployment": (ValueKind.TEXT, "hosted, edge, ..."),
    "server": (ValueKind.TEXT, "server_version"),
    METADATA: (ValueKind.EITHER, "metadata.KEY: a value of the event's metadata, or of what was added later"),
    "has": (ValueKind.PRESENCE, "error, detection, latency, device, image or metadata.KEY"),
}
# Of alerts, which are another table: who keeps which fields is in alerts.py.
LABEL = "label"
Fields = Mapping[str, tuple[ValueKind, str]]
_KEYED = (METADATA, LABEL)
PRESENCES = ("error", "detection", "latency", "device", "image", METADATA)


class Value(NamedTuple):
    """A text; `wild`: its * stand for any text."""

    text: str
    wild: bool = False


class Range(NamedTuple):
    """Numbers from `low` to `high`; None: no bound. An end that is not `_in` does not belong to them itself."""

    low: float | None = None
    high: float | None = None
    low_in: bool = True
    high_in: bool = True


@dataclass(frozen=True, slots=True)
class Term:
    """One condition: any of `values` (texts or bounds). Without values it asks for presence."""

    field: str
    values: tuple[Value, ...] | tuple[Range, ...] = ()
    key: str = ""  # of metadata
    negated: bool = False

    @property
    def is_number(self) -> bool:
        """Whether its values are ranges."""
        return bool(self.values) and isinstance(self.values[0], Range)

    def __str__(self) -> str:
        """As it is written; reads back as the same."""
        minus = "-" if self.negated else ""
        name = f"{self.field}.{_quoted(self.key)}" if self.field in _KEYED else self.field
        if not self.values:
            return f"{minus}has:{name}"
        return f"{minus}{name}:" + ",".join(_written(value) for value in self.values)


@dataclass(frozen=True, slots=True)
class Filter:
    """All of these hold. Empty: everything."""

    terms: tuple[Term, ...] = ()

    def __str__(self) -> str:
        """As it is written; reads back as the same."""
        return " ".join(map(str, self.terms))

    def also(self, term: Term) -> "Filter":
        """With one condition more; one that is there already stays as it is."""
        return self if term in self.terms else Filter((*self.terms, term))

    def without(self, term: Term) -> "Filter":
        """Without this condition."""
        return Filter(tuple(other for other in self.terms if other != term))


@dataclass(frozen=True, slots=True)
class Mistake:
    """What cannot be understood: where it begins (in characters), which text, why and what to do."""

    position: int
    text: str
    why: str


class FilterError(Exception):
    """A filter that says what cannot be expressed."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        """All of them."""
        super().__init__("; ".join(f"at {m.position + 1}, {m.text!r}: {m.why}" for m in mistakes))
        self.mistakes = mistakes


def parse(text: str, fields: Fields = FIELDS) -> Filter:
    """The filter that a line says. Raises FilterError with every mistake in it."""
    if len(text) > LENGTH_MAX:
        raise FilterError([Mistake(LENGTH_MAX, "", f"a filter has {LENGTH_MAX} characters at most")])
    terms: list[Term] = []
    mistakes: list[Mistake] = []
    reader = LineReader(text)
    while reader.skip_blanks():
        start = reader.at
        try:
            terms.append(_term(reader, fields))
        except NotUnderstoodError as error:
            reader.skip_word()
            mistakes.append(Mistake(start, text[start : reader.at], str(error)))
    values = sum(len(term.values) for term in terms)
    if len(terms) > TERMS_MAX or values > VALUES_MAX:
        mistakes.append(Mistake(0, "", f"a filter has {TERMS_MAX} terms and {VALUES_MAX} values at most"))
    if mistakes:
        raise FilterError(mistakes)
    return Filter(tuple(terms))


def _term(reader: LineReader, fields: Fields) -> Term:
    negated = reader.take("-")
    name = reader.match(_NAME)
    if name not in fields:
        known = ", ".join(fields)
        raise NotUnderstoodError(f"write field:value; the fields are {known}")
    key = _key(reader, name) if name in _KEYED else ""
    if not reader.take(":"):
        raise NotUnderstoodError(f"{name} needs a value: {name}:...")
    kind, meaning = fields[name]
    if kind is ValueKind.PRESENCE:
        return _presence(reader, negated)
    values = [_value(reader, name, kind, meaning)]
    while reader.take(","):
        values.append(_value(reader, name, kind, meaning))
    if not reader.ends:
        raise NotUnderstoodError('a blank or a comma is expected after a value; put odd values into "quotes"')
    bounds = tuple(value for value in values if isinstance(value, Range))
    texts = tuple(value for value in values if isinstance(value, Value))
    if bounds and texts:
        raise NotUnderstoodError("either numbers to compare or texts, not both in one term")
    return Term(name, bounds or texts, key, negated)


def _key(reader: LineReader, name: str) -> str:
    if not reader.take("."):
        raise NotUnderstoodError(f"say which: {name}.KEY:value")
    key = reader.quoted() if reader.take('"') else reader.match(re.compile(r'[^\s":,]+'))
    if not key:
        raise NotUnderstoodError(f"say which: {name}.KEY:value")
    return key


def _presence(reader: LineReader, negated: bool) -> Term:
    name = reader.match(_NAME)
    if name not in PRESENCES:
        raise NotUnderstoodError(f"has: knows {', '.join(PRESENCES[:-1])} and metadata.KEY")
    key = _key(reader, name) if name == METADATA else ""
    if not reader.ends:
        raise NotUnderstoodError("has: takes one name; write another term for another")
    return Term(name, (), key, negated)


def _value(reader: LineReader, name: str, kind: ValueKind, meaning: str) -> Value | Range:
    if reader.take('"'):
        text = reader.quoted()
        if kind is ValueKind.NUMBER:
            raise NotUnderstoodError(f"{name} is a number ({meaning})")
        return Value(text)
    text = reader.match(_BARE)
    if not text:
        raise NotUnderstoodError(f'{name} needs a value ({meaning}); "" for the empty text')
    bounds = _bounds(text, compared_only=kind is ValueKind.EITHER) if kind is not ValueKind.TEXT else None
    if bounds is not None:
        return bounds
    if kind is ValueKind.NUMBER:
        raise NotUnderstoodError(f"{name} is a number ({meaning}): write {name}:0.5, <0.5, >=0.5 or 0.2..0.5")
    return Value(text, "*" in text)


def _bounds(text: str, *, compared_only: bool) -> Range | None:
    """The numbers that a text stands for; None if it is no such text. `compared_only`: a plain number is a text."""
    for sign, low_side in ((">=", True), ("<=", False), (">", True), ("<", False)):
        if text.startswith(sign):
            number = _number(text[len(sign) :])
            closed = sign.endswith("=")
            if number is None:
                return None
            return Range(low=number, low_in=closed) if low_side else Range(high=number, high_in=closed)
    low, dots, high = text.partition("..")
    if dots:
        first, last = _number(low), _number(high)
        return None if first is None or last is None else Range(first, last)
    number = None if compared_only else _number(text)
    return None if number is None else Range(number, number)


def _number(text: str) -> float | None:
    if not _NUMBER.fullmatch(text):
        return None
    number = float(text)
    return number if abs(number) < 1e18 else None


def _written(value: Value | Range) -> str:
    if isinstance(value, Value):
        return value.text if value.wild else _quoted(value.text)
    low, high, low_in, high_in = value
    if low is not None and high is not None:
        return _plain(low) if low == high else f"{_plain(low)}..{_plain(high)}"
    if low is not None:
        return f">{'=' * low_in}{_plain(low)}"
    assert high is not None
    return f"<{'=' * high_in}{_plain(high)}"


def _plain(number: float) -> str:
    return repr(number).removesuffix(".0")


def _quoted(text: str) -> str:
    """As it is, where it reads back so; else in quotes."""
    is_plain = re.fullmatch(r"[\w./@+%-]+", text, re.ASCII) and ".." not in text
    return text if is_plain else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
