"""The machine of rules: rows of windows in, conditions out, for all models of one partition of inference.aggregates.

`observe` takes rows as they come: of windows that are not complete yet, and corrections of past ones. `tick` says
through when all windows are complete; each window end up to then is judged by itself, so what is found does not depend
on how the log was cut into records. Only models that a rule is about are kept.

A rule without a model is about each model of its workspace, a rule about "helmets" about each of its versions, one by
one: a new version that does badly must not hide behind an old one that does well and has more traffic.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec
import numpy as np

from pipeline.core.condition import Condition, Subject
from pipeline.core.isolation import Failures, Judged, attempt
from pipeline.core.rules.layout import Layout
from pipeline.core.rules.rule_book import RuleBook, is_about, names_model
from pipeline.core.rules.sliding import STEP_S, Sparse, sparse
from pipeline.core.rules.watched import MIX, MODEL, Key, WatchedModel, WatchedState
from schemas.aggregate import Rows
from schemas.rule import Rule

FORGET_S = 7 * 86_400  # a model that no rule names and that was silent for so long is gone
HOLE_S = 3600  # of a longer stretch of the log without anything, only the end is judged step by step


class RulesState(msgspec.Struct):
    """What is saved of a RuleEngine."""

    end_s: int
    coming: list[int]  # ascending
    rules: list[Rule]
    models: list[WatchedState]


class RuleEngine:
    """Rules over sliding windows. Time is the log's."""

    def __init__(
        self,
        owns: Callable[[str, str], bool] = lambda workspace, model_id: True,
        failures: Failures | None = None,
    ) -> None:
        """`owns(workspace, model_id)`: whether the model is this partition's: only one may speak of a silent one.

        What cannot be judged is noted in `failures`.
        """
        self._failures = failures or Failures()
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

    def observe(self, models: Rows, classes: Rows) -> None:
        """Rows of windows, in any order."""
        self._observe_models(models)
        self._observe_classes(classes)

    def tick(self, through_ms: int, listens: Callable[[Subject], bool] = lambda subject: True) -> list[Condition]:
        """All windows that end by then are complete: what the rules find at each window end up to there.

        Whether anybody `listens` to a subject that nothing is wrong with; most of the time nobody does.
        """
        through_s = through_ms // 1000 // STEP_S * STEP_S
        if not self.end_s and through_s > 0:
            self.end_s = through_s - STEP_S
            self._coming = {start_s for start_s in self._coming if start_s >= self.end_s}
            for rule in self._book:
                self._meet_named(rule)
        found: list[Condition] = []
        begun: set[Subject] = set()  # by what was found in windows before

        def matters(subject: Subject) -> bool:
            return listens(subject) or (bool(begun) and subject in begun)

        while self.end_s < through_s:
            before_s, self.end_s = self.end_s, self._next_end(through_s)
            for model in list(self._models.values()):
                said = attempt(model.judge, self.end_s, matters, self._failures)
                if isinstance(said, Exception):
                    self._begin_anew(model, said)
                else:
                    found += said
            if self.end_s - before_s == STEP_S:
                self._coming.discard(before_s)
            else:
                self._coming = {start_s for start_s in self._coming if start_s >= self.end_s}
            if self.end_s < through_s:
                begun.update(condition.subject for condition in found)
            if before_s // HOLE_S != self.end_s // HOLE_S:
                self._forget()
        return found

    def snapshot(self) -> RulesState:
        """Everything."""
        models = [model.snapshot() for model in self._models.values()]
        return RulesState(self.end_s, sorted(self._coming), list(self._book), models)

    def restore(self, state: RulesState) -> None:
        """As it was when it was saved."""
        self.end_s, self._coming, self._book = state.end_s, set(state.coming), RuleBook()
        for rule in state.rules:
            self._book.put(rule)
        self._models = {}
        for one in state.models:
            key = one.workspace, one.model_id
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

    def _begin_anew(self, model: WatchedModel, error: Exception) -> None:
        """Its sums may be wrong: they are made anew, from now on."""
        self._failures.add(Judged.RULE, model.workspace, f"all rules of {model.model_id}", error)
        self._models.pop((model.workspace, model.model_id), None)
        self._meet(model.workspace, model.model_id, self.end_s)

    def _hear(self, rows: Rows) -> list[WatchedModel]:
        """The models that rows are about and any rule, too."""
        heard = {}
        for start_s, workspace, model_id in dict.fromkeys(_places(rows)):
            model = self._models.get((workspace, model_id)) or self._meet(workspace, model_id, start_s)
            if model is None:
                continue
            heard[workspace, model_id] = model
            model.heard_s = start_s if model.heard_s is None else max(model.heard_s, start_s)
            if start_s >= self.end_s:
                self._coming.add(start_s)
        return list(heard.values())

    def _forget(self) -> None:
        for key, model in list(self._models.items()):
            if model.heard_s is not None and self.end_s - model.heard_s > FORGET_S and not model.is_named:
                del self._models[key]

    def _observe_models(self, rows: Rows) -> None:
        if not self._hear(rows):
            return
        added: list[_Added] = []
        devices = rows.texts["device_id"]
        for i, (start_s, *model_key) in enumerate(_places(rows)):
            model = self._models.get((model_key[0], model_key[1]))
            if model is None:
                continue
            device: Key = ("device", devices[i])
            for key in (MODEL, device) if devices[i] else (MODEL,):
                need = model.needs.get(key)
                if need is not None:
                    added.append((model, key, start_s, i, need.size))
        self._add(added, rows)

    def _observe_classes(self, rows: Rows) -> None:
        if not any(model.hears_classes for model in self._hear(rows)):
            return
        added: list[_Added] = []
        mixes: dict[tuple[str, str, int], Counter[int]] = {}
        names, counts = rows.texts["class"], rows.numbers["detection_count"].tolist()
        for i, (start_s, *model_key) in enumerate(_places(rows)):
            model = self._models.get((model_key[0], model_key[1]))
            if model is None:
                continue
            key: Key = ("class", names[i])
            need = model.needs.get(key)
            if need is not None:
                added.append((model, key, start_s, i, need.size))
            if MIX in model.needs:
                mix = mixes.setdefault((model.workspace, model.model_id, start_s), Counter())
                mix[model.class_id(names[i])] += counts[i]
        self._add(added, rows)
        for (workspace, model_id, start_s), mix in mixes.items():
            index, count = np.array(sorted(mix.items()), np.int64).T
            self._take(self._models[workspace, model_id], MIX, start_s, sparse(index, count))

    def _add(self, added: Sequence["_Added"], of: Rows) -> None:
        if not added:
            return
        rows, places = np.unique([row for _, _, _, row, _ in added], return_inverse=True)
        layout = Layout.of(of, rows, max(size for *_, size in added))
        for (model, key, start_s, _, size), place in zip(added, places.tolist(), strict=True):
            self._take(model, key, start_s, layout.cut(place, size))

    def _take(self, model: WatchedModel, key: Key, start_s: int, sums: Sparse) -> None:
        if self._models.get((model.workspace, model.model_id)) is not model:
            return  # it began anew
        error = attempt(model.add, key, start_s, sums, self.end_s)
        if error is not None:
            self._begin_anew(model, error)


_Added = tuple[WatchedModel, Key, int, int, int]  # (whose, what of it, window, row, how much of the layout)


def _places(rows: Rows) -> Iterator[tuple[int, str, str]]:
    """(window, workspace, model) of each row."""
    return zip(rows.window_start_s.tolist(), rows.texts["workspace"], rows.texts["model_id"], strict=True)


def _scope(rule: Rule) -> tuple[object, ...]:
    """What the subjects of a rule depend on."""
    return rule.workspace, rule.model_id, rule.device_id, rule.class_name, rule.metric
