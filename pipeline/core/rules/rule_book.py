"""The rules in force, found by the models they are about."""

from collections.abc import Iterator

from schemas.rule import Rule


def names_model(rule: Rule) -> bool:
    """Whether the rule names one model, version and all: it is then known, even if it was never heard of."""
    return rule.model_id is not None and "/" in rule.model_id


def is_about(rule: Rule, workspace: str, model_id: str) -> bool:
    """Whether the rule is about the model. "helmets" is about helmets, helmets/3 and helmets/4."""
    if rule.workspace != workspace:
        return False
    return rule.model_id is None or (model_id + "/").startswith(rule.model_id + "/")


class RuleBook:
    """Rules by id, and those that are enabled by workspace and model. A look-up does not depend on their number."""

    def __init__(self) -> None:
        """No rules."""
        self._rules: dict[str, Rule] = {}
        self._enabled: dict[str, dict[str | None, dict[str, Rule]]] = {}

    def __iter__(self) -> Iterator[Rule]:
        return iter(self._rules.values())

    def get(self, rule_id: str) -> Rule | None:
        """The rule of that id."""
        return self._rules.get(rule_id)

    def put(self, rule: Rule) -> None:
        """Takes a rule in, in place of the one with its id."""
        self.remove(rule.rule_id)
        self._rules[rule.rule_id] = rule
        if rule.enabled:
            by_model = self._enabled.setdefault(rule.workspace, {})
            by_model.setdefault(rule.model_id, {})[rule.rule_id] = rule

    def remove(self, rule_id: str) -> None:
        """Forgets a rule, if there is one of that id."""
        rule = self._rules.pop(rule_id, None)
        if rule is None or not rule.enabled:
            return
        by_model = self._enabled[rule.workspace]
        del by_model[rule.model_id][rule_id]
        if not by_model[rule.model_id]:
            del by_model[rule.model_id]
        if not by_model:
            del self._enabled[rule.workspace]

    def about(self, workspace: str, model_id: str) -> list[Rule]:
        """The enabled rules about a model, by id."""
        by_model = self._enabled.get(workspace)
        if by_model is None:
            return []
        found = [*by_model.get(None, {}).values(), *by_model.get(model_id, {}).values()]
        family = model_id
        while "/" in family:
            family = family.rpartition("/")[0]
            found += by_model.get(family, {}).values()
        return sorted(found, key=lambda rule: rule.rule_id)
