"""The machine of rules: rows of windows in, conditions out, for all models of one partition of inference.aggregates.

`observe` takes rows as they come: of windows that are not complete yet, and corrections of past ones. `tick` says
through when all windows are complete; each window end up to then is judged by itself, so what is found does not depend
on how the log was cut into records. Only models that a rule is about are kept.

A rule without a model is about each model of its workspace, a rule about "helmets" about each of its versions, one by
one: a new version that does badly must not hide behind an old one that does well and has more traffic.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
import numpy as np

from pipeline.core.alerting import metrics
from pipeline.core.alerting.condition import Condition
from pipeline.core.alerting.rule_book import RuleBook, is_about, names_model
from pipeline.core.alerting.sliding import STEP_S, Sparse, sparse
from pipeline.core.alerting.watched import MIX, MODEL, Key, WatchedModel
from pipeline.core.tally import Ints
from schemas.aggregate import ClassColumns, HistogramColumn, ModelColumns
from schemas.rule import Rule

FORGET_S = 7 * 86_400  # a model that no rule names and that was silent for so long is gone
HOLE_S = 3600  # of a longer stretch of the log without anything, only the end is judged step by step


class RuleEngine:
    """Rules over sliding windows. Time is the log's."""

    def __init__(self, owns: Callable[[str, str], bool] = lambda workspace, model_id: True) -> None:
        """`owns(workspace, model_id)`: whether the model is this partition's: only one may speak of a silent one."""
        self.end_s = 0  # windows that end by then were judged
        self._owns = owns
        self._book = RuleBook()
        self._models: dict[tuple[str, str], WatchedModel] = {}
        self._coming: set[int] = set()  # starts of windows that are not complete

    @property
    def rules(self) -> Iterable[Rule]:
        """Those that were set, disabled ones too."""
        return self._book

    def set(self, rule: Rule) -> bool:
        """Takes a rule in, or a new form of it. True if what it was about before is not judged any more."""
        old = self._book.get(rule.rule_id)
        if old == rule:
            return False
        self._book.put(rule)
        self._bind(old, rule)
        return old is not None and old.enabled and not (rule.enabled and _scope(old) == _scope(rule))

    def delete(self, rule_id: str) -> bool:
        """Forgets a rule. True if it was in force."""
        old = self._book.get(rule_id)
        self._book.remove(rule_id)
        self._bind(old, None)
        return old is not None and old.enabled

    def observe(self, models: ModelColumns, classes: ClassColumns) -> None:
        """Rows of windows, in any order."""
        self._observe_models(models)
        self._observe_classes(classes)

    def tick(self, through_ms: int) -> list[Condition]:
        """All windows that end by then are complete: what the rules find at each window end up to there."""
        through_s = through_ms // 1000 // STEP_S * STEP_S
        if not self.end_s and through_s > 0:
            self.end_s = through_s - STEP_S
            self._coming = {start_s for start_s in self._coming if start_s >= self.end_s}
            for rule in self._book:
                self._meet_named(rule)
        found: list[Condition] = []
        while self.end_s < through_s:
            before_s, self.end_s = self.end_s, self._next_end(through_s)
            for model in self._models.values():
                found += model.judge(self.end_s)
            if self.end_s - before_s == STEP_S:
                self._coming.discard(before_s)
            else:
                self._coming = {start_s for start_s in self._coming if start_s >= self.end_s}
            if before_s // HOLE_S != self.end_s // HOLE_S:
                self._forget()
        return found

    def snapshot(self) -> dict[str, Any]:
        """Everything, as JSON has it."""
        return {
            "end_s": self.end_s,
            "coming": sorted(self._coming),
            "rules": [msgspec.to_builtins(rule) for rule in self._book],
            "models": [model.snapshot() for model in self._models.values()],
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """As it was when the snapshot was taken."""
        self.end_s = snapshot["end_s"]
        self._coming = set(snapshot["coming"])
        self._book = RuleBook()
        for rule in snapshot["rules"]:
            self._book.put(msgspec.convert(rule, Rule))
        self._models = {}
        for one in snapshot["models"]:
            key = one["workspace"], one["model_id"]
            self._models[key] = WatchedModel.restore(one, self._book.about(*key), self.end_s)

    def _next_end(self, through_s: int) -> int:
        """The next window end to judge: in a hole of the log nothing changes but the length of a silence."""
        in_hole = (
            through_s - self.end_s > HOLE_S
            and min(self._coming, default=through_s) >= through_s - HOLE_S
            and all(model.is_drained for model in self._models.values())
        )
        return through_s - HOLE_S if in_hole else self.end_s + STEP_S

    def _bind(self, *changed: Rule | None) -> None:
        """Tells the models that the rules are about."""
        rules = [rule for rule in changed if rule is not None]
        for key, model in list(self._models.items()):
            if any(is_about(rule, *key) for rule in rules):
                model.bind(self._book.about(*key), self.end_s, self.end_s)
                if not model.is_watched:
                    del self._models[key]
        for rule in rules:
            if self._book.get(rule.rule_id) is rule:
                self._meet_named(rule)

    def _meet_named(self, rule: Rule) -> None:
        """A model that a rule names is known, even if nothing was heard of it: its silence means something."""
        if rule.model_id is None or not names_model(rule) or not rule.enabled or not self.end_s:
            return
        key = rule.workspace, rule.model_id
        if key not in self._models and self._owns(*key):
            self._meet(*key, self.end_s)

    def _meet(self, workspace: str, model_id: str, since_s: int) -> WatchedModel | None:
        rules = self._book.about(workspace, model_id)
        if not rules:
            return None
        model = self._models[workspace, model_id] = WatchedModel(workspace, model_id)
        model.bind(rules, self.end_s, since_s)
        return model

    def _hear(self, workspace: str, model_id: str, start_s: int) -> WatchedModel | None:
        """The model that a row is about, if any rule is about it."""
        model = self._models.get((workspace, model_id)) or self._meet(workspace, model_id, start_s)
        if model is not None:
            model.heard_s = start_s if model.heard_s is None else max(model.heard_s, start_s)
            if start_s >= self.end_s:
                self._coming.add(start_s)
        return model

    def _forget(self) -> None:
        for key, model in list(self._models.items()):
            if model.heard_s is not None and self.end_s - model.heard_s > FORGET_S and not model.is_named:
                del self._models[key]

    def _observe_models(self, rows: ModelColumns) -> None:
        counts = np.array(
            [
                rows.inference_count,
                rows.error_count,
                rows.empty_count,
                rows.detection_count,
                rows.latency_count,
                rows.latency_us_sum,
                rows.confidence_ppm_sum,
            ],
            np.int64,
        ).T
        latency, confidence = _Entries(rows.latency_histogram), _Entries(rows.confidence_histogram)
        for i, start_s in enumerate(rows.window_start_s):
            model = self._hear(rows.workspace[i], rows.model_id[i], start_s)
            if model is None:
                continue
            device: Key = ("device", rows.device_id[i])
            for key in (MODEL, device) if rows.device_id[i] else (MODEL,):
                need = model.needs.get(key)
                if need is not None:
                    model.add(key, start_s, _row(counts[i], need.size, i, confidence, latency), self.end_s)

    def _observe_classes(self, rows: ClassColumns) -> None:
        nothing = [0] * len(rows.window_start_s)
        counts = np.array(
            [rows.inference_count, nothing, nothing, rows.detection_count, nothing, nothing, rows.confidence_ppm_sum],
            np.int64,
        ).T
        confidence = _Entries(rows.confidence_histogram)
        for i, start_s in enumerate(rows.window_start_s):
            model = self._hear(rows.workspace[i], rows.model_id[i], start_s)
            if model is None:
                continue
            key: Key = ("class", rows.class_name[i])
            need = model.needs.get(key)
            if need is not None:
                model.add(key, start_s, _row(counts[i], need.size, i, confidence, None), self.end_s)
            if MIX in model.needs:
                number = np.array([model.class_id(rows.class_name[i])])
                model.add(MIX, start_s, sparse(number, counts[i, metrics.DETECTIONS, None]), self.end_s)


class _Entries:
    """The histograms of a column, each at hand by its row."""

    def __init__(self, column: HistogramColumn) -> None:
        self._ends = np.cumsum(np.array(column.sizes, np.int64))
        self._sizes = column.sizes
        self._keys, self._counts = np.array(column.keys, np.int64), np.array(column.counts, np.int64)

    def of(self, row: int) -> tuple[Ints, Ints]:
        """(keys, counts) of a row."""
        end = int(self._ends[row])
        mine = slice(end - self._sizes[row], end)
        return self._keys[mine], self._counts[mine]


def _row(counts: Ints, size: int, row: int, confidence: _Entries, latency: _Entries | None) -> Sparse:
    """A row in the layout of sums, as much of it as is needed."""
    index = np.flatnonzero(counts)
    indexes, values = [index], [counts[index]]
    if size >= metrics.CONFIDENCE_SIZE:
        keys, entries = confidence.of(row)
        indexes.append(metrics.confidence_index(keys))
        values.append(entries)
    if size >= metrics.LATENCY_SIZE and latency is not None:
        keys, entries = latency.of(row)
        indexes.append(metrics.latency_index(keys))
        values.append(entries)
    return sparse(np.concatenate(indexes), np.concatenate(values))


def _scope(rule: Rule) -> tuple[object, ...]:
    """What the subjects of a rule depend on."""
    return rule.workspace, rule.model_id, rule.device_id, rule.class_name, rule.metric
