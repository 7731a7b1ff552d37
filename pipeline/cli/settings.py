"""inferwatch settings: every setting, what it is here, and what it means."""

from typing import Annotated, Any

import orjson
import typer
from pydantic import BaseModel, SecretStr
from rich.console import Console
from rich.table import Table

from pipeline import config

_HIDDEN = "******"


def settings(
    as_json: Annotated[bool, typer.Option("--json", help="as JSON on standard output")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="the reference: names, defaults, meanings")] = False,
) -> None:
    """Show every setting: what it is here, its default, what it means. Secrets are not shown."""
    if markdown:
        typer.echo(reference())
        return
    here = config.load()
    if as_json:
        typer.echo(orjson.dumps({field: _shown(value) for field, value in here}).decode())
        return
    table = Table("setting", "here", "default", "meaning")
    for section in config.SECTIONS:
        for field, info in section.model_fields.items():
            value, default = _shown(getattr(here, field)), _shown(info.default)
            style = "bold" if value != default else ""
            table.add_row(config.PREFIX + field.upper(), value, default, info.description or "", style=style)
        table.add_section()
    Console().print(table)


def reference() -> str:
    """The settings as Markdown, a table for each section."""
    return "\n\n".join(map(_section, config.SECTIONS))


def _section(section: type[BaseModel]) -> str:
    lines = [f"## {(section.__doc__ or '').removesuffix('.')}", "", "| setting | default | meaning |", "|---|---|---|"]
    for field, info in section.model_fields.items():
        default = f"`{info.default}`" if _shown(info.default) and not isinstance(info.default, SecretStr) else ""
        lines.append(f"| `{config.PREFIX}{field.upper()}` | {default} | {info.description} |")
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if isinstance(value, SecretStr):
        return _HIDDEN if value.get_secret_value() else ""
    return "" if value is None else str(value)
