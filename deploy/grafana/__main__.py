"""Writes deploy/grafana/dashboards/*.json and provisioning/alerting/inferwatch.yaml: python -m deploy.grafana"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana.alert_rules import alert_rules
from deploy.grafana.alerts import alerts
from deploy.grafana.classes import classes
from deploy.grafana.devices import devices
from deploy.grafana.fleet import fleet
from deploy.grafana.model import one_model
from deploy.grafana.pipeline import pipeline

HERE = Path(__file__).parent
DASHBOARDS: dict[str, Callable[[], Dashboard]] = {
    "fleet": fleet,
    "model": one_model,
    "classes": classes,
    "devices": devices,
    "alerts": alerts,
    "pipeline": pipeline,
}


def files() -> dict[Path, str]:
    """What each file must hold, by its path below deploy/grafana."""
    written = {Path("dashboards") / f"{name}.json": _json(made()) for name, made in DASHBOARDS.items()}
    return {**written, Path("provisioning/alerting/inferwatch.yaml"): _yaml(alert_rules())}


def _json(dashboard: Dashboard) -> str:
    built = dashboard.build()
    for number, panel in enumerate(built.panels or [], start=1):
        panel.id_val = number
    for variable in built.templating.list_val or []:
        variable.auto = variable.auto_count = variable.auto_min = (
            None  # the SDK writes these into variables of any kind
        )
    return json.dumps(built, cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


class _Blocks(yaml.SafeDumper):  # type: ignore[misc]  # PyYAML has no types
    """Text of several lines as a block."""

    def ignore_aliases(self, data: Any) -> bool:
        """Everything is written out."""
        return True


_Blocks.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def _yaml(rules: dict[str, Any]) -> str:
    written: str = yaml.dump(_escaped(rules), Dumper=_Blocks, sort_keys=False, width=200, allow_unicode=True)
    return "# Written by `make dashboards`.\n" + written


def _escaped(value: Any) -> Any:
    """Grafana takes $NAME for an environment variable and $$ for a dollar, save in what it takes as it stands."""
    if isinstance(value, dict):
        return {name: inner if name in ("model", "annotations") else _escaped(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_escaped(inner) for inner in value]
    return value.replace("$", "$$") if isinstance(value, str) else value


def main() -> int:
    """Writes them all."""
    for path, text in files().items():
        (HERE / path).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
