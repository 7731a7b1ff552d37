"""Rules as people keep them: a YAML file with one rule, a list of them, or a list under `rules`."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from pipeline.edge.notification import addressing
from schemas import rule
from schemas.rule import Rule

FILE_BYTES_MAX = 1 << 20


class RuleFileError(Exception):
    """A file that holds no rules, or wrong ones; the text lists every mistake, one a line."""


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML without objects, without names given twice, and without anchors (a small file may unfold to a huge one)."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "aliases are not understood", self.peek_event().start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for name, _ in node.value:
            if isinstance(name, yaml.ScalarNode) and name.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{name.value} is given twice", name.start_mark)
            seen.add(str(name.value))
        return super().construct_mapping(node, deep)  # type: ignore[no-any-return]


def read(path: Path) -> list[Rule]:
    """The rules of a file. Raises RuleFileError with all mistakes."""
    given = _list_of(path, _parsed(path))
    found: list[str] = []
    rules: dict[str, Rule] = {}
    for number, one in enumerate(given, 1):
        name = one.get("rule_id") if isinstance(one, dict) else None
        where = f"rule {number}" + (f" ({name})" if isinstance(name, str) else "")
        wrong = rule.mistakes(one)
        if not any(mistake.startswith("recipients") for mistake in wrong):
            wrong += addressing.mistakes(one.get("recipients", []) if isinstance(one, dict) else [])
        found += [f"{where}: {mistake}" for mistake in wrong]
        if isinstance(name, str) and name in rules:
            found.append(f"{where}: rule_id: another rule in the file has the same")
        if not wrong:
            rules[one["rule_id"]] = rule.from_fields(one)
    if found:
        raise RuleFileError("\n".join([f"{path}: {len(found)} mistakes" if len(found) > 1 else f"{path}:", *found]))
    return list(rules.values())


def _parsed(path: Path) -> Any:
    try:
        raw = path.read_bytes()
        if len(raw) > FILE_BYTES_MAX:
            raise RuleFileError(f"{path}: longer than {FILE_BYTES_MAX >> 20} MiB")
        return yaml.load(raw, _Loader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise RuleFileError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date like 2026-99-99
        raise RuleFileError(f"{path}: no YAML: {error}") from error


def _list_of(path: Path, parsed: Any) -> list[Any]:
    if isinstance(parsed, dict) and set(parsed) == {"rules"}:
        parsed = parsed["rules"]
    elif isinstance(parsed, dict):
        parsed = [parsed]
    if not isinstance(parsed, list) or not parsed:
        raise RuleFileError(f"{path}: expected a rule, a list of rules, or a list under the name rules")
    return parsed
