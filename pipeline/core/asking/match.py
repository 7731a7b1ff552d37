"""A filter judged on an event by itself, for live tails: the same truth as sql.py has on the row of that event.

A test on the real ClickHouse holds the two together. An event knows no metadata that is added later.
"""

import re
from collections.abc import Callable, Iterable

from pipeline.core.asking.language import METADATA, Filter, Range, Term, Value
from pipeline.core.asking.sql import PPM
from pipeline.core.rows.inferences import text_of
from schemas.event import InferenceEvent, Prediction

Judge = Callable[[InferenceEvent], bool]
_Seen = Callable[[Prediction], bool]
_Text = Callable[[str], bool]

# What ClickHouse's toFloat64OrNull takes; Python's float() takes more.
_FLOAT = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|inf|infinity|nan)", re.ASCII | re.IGNORECASE)

_TEXTS: dict[str, Callable[[InferenceEvent], str]] = {
    "id": lambda event: event.event_id,
    "device": lambda event: event.device_id or "",
    "source": lambda event: event.source or "",
    "deployment": lambda event: event.deployment or "",
    "server": lambda event: event.server_version or "",
}
_PRESENT: dict[str, Judge] = {
    "error": lambda event: bool(event.error),
    "detection": lambda event: bool(event.predictions),
    "latency": lambda event: event.latency_ms is not None,
    "device": lambda event: bool(event.device_id),
    "image": lambda event: event.image is not None and bool(event.image.url),
}


def judge(asked: Filter) -> Judge:
    """Whether an event is what the filter asks for."""
    seen = [term for term in asked.terms if term.field in _OF_DETECTION and term.values and not term.negated]
    parts = [_negatable(term) for term in asked.terms if term not in seen]
    if seen:
        parts.append(_any_detection([_OF_DETECTION[term.field](term) for term in seen]))
    return parts[0] if len(parts) == 1 else _all(parts)


def _all(parts: list[Judge]) -> Judge:
    """A loop: a generator takes twice as long, for each event and each filter."""

    def holds(event: InferenceEvent) -> bool:
        for part in parts:  # noqa: SIM110
            if not part(event):
                return False
        return True

    return holds


def _negatable(term: Term) -> Judge:
    plain = _plain(term)
    return (lambda event: not plain(event)) if term.negated else plain


def _plain(term: Term) -> Judge:
    if term.field == METADATA:
        return _metadata(term)
    if not term.values:
        return _PRESENT[term.field]
    if term.field in _OF_DETECTION:
        return _any_detection([_OF_DETECTION[term.field](term)])
    if term.is_number:
        return _latency(term) if term.field == "latency" else _detections(term)
    fits = any_model(term) if term.field == "model" else any_text(term)
    if term.field == "model":
        return lambda event: fits(event.model_id)
    if term.field == "tag":
        return lambda event: any(fits(tag) for tag in event.tags or ())
    if term.field == "error":
        return lambda event: bool(event.error) and fits(event.error or "")
    text = _TEXTS[term.field]
    return lambda event: fits(text(event))


def _any_detection(conditions: list[_Seen]) -> Judge:
    """What is asked of detections holds for one and the same."""
    first, *others = conditions

    def holds(event: InferenceEvent) -> bool:
        for one in event.predictions:  # noqa: SIM110
            if first(one) and all(other(one) for other in others):
                return True
        return False

    return holds


def _of_class(term: Term) -> _Seen:
    fits = any_text(term)
    return lambda one: fits(one.class_name)


def _of_confidence(term: Term) -> _Seen:
    return lambda one: _within(term, round(one.confidence * PPM) / PPM)


_OF_DETECTION: dict[str, Callable[[Term], _Seen]] = {"class": _of_class, "confidence": _of_confidence}


def _latency(term: Term) -> Judge:
    """As it is kept: in whole microseconds."""
    return lambda event: event.latency_ms is not None and _within(term, round(event.latency_ms * 1000) / 1000)


def _detections(term: Term) -> Judge:
    return lambda event: _within(term, len(event.predictions))


def _metadata(term: Term) -> Judge:
    key = term.key
    if not term.values:
        return lambda event: key in (event.metadata or ())
    fits = (lambda text: _is_number_within(term, text)) if term.is_number else any_text(term)

    def holds(event: InferenceEvent) -> bool:
        own = event.metadata or {}
        return key in own and fits(text_of(own[key]))

    return holds


def _is_number_within(term: Term, text: str) -> bool:
    return bool(_FLOAT.fullmatch(text)) and _within(term, float(text))


def _within(term: Term, number: float) -> bool:
    return any(_lies_in(value, number) for value in term.values if isinstance(value, Range))


def _lies_in(value: Range, number: float) -> bool:
    low, high, low_in, high_in = value
    if low is not None and low == high:
        return number == low
    above = low is None or number > low or (low_in and number == low)
    below = high is None or number < high or (high_in and number == high)
    return above and below


def any_text(term: Term) -> _Text:
    """Whether a text is one of the term's values."""
    values = [value for value in term.values if isinstance(value, Value)]
    exact = frozenset(value.text for value in values if not value.wild)
    return _either(exact, [_wild(value.text) for value in values if value.wild])


def any_model(term: Term) -> _Text:
    """A name without a version is all its versions."""
    values = [value for value in term.values if isinstance(value, Value)]
    names = tuple(f"{value.text}/" for value in values if not value.wild and "/" not in value.text)
    versions: list[_Text] = [lambda text: text.startswith(names)] if names else []
    exact = frozenset(value.text for value in values if not value.wild)
    return _either(exact, versions + [_wild(value.text) for value in values if value.wild])


def _either(exact: frozenset[str], others: Iterable[_Text]) -> _Text:
    some = list(others)
    if not some:
        return exact.__contains__
    return lambda text: text in exact or any(fits(text) for fits in some)


def _wild(pattern: str) -> _Text:
    """Its * stand for any text. By search from left to right: a regular expression may take for ever."""
    first, *middle, last = pattern.split("*")

    def fits(text: str) -> bool:
        if not (text.startswith(first) and text.endswith(last) and len(text) >= len(first) + len(last)):
            return False
        at, end = len(first), len(text) - len(last)
        for part in middle:
            at = text.find(part, at, end)
            if at < 0:
                return False
            at += len(part)
        return True

    return fits
