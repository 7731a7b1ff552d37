"""The public records as JSON Schema: `python -m schemas.json_schema` writes schemas/json/NAME.v1.json.

The structs are the source; tests/unit/test_json_schema.py holds the files equal to them.
What a schema cannot say: a record's bytes and nesting, and how far its time may lie from the broker's.
"""

from pathlib import Path
from typing import Any

import msgspec

from schemas import alert, event, heartbeat, metadata, rule
from schemas.meanings import MEANINGS

FOLDER = Path(__file__).parent / "json"

PUBLIC: dict[str, tuple[type[msgspec.Struct], int]] = {
    "event": (event.InferenceEvent, event.SCHEMA_VERSION),
    "heartbeat": (heartbeat.Heartbeat, heartbeat.SCHEMA_VERSION),
    "metadata": (metadata.InferenceMetadata, metadata.SCHEMA_VERSION),
    "rule": (rule.Rule, rule.SCHEMA_VERSION),
    "alert": (alert.AlertEvent, alert.SCHEMA_VERSION),
}


def document(record: type[msgspec.Struct], version: int) -> dict[str, Any]:
    """A struct's JSON Schema; its `schema` field may hold this version only."""
    schema: dict[str, Any] = msgspec.json.schema(record)
    schema["$defs"][record.__name__]["properties"]["schema"] = {"const": version, "default": version}
    for struct, meanings in MEANINGS.items():
        properties = schema["$defs"].get(struct.__name__, {"properties": {}})["properties"]
        for field in properties:
            properties[field] = properties[field] | {"description": meanings[field]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": record.__name__,
        "description": schema["$defs"][record.__name__]["description"],
        **schema,
    }


def files() -> dict[Path, str]:
    """Every file and what belongs in it."""
    return {
        FOLDER / f"{name}.v{version}.json": _pretty(document(record, version))
        for name, (record, version) in PUBLIC.items()
    }


def write() -> None:
    """Writes every file."""
    FOLDER.mkdir(exist_ok=True)
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")


def _pretty(schema: dict[str, Any]) -> str:
    return msgspec.json.format(msgspec.json.encode(schema, order="sorted"), indent=2).decode() + "\n"


if __name__ == "__main__":
    write()
