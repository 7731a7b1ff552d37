"""Exports read back by other readers than ours: json, csv, yaml, zipfile, and the pipeline's own decoder for NDJSON."""

import csv
import io
import json
import zipfile
from collections.abc import Sequence
from typing import Any

import msgspec
import orjson
import pytest
import yaml

from pipeline.core.asking.export.coco import Coco
from pipeline.core.asking.export.format import Format, ImageFile
from pipeline.core.asking.export.label_studio import LabelStudio
from pipeline.core.asking.export.rows import ClassList, Row, decode
from pipeline.core.asking.export.tables import Csv, Lines
from pipeline.core.asking.export.yolo import Yolo
from pipeline.core.words import cell
from schemas import event
from schemas.event import InferenceEvent, TimeLimits
from tests.names import NAMES

NOW_MS = 1_795_373_683_301
BOX = {"x": [100.0], "y": [90.0], "width": [60.0], "height": [40.0]}
NO_BOX: dict[str, list[Any]] = {"x": [None], "y": [None], "width": [None], "height": [None]}
OUTLINE = '[{"points":[{"x":70,"y":70},{"x":130,"y":70},{"x":130,"y":110}],"class_id":123456789012345678901234567890}]'
POSE = '[{"keypoints":[{"x":80,"y":90,"class":"nose"},{"x":90,"y":95,"class":"eye"}]}]'


def row(**fields: Any) -> Row:
    """An inference with one detection in an image of 200 x 100 pixels, by the reader that reads ClickHouse's lines."""
    plain = {
        "event_id": "e1", "event_time_ms": NOW_MS, "model_id": "helmets/3", "device_id": "cam-7", "latency_us": 43200,
        "classes": ["person"], "confidence_ppm": [910000], **BOX, "extra": "", "error": "", "image_width": 200,
        "image_height": 100, "image_url": "", "metadata": {"site": "s1"}, "tags": ["edge"], "source": "roboflow",
        "deployment": "", "server_version": "",
    }  # fmt: skip
    return decode(orjson.dumps(plain | fields))


NOTHING: dict[str, list[Any]] = {"classes": [], "confidence_ppm": [], "x": [], "y": [], "width": [], "height": []}


def written(writer: Format, *rows: Row, pictures: dict[int, ImageFile] | None = None) -> bytes:
    """In two parts, as it is streamed."""
    middle = writer.rows(rows[:1], pictures or {}) + writer.rows(rows[1:], {})
    return writer.head() + middle + b"".join(writer.end())


def classes(*names: str) -> ClassList:
    return ClassList.of(names, ())


def test_pinned_classes_keep_their_numbers_and_new_ones_follow() -> None:
    numbered = ClassList.of(["helmet", "person"], ["vest", "person", "dog"])
    assert numbered.names == ["helmet", "person", "dog", "vest"]
    assert (numbered.number("vest"), numbered.number("cat"), numbered.number("cat")) == (3, 4, 4)


def test_coco_has_boxes_from_the_corner_and_numbers_that_fit_together() -> None:
    rows = (
        row(),
        row(event_id="e2", image_url="https://example.com/a/2.jpg", extra=OUTLINE),
        row(**NO_BOX),
        row(**NOTHING),
    )
    found = json.loads(written(Coco("acme", classes("dog", "person")), *rows))
    assert [image["id"] for image in found["images"]] == [1, 2, 3, 4]
    first, second = found["annotations"]
    assert (first["bbox"], first["area"], first["score"], first["image_id"]) == ([70, 70, 60, 40], 2400, 0.91, 1)
    assert {c["id"]: c["name"] for c in found["categories"]}[first["category_id"]] == "person"
    assert (second["segmentation"], second["area"]) == ([[70, 70, 130, 70, 130, 110]], 1200)
    assert found["images"][0]["coco_url"] == "/v1/acme/inferences/e1/image"
    assert found["images"][1] | {"file_name": "2.jpg", "coco_url": "https://example.com/a/2.jpg"} == found["images"][1]
    assert found["info"]["detections_without_box"] == 1


def test_coco_names_the_keypoints_of_a_class() -> None:
    found = json.loads(written(Coco("acme", classes()), row(extra=POSE)))
    assert found["annotations"][0]["keypoints"] == [80, 90, 2, 90, 95, 2]
    assert found["categories"] == [
        {"id": 1, "name": "person", "supercategory": "", "keypoints": ["nose", "eye"], "skeleton": []}
    ]


def test_label_studio_has_sides_in_per_cent() -> None:
    rows = row(), row(extra=OUTLINE), row(extra=POSE), row(**NO_BOX), row(image_width=0), row(**NOTHING)
    boxed, outlined, posed, bare, unknown, empty = json.loads(written(LabelStudio("acme"), *rows))
    (result,) = boxed["predictions"][0]["result"]
    assert result["value"] == {
        "x": 35, "y": 70, "width": 30, "height": 40, "rotation": 0, "rectanglelabels": ["person"],
    }  # fmt: skip
    assert (result["original_width"], result["score"], boxed["predictions"][0]["model_version"]) == (
        200,
        0.91,
        "helmets/3",
    )
    points = outlined["predictions"][0]["result"][0]["value"]["points"]
    assert [side for point in points for side in point] == pytest.approx([35, 70, 65, 70, 65, 110])
    assert [one["type"] for one in posed["predictions"][0]["result"]] == ["rectanglelabels"] + ["keypointlabels"] * 2
    assert bare["predictions"][0]["result"][0]["value"] == {"choices": ["person"]}
    assert "how large" in unknown["data"]["left_out"]
    assert unknown["predictions"][0]["result"] == empty["predictions"][0]["result"] == []


def archive(raw: bytes) -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(raw)) as found:
        assert found.testzip() is None
        return {name: found.read(name).decode("utf-8", "replace") for name in found.namelist()}


def test_yolo_has_centres_in_shares_within_the_image() -> None:
    rows = row(), row(event_id="../odd", x=[190.0], width=[40.0]), row(**NOTHING)
    files = archive(written(Yolo("acme", classes("dog")), *rows))
    lines = {name: text for name, text in files.items() if name.startswith("labels/")}
    assert lines == {
        "labels/train/000001-e1.txt": "1 0.500000 0.850000 0.300000 0.300000\n",
        "labels/train/000002.txt": "1 0.925000 0.850000 0.150000 0.300000\n",
        "labels/train/000003-e1.txt": "",
    }
    assert yaml.safe_load(files["data.yaml"])["names"] == {0: "dog", 1: "person"}
    assert [line["image"] for line in csv.DictReader(io.StringIO(files["images.csv"]))][1] == (
        "/v1/acme/inferences/..%2Fodd/image"
    )
    assert "left_out.csv" not in files


def test_yolo_says_what_it_left_out() -> None:
    rows = row(event_id="a", image_width=0), row(event_id="b", **NO_BOX), row(event_id="c", x=[900.0])
    files = archive(written(Yolo("acme", classes()), *rows))
    assert [line["event_id"] for line in csv.DictReader(io.StringIO(files["left_out.csv"]))] == ["a", "b", "c"]


def test_yolo_holds_outlines_and_pictures_where_they_are_asked_for() -> None:
    picture = ImageFile(b"\xff\xd8\xff", "image/jpeg", 100, 50)
    raw = written(Yolo("acme", classes(), polygons=True), row(extra=OUTLINE), pictures={0: picture})
    files = archive(raw)
    assert files["labels/train/000001-e1.txt"] == "0 0.350000 0.700000 0.650000 0.700000 0.650000 1.000000\n"
    assert "images/train/000001-e1.jpg" in files
    assert raw == written(Yolo("acme", classes(), polygons=True), row(extra=OUTLINE), pictures={0: picture})


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_every_name_reads_back_as_it_is(name: str) -> None:
    one = row(classes=[name], event_id=name[:128], device_id=name)
    coco = json.loads(written(Coco("acme", classes()), one))
    assert (coco["categories"][0]["name"], coco["images"][0]["device_id"]) == (name, name)
    assert yaml.safe_load(archive(written(Yolo("acme", classes()), one))["data.yaml"])["names"] == {0: name}
    task = json.loads(written(LabelStudio("acme"), one))[0]
    assert task["predictions"][0]["result"][0]["value"]["rectanglelabels"] == [name]
    (line,) = csv.DictReader(io.StringIO(written(Csv("acme"), one).decode(), newline=""))
    assert line["class"] == cell(name)
    assert not line["class"].startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


def test_csv_has_a_line_for_each_detection_and_one_for_an_inference_without() -> None:
    two = {"classes": ["a", "b"], "confidence_ppm": [1, 1_000_000], **{side: [1.5, None] for side in BOX}}
    found = list(csv.DictReader(io.StringIO(written(Csv("acme"), row(**two), row(**NOTHING, error="=1")).decode())))
    assert [(line["class"], line["confidence"], line["x"], line["error"]) for line in found] == [
        ("a", "1e-06", "1.5", ""),
        ("b", "1.0", "", ""),
        ("", "", "", "'=1"),
    ]
    assert json.loads(found[0]["metadata"]) == {"site": "s1"}


def events(raw: bytes) -> Sequence[Any]:
    return [event.decode(line, NOW_MS, TimeLimits()) for line in raw.splitlines()]


def test_ndjson_is_events_that_may_be_sent_in_again() -> None:
    full, bare = events(
        written(
            Lines("acme"),
            row(extra=OUTLINE, image_url="https://example.com/1.jpg", error="e"),
            row(**NOTHING, latency_us=None, device_id="", metadata={}, tags=[], image_width=0, image_height=0),
        )
    )
    assert isinstance(full, InferenceEvent)
    assert isinstance(bare, InferenceEvent)
    assert (full.latency_ms, full.error, full.tags, full.metadata) == (43.2, "e", ["edge"], {"site": "s1"})
    assert (full.predictions[0].x, full.predictions[0].confidence) == (100.0, 0.91)
    assert isinstance(class_id := full.predictions[0].class_id, msgspec.Raw)
    assert bytes(class_id) == b"123456789012345678901234567890"
    assert (bare.latency_ms, bare.device_id, bare.image, bare.predictions) == (None, None, None, [])


@pytest.mark.parametrize(
    "points", ["null", "7", '"x"', "[1,2,3]", '[{"x":"1","y":2}]', "[[1,2]]", "1e999", "[" * 60 + "]" * 60]
)
def test_points_that_are_none_do_no_harm(points: str) -> None:
    odd = row(extra=f'[{{"points":{points},"keypoints":{points}}}]')
    assert json.loads(written(Coco("acme", classes()), odd))["annotations"][0]["segmentation"] == []
    assert events(written(Lines("acme"), odd))
