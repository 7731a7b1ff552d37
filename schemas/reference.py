"""docs/events.md: every public record, its fields, their bounds and meaning, from the JSON Schemas (`make docs`)."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from schemas import topics
from schemas.json_schema import PUBLIC, document
from schemas.rejection import RECORD_BYTES_MAX, Reason
from schemas.tolerance import CONFIDENCE_TOLERANCE

FILE = Path(__file__).parents[1] / "docs" / "events.md"

_HEAD = f"""# Records

Written by `make docs` from the structs in `schemas/`; for machines: `schemas/json/`. Values are JSON, UTF-8, one record
a Kafka message, at most {RECORD_BYTES_MAX >> 20} MiB. Unknown fields are allowed and ignored.

What does not keep to this is refused with a reason ({", ".join(f"`{reason.value}`" for reason in Reason)}),
the field's path and the record's topic, partition and offset, and is kept in the table `dead_letters`:
`inferwatch dead-letters list`.
Where it is clear what is meant, a record is adjusted, and that is counted (`inferwatch_adjusted_total`):
a confidence up to {CONFIDENCE_TOLERANCE} outside 0..1 is clamped, a float that is a whole number is an integer,
null is absent.
An event's `event_time_ms` must lie between 30 days before and 60 seconds after the broker's timestamp
(`INFERWATCH_EVENT_AGE_DAYS_MAX`, `INFERWATCH_EVENT_AHEAD_S_MAX`).

| topic | key | value |
|---|---|---|
| `{topics.EVENTS.name}` | `device_id`; any key is right, this one spreads well | [event](#inferenceevent) |
| `{topics.HEARTBEATS.name}` | `device_id` | [heartbeat](#heartbeat) |
| `{topics.METADATA.name}` | `inference_id` | [metadata](#inferencemetadata) |
| `{topics.RULES.name}` | `rule_id`; an empty value deletes the rule | [rule](#rule) |
| `{topics.ALERTS.name}` | `fingerprint` | [alert](#alertevent): the `data` of a CloudEvents 1.0 envelope |

The other topics are inferwatch's own, and their values may change with any version.
"""


def text() -> str:
    """The whole page."""
    parts = [_HEAD]
    for record, version in PUBLIC.values():
        schema = document(record, version)
        definitions: dict[str, Any] = schema["$defs"]
        structs = [name for name, definition in definitions.items() if "properties" in definition]
        for name in sorted(structs, key=lambda one: one != record.__name__):
            mark = "##" if name == record.__name__ else "###"
            parts.append(
                "\n".join((f"{mark} {name}", "", definitions[name]["description"], "", *_table(name, definitions)))
            )
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _table(name: str, definitions: dict[str, Any]) -> Iterator[str]:
    definition = definitions[name]
    yield "| field | type | default | meaning |"
    yield "|---|---|---|---|"
    required = definition["required"]
    fields = definition["properties"]
    for field in sorted(fields, key=lambda one: one not in required):
        says = fields[field]
        default = (
            "**required**" if field in required else f"`{json.dumps(says['default'])}`" if "default" in says else ""
        )
        yield f"| `{field}` | {_type(says, definitions)} | {default} | {says['description']} |"


def _type(says: dict[str, Any], definitions: dict[str, Any]) -> str:
    """A property's type and bounds, for people."""
    if "anyOf" in says:
        return " or ".join(_type(one, definitions) for one in says["anyOf"])
    if "$ref" in says:
        name = says["$ref"].rsplit("/", 1)[1]
        return _type(definitions[name], definitions) if "enum" in definitions[name] else f"[{name}](#{name.lower()})"
    if "const" in says:
        return f"`{says['const']}`"
    if "enum" in says:
        return ", ".join(f"`{one}`" for one in says["enum"])
    kind = says.get("type", "any JSON")
    if kind == "array":
        return _bounded("list", says, "Items") + f" of {_type(says['items'], definitions)}"
    if kind == "object":
        values = says.get("additionalProperties")
        return _bounded("object", says, "Properties") + (f" of {_type(values, definitions)}" if values else "")
    return _bounded(kind, says, "Length", " characters") if kind == "string" else _bounded(kind, says, "imum")


def _bounded(kind: str, says: dict[str, Any], what: str, unit: str = "") -> str:
    least, most = (f"{says[bound]:,.15g}" if bound in says else "" for bound in (f"min{what}", f"max{what}"))
    if not least and not most:
        return kind
    span = f"{least}..{most}" if least and most else f"at most {most}" if most else f"at least {least}"
    return f"{kind} ({span}{unit})"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
