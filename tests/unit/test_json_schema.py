"""The published JSON Schemas say what the structs say."""

import json
from typing import Any

import msgspec
import pytest

from schemas import json_schema
from schemas.json_schema import FOLDER, PUBLIC, files
from schemas.meanings import MEANINGS

DOCUMENTS = {path.name: json.loads(text) for path, text in files().items()}


def test_the_files_are_those_that_the_command_writes() -> None:
    kept = {path: path.read_text(encoding="utf-8") for path in FOLDER.glob("*")}
    assert kept == files(), "run `make schemas`"


def test_the_command_writes_them(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_schema, "FOLDER", tmp_path / "json")
    json_schema.write()
    assert sorted(path.name for path in (tmp_path / "json").iterdir()) == sorted(DOCUMENTS)


def test_every_public_record_has_a_versioned_file() -> None:
    assert sorted(DOCUMENTS) == [
        "alert.v1.json",
        "event.v1.json",
        "heartbeat.v1.json",
        "metadata.v1.json",
        "rule.v1.json",
    ]
    assert sorted(PUBLIC) == ["alert", "event", "heartbeat", "metadata", "rule"]


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_a_schema_has_title_description_and_version_and_allows_unknown_fields(
    document: dict[str, Any],
) -> None:
    assert document["title"]
    assert document["description"]
    assert document["$schema"].startswith("https://json-schema.org/")
    top = document["$defs"][document["title"]]
    assert top["properties"]["schema"]["const"] == 1
    for definition in document["$defs"].values():
        assert definition["description"]
        assert "additionalProperties" not in definition


def test_names_are_those_of_the_json_and_kept_fields_may_be_anything() -> None:
    prediction = DOCUMENTS["event.v1.json"]["$defs"]["Prediction"]
    assert prediction["required"] == ["class", "confidence"]
    assert "class_name" not in prediction["properties"]
    assert set(prediction["properties"]["points"]) == {"description"}


def test_each_field_has_a_meaning_and_each_meaning_a_field() -> None:
    for struct, meanings in MEANINGS.items():
        assert set(meanings) == {field.encode_name for field in msgspec.structs.fields(struct)}, struct.__name__
