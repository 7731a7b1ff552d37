"""A provisioning file as Grafana reads it (pkg/services/provisioning/values): YAML whose texts are expanded.

`$NAME`, `${NAME}` and `$__env{NAME}` are of the environment, empty where it has none, and `$$` is a dollar. Of an alert
rule, `model` (a query's) and `annotations` are taken as they stand.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

DIRECTORY = Path(__file__).parents[3] / "deploy" / "grafana" / "provisioning"
RAW = {"model", "annotations"}
_BRACES = re.compile(r"\$(?:__env)?\{([^}]+)\}", re.ASCII)
_NAME = re.compile(r"\$([A-Za-z_]\w*|[0-9*#$@!?-])", re.ASCII)


def provisioned(path: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """What Grafana takes from a file. Raises ValueError where it would read another file (`$__file{...}`)."""
    found: dict[str, Any] = _expanded(yaml.safe_load(path.read_text("utf-8")), environment)
    return found


def interpolated(text: str, environment: Mapping[str, str]) -> str:
    """A text with its variables replaced."""

    def named(found: re.Match[str]) -> str:
        return environment.get(found[1], "")

    if re.search(r"\$__file\{|\$__vault\{", text):
        raise ValueError(f"another file or a vault is asked: {text}")
    return "$".join(_NAME.sub(named, _BRACES.sub(named, part)) for part in text.split("$$"))


def _expanded(value: Any, environment: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {
            name: inner if name in RAW else _expanded(inner, environment)  # the names themselves stay as they are
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_expanded(inner, environment) for inner in value]
    return interpolated(value, environment) if isinstance(value, str) else value
