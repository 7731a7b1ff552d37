"""A filter as a condition of SQL on the table inferences. What people wrote is bound, never pasted into the text."""

from dataclasses import dataclass, field

from pipeline.core.asking.language import METADATA, Filter, Range, Term, Value

PPM = 1_000_000

_TEXTS = {
    "id": "event_id",
    "device": "device_id",
    "source": "source",
    "deployment": "deployment",
    "server": "server_version",
}
_PRESENT = {
    "error": "error != ''",
    "detection": "notEmpty(`detections.class`)",
    "latency": "latency_us IS NOT NULL",
    "device": "device_id != ''",
    "image": "image_url != ''",
}
# Of the detections of a row: names within the lambda that judges one of them.
_DETECTION = {"class": "c", "confidence": "p"}
_EACH = "arrayExists((c, p) -> {condition}, `detections.class`, `detections.confidence_ppm`)"


@dataclass(slots=True)
class Bound:
    """SQL in the making: the values that its text names, as ClickHouse binds them ({f0:String})."""

    parameters: dict[str, str | float | int] = field(default_factory=dict)

    def text(self, value: str) -> str:
        """A placeholder for a text."""
        return self._bind(value, "String")

    def number(self, value: float) -> str:
        """A placeholder for a number."""
        return self._bind(value, "Float64")

    def integer(self, value: int) -> str:
        """A placeholder for a whole number."""
        return self._bind(value, "Int64")

    def _bind(self, value: str | float, kind: str) -> str:
        name = f"f{len(self.parameters)}"
        self.parameters[name] = value
        return f"{{{name}:{kind}}}"


def where(asked: Filter, bound: Bound, workspace: str) -> str:
    """The condition that a row of inferences meets if the filter holds; `workspace` is a placeholder for its name.

    Metadata is what the event says of itself and what was added later; the later word wins. The workspace itself is
    the caller's to ask for.
    """
    of_detections = [term for term in asked.terms if term.field in _DETECTION and term.values and not term.negated]
    parts = [_condition(term, bound, workspace) for term in asked.terms if term not in of_detections]
    if of_detections:
        inner = " AND ".join(_detection(term, bound) for term in of_detections)
        parts.append(_EACH.format(condition=inner))
        # For the skip index on classes: the lambda hides them from it.
        parts += [_any_class(term, bound) for term in of_detections if term.field == "class" and not _is_wild(term)]
    return " AND ".join(f"({part})" for part in parts) or "1"


def window_where(asked: Filter, bound: Bound) -> str:
    """The same of a table of windows, for a filter that asks about nothing but what windows know."""
    parts = [
        texts(term, "class", bound) if term.field == "class" and term.values else _condition(term, bound, "")
        for term in asked.terms
    ]
    return " AND ".join(f"({part})" for part in parts) or "1"


def chosen(asked: Filter, bound: Bound) -> str:
    """The condition that a detection (class c, confidence_ppm p) meets if the filter asks for such as it; 1: all do."""
    terms = [term for term in asked.terms if term.field in _DETECTION and term.values and not term.negated]
    return " AND ".join(_detection(term, bound) for term in terms) or "1"


def _condition(term: Term, bound: Bound, workspace: str) -> str:
    text = _plain_condition(term, bound, workspace)
    return f"NOT ({text})" if term.negated else text


def _plain_condition(term: Term, bound: Bound, workspace: str) -> str:
    if term.field == METADATA:
        return _metadata(term, bound, workspace)
    if not term.values:
        return _PRESENT[term.field]
    if term.field in _DETECTION:
        return _EACH.format(condition=_detection(term, bound))
    if term.field == "latency":
        return f"ifNull({_numbers(term, 'latency_us / 1000', bound)}, 0)"
    if term.field == "detections":
        return _numbers(term, "length(`detections.class`)", bound)
    if term.field == "tag":
        return f"arrayExists(t -> {texts(term, 't', bound)}, tags)"
    if term.field == "model":
        return " OR ".join(model(value, bound) for value in term.values if isinstance(value, Value))
    if term.field == "error":
        return f"error != '' AND ({texts(term, 'error', bound)})"
    return texts(term, _TEXTS[term.field], bound)


def _detection(term: Term, bound: Bound) -> str:
    name = _DETECTION[term.field]
    return _numbers(term, f"p / {PPM}", bound) if term.is_number else f"({texts(term, name, bound)})"


def _any_class(term: Term, bound: Bound) -> str:
    wanted = ", ".join(bound.text(value.text) for value in term.values if isinstance(value, Value))
    return f"hasAny(`detections.class`, [{wanted}])"


def _is_wild(term: Term) -> bool:
    return any(isinstance(value, Value) and value.wild for value in term.values)


def model(value: Value, bound: Bound) -> str:
    """That the model is this one, in this version if it says one."""
    if value.wild or "/" in value.text:
        return _text(value, "model_id", bound)
    name = bound.text(value.text)
    return f"model_id = {name} OR startsWith(model_id, concat({name}, '/'))"


def _metadata(term: Term, bound: Bound, workspace: str) -> str:
    """By the last word on that field: what was added later, or else what the event says."""
    key = bound.text(term.key)
    added = f"FROM inference_metadata WHERE workspace = {workspace} AND field = {key}"
    if not term.values:
        return f"mapContains(metadata, {key}) OR event_id IN (SELECT inference_id {added})"

    def judge(text: str) -> str:
        if term.is_number:
            return f"ifNull({_numbers(term, f'toFloat64OrNull({text})', bound)}, 0)"
        return texts(term, text, bound)

    last = f"SELECT inference_id, argMax(value, (sent_at, kafka_offset)) AS said {added} GROUP BY inference_id"
    own = f"mapContains(metadata, {key}) AND ({judge(f'metadata[{key}]')})"
    later = f"event_id IN (SELECT inference_id FROM ({last}) WHERE {judge('said')})"
    return f"({own} AND event_id NOT IN (SELECT inference_id {added})) OR {later}"


def texts(term: Term, column: str, bound: Bound) -> str:
    """That a text is one of the term's values."""
    values = [value for value in term.values if isinstance(value, Value)]
    plain = [value for value in values if not value.wild]
    parts = [_text(value, column, bound) for value in values if value.wild]
    if len(plain) == 1:
        parts.append(_text(plain[0], column, bound))
    elif plain:
        parts.append(f"{column} IN ({', '.join(bound.text(value.text) for value in plain)})")
    return " OR ".join(parts)


def _text(value: Value, column: str, bound: Bound) -> str:
    if not value.wild:
        return f"{column} = {bound.text(value.text)}"
    escaped = value.text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_").replace("*", "%")
    return f"{column} LIKE {bound.text(escaped)}"


def _numbers(term: Term, column: str, bound: Bound) -> str:
    ranges = [_range(value, column, bound) for value in term.values if isinstance(value, Range)]
    return ranges[0] if len(ranges) == 1 else "(" + " OR ".join(ranges) + ")"


def _range(value: Range, column: str, bound: Bound) -> str:
    low, high, low_in, high_in = value
    if low is not None and low == high:
        return f"{column} = {bound.number(low)}"
    parts = []
    if low is not None:
        parts.append(f"{column} >{'=' * low_in} {bound.number(low)}")
    if high is not None:
        parts.append(f"{column} <{'=' * high_in} {bound.number(high)}")
    return "(" + " AND ".join(parts) + ")"
