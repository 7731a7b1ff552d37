"""A model that some rule is about: its sliding windows (whole, by device, by class), and what the rules say of them."""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import msgspec

from pipeline.core.condition import Condition, Subject
from pipeline.core.isolation import Failures, Judged, attempt
from pipeline.core.rules import meters
from pipeline.core.rules.rule_book import names_model
from pipeline.core.rules.sliding import MINUTE_S, STEP_S, Sliding, SlidingState, Sparse
from pipeline.core.rules.wording import Wording
from pipeline.core.tally import Ints
from schemas.alert import AlertKind
from schemas.rule import Metric, Operator, Rule

CLASSES_MAX = 10_000  # told apart in the mix
REFERENCE_S = 86_400  # class_distance compares with so long before its window

Key = tuple[str, str]  # ("model", ""), ("device", id), ("class", name), ("mix", ""): whose sums
MODEL: Key = ("model", "")
MIX: Key = ("mix", "")  # detections by class

_BEYOND: dict[Operator, Callable[[float, float], bool]] = {
    Operator.BELOW: operator.lt,
    Operator.AT_MOST: operator.le,
    Operator.ABOVE: operator.gt,
    Operator.AT_LEAST: operator.ge,
}
_FALLING = frozenset({Operator.BELOW, Operator.AT_MOST})


@dataclass(frozen=True, slots=True)
class _Watch:
    """A rule about this model, and what follows from it."""

    rule: Rule
    subject: Subject
    key: Key
    wording: Wording
    meter: meters.Meter | None  # None: not about the sums of one window
    is_beyond: Callable[[float, float], bool]


@dataclass(slots=True)
class _Need:
    """What the rules need of some sums."""

    lengths: set[int]
    size: int


class _Finding(NamedTuple):
    """A value and what it rests on."""

    value: float | None
    sample_size: int
    is_partial: bool = False  # a count of a window whose beginning is not known


class WatchedState(msgspec.Struct):
    """What is saved of a WatchedModel."""

    FORM: ClassVar[str] = repr((meters.COUNTS_SIZE, meters.CONFIDENCE_SIZE, meters.LATENCY_SIZE))  # where sums stand

    workspace: str
    model_id: str
    heard_s: int | None
    classes: list[str]  # by number
    series: dict[Key, SlidingState]


class WatchedModel:
    """The machine of one model. `add` takes rows, `judge` says what the rules find once windows are complete."""

    def __init__(self, workspace: str, model_id: str) -> None:
        """Without a rule yet."""
        self.workspace = workspace
        self.model_id = model_id
        self.heard_s: int | None = None  # start of the newest window there was a row of
        self.needs: dict[Key, _Need] = {}
        self.hears_classes = False
        self._series: dict[Key, Sliding] = {}
        self._class_ids: dict[str, int] = {}
        self._watches: list[_Watch] = []
        self._speaks_of_silence = False

    @property
    def is_watched(self) -> bool:
        """Whether any rule is about it."""
        return bool(self._watches)

    @property
    def is_named(self) -> bool:
        """Whether a rule names it: then it is never forgotten."""
        return any(names_model(watch.rule) for watch in self._watches)

    @property
    def is_idle(self) -> bool:
        """Whether nothing that was heard of it is in any window, or will be."""
        return all(series.is_idle for series in self._series.values())

    @property
    def is_drained(self) -> bool:
        """Whether nothing that was heard of it is in any window."""
        return all(series.is_drained for series in self._series.values())

    def bind(self, rules: Sequence[Rule], end_s: int, since_s: int) -> None:
        """From now on these rules are about it. New sums begin at `since_s`."""
        self._watches = [self._watch(rule) for rule in rules]
        self._speaks_of_silence = any(rule.metric in meters.WITHOUT_MIN_COUNT for rule in rules)
        self.needs = _needs(rules)
        self.hears_classes = any(kind in ("class", "mix") for kind, _ in self.needs)
        self._series = {key: series for key, series in self._series.items() if key in self.needs}
        named = {("device", rule.device_id) for rule in rules if names_model(rule)}
        for key in self.needs:
            # A device is one of this model's once it was heard of, or once a rule says so.
            if key not in self._series and (key[0] != "device" or key in named):
                self._series[key] = Sliding(end_s, since_s)
        for key, series in self._series.items():
            series.ask(self.needs[key].lengths, self.needs[key].size)
        if MIX not in self.needs:
            self._class_ids = {}

    def add(self, key: Key, start_s: int, sums: Sparse, end_s: int) -> None:
        """Sums of one window of something that is needed; windows are complete that end by `end_s`."""
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = Sliding(end_s, start_s)
            series.ask(self.needs[key].lengths, self.needs[key].size)
        series.add(start_s, sums)

    def class_id(self, name: str) -> int:
        """The number of a class in the mix. A model that invents classes gets one number for those beyond the limit."""
        number = self._class_ids.get(name)
        if number is None:
            number = len(self._class_ids)
            if number < CLASSES_MAX:
                self._class_ids[name] = number
        return number

    def judge(self, end_s: int, listens: Callable[[Subject], bool], failures: Failures) -> list[Condition]:
        """What each rule finds, once all windows that end by then are complete: breaches, and what somebody hears."""
        found: list[Condition] = []
        if not self._speaks_of_silence and self.is_idle:
            return found
        for series in self._series.values():
            series.advance(end_s)
        for watch in self._watches:
            said = attempt(self._say, watch, end_s, listens)
            if isinstance(said, Exception):
                failures.add(Judged.RULE, self.workspace, f"{watch.rule.rule_id} of {self.model_id}", said)
            elif said is not None:
                found.append(said)
        return found

    def _say(self, watch: _Watch, end_s: int, listens: Callable[[Subject], bool]) -> Condition | None:
        found = self._find(watch, end_s)
        if found is None:
            return None
        breached = _breached(watch, found)
        if not (breached or listens(watch.subject)):
            return None
        changes = self._changes(watch.rule) if watch.key == MIX and found.value is not None else []
        return _condition(watch, found, breached, changes, end_s)

    def _find(self, watch: _Watch, end_s: int) -> _Finding | None:
        rule, series = watch.rule, self._series.get(watch.key)
        if series is None:  # a device that this model has not been heard of with
            return None
        if watch.meter is None:
            if watch.key == MIX:
                return _Finding(*meters.class_distance(*self._mixes(rule), rule.min_count))
            quiet_from_s = series.since_s if series.last_s is None else series.last_s + STEP_S
            return _Finding(float(max(0, end_s - quiet_from_s)), 0)
        whole = sums = series.total(rule.window_s)
        if rule.metric is Metric.CLASS_SHARE:
            all_classes = self._series[MODEL]
            whole = all_classes.total(rule.window_s)
            # A part of the one against all of the other would be no share.
            if series.known_from_s(rule.window_s) != all_classes.known_from_s(rule.window_s):
                return _Finding(None, watch.meter.sample_size(sums, whole))
        value, count = watch.meter.measure(sums, whole, rule.window_s, rule.min_count)
        # Of a part of a window there are fewer than of all of it, never more; samples are as good.
        return _Finding(value, count, not (watch.meter.asks_min_count or series.covers(rule.window_s)))

    def _mixes(self, rule: Rule) -> tuple[Ints, Ints]:
        """Detections by class, in the window and before it."""
        mix = self._series[MIX].total(rule.window_s)
        reference = self._series[MIX].total(_reference_length(rule.window_s)).copy()
        reference[: len(mix)] -= mix
        return mix, reference

    def _changes(self, rule: Rule) -> list[dict[str, Any]]:
        """What makes the distance of two mixes."""
        names = [*self._class_ids, "(others)"]
        return [
            {"class": names[i], "share": share, "expected": expected}
            for i, share, expected in meters.largest_changes(*self._mixes(rule))
        ]

    def _watch(self, rule: Rule) -> _Watch:
        subject = Subject(
            AlertKind.RULE,
            self.workspace,
            rule.metric.value,
            rule_id=rule.rule_id,
            model_id=self.model_id,
            device_id=rule.device_id,
            class_name=rule.class_name,
        )
        meter = meters.METERS.get(rule.metric)
        return _Watch(rule, subject, _key(rule), Wording.of(rule, subject), meter, _BEYOND[rule.operator])

    def snapshot(self) -> WatchedState:
        """All but the rules."""
        series = {key: one.snapshot() for key, one in self._series.items()}
        return WatchedState(self.workspace, self.model_id, self.heard_s, list(self._class_ids), series)

    @classmethod
    def restore(cls, state: WatchedState, rules: Sequence[Rule], end_s: int) -> "WatchedModel":
        """As it was, with these rules."""
        model = cls(state.workspace, state.model_id)
        model.heard_s = state.heard_s
        model._class_ids = {name: i for i, name in enumerate(state.classes)}
        model._series = {key: Sliding.restore(series) for key, series in state.series.items()}
        model.bind(rules, end_s, end_s)
        return model


def _key(rule: Rule) -> Key:
    if rule.metric is Metric.CLASS_DISTANCE:
        return MIX
    if rule.class_name is not None:
        return "class", rule.class_name
    return MODEL if rule.device_id is None else ("device", rule.device_id)


def _needs(rules: Sequence[Rule]) -> dict[Key, _Need]:
    needs: dict[Key, _Need] = {}
    for rule in rules:
        need = needs.setdefault(_key(rule), _Need(set(), 0))
        need.size = max(need.size, meters.SIZES[rule.metric])
        if rule.metric is not Metric.SILENCE_S:
            need.lengths.add(rule.window_s)
        if rule.metric is Metric.CLASS_DISTANCE:
            need.lengths.add(_reference_length(rule.window_s))
        if rule.metric is Metric.CLASS_SHARE:
            whole = needs.setdefault(MODEL, _Need(set(), meters.COUNTS_SIZE))
            whole.lengths.add(rule.window_s)
    return needs


def _reference_length(window_s: int) -> int:
    """Of the window and its reference together, in whole minutes."""
    return -(-(window_s + REFERENCE_S) // MINUTE_S) * MINUTE_S


def _breached(watch: _Watch, found: _Finding) -> bool | None:
    if found.value is None:
        return None
    breached = watch.is_beyond(found.value, watch.rule.threshold)
    if found.is_partial and breached == (watch.rule.operator in _FALLING):
        return None  # what is known of the window is too little to say: the rest may hold as many
    return breached


def _condition(
    watch: _Watch, found: _Finding, breached: bool | None, changes: Sequence[Mapping[str, Any]], end_s: int
) -> Condition:
    rule = watch.rule
    evidence: dict[str, Any] = {
        "rule": rule.name,
        "window_s": rule.window_s,
        "operator": rule.operator.value,
        "count": found.sample_size,
        "min_count": rule.min_count,
    }
    if changes:
        evidence["classes"] = changes
    return Condition(
        subject=watch.subject,
        at_ms=end_s * 1000,
        breached=breached,
        value=found.value,
        threshold=rule.threshold,
        severity=rule.severity,
        hold_ms=rule.hold_s * 1000,
        keep_firing_ms=rule.keep_firing_s * 1000,
        summary=watch.wording.summary(found.value, breached, found.sample_size),
        labels=rule.labels,
        evidence=evidence,
    )
