"""The parts of a vision event as they were given: what is odd is left out, with a warning, and the rest taken. Pure."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from pipeline.web.roboflow import shapes
from schemas.vision_event import Scalars

WARNINGS_MAX = 20
KEYS_MAX, KEY_LENGTH_MAX, TEXT_LENGTH_MAX = 100, 100, 1000
LABEL_LENGTH_MAX, EXTERNAL_LENGTH_MAX, LONG_LENGTH_MAX = 256, 1000, 10_000
IMAGES_MAX = 100
DETECTIONS = ("objectDetections", "instanceSegmentations", "keypoints", "classifications")
_KEY = re.compile(r"[A-Za-z0-9_ -]+")
_LONG = ("description", "value", "externalId", "comment")
_CHOICES: Mapping[str, Mapping[str, tuple[str, ...]]] = {  # of the texts in eventData, by type
    "quality_check": {"result": ("pass", "fail")},
    "safety_alert": {"severity": ("low", "medium", "high")},
    "operator_feedback": {"feedback": ("correct", "incorrect", "inconclusive")},
}


@dataclass(slots=True)
class Warnings:
    """What was odd about an event, in sentences; the first ones."""

    texts: list[str] = field(default_factory=list)
    more: int = 0

    def add(self, text: str) -> None:
        """One more."""
        if len(self.texts) < WARNINGS_MAX:
            self.texts.append(text[:300])
        else:
            self.more += 1

    @property
    def told(self) -> list[str]:
        """All that is told."""
        return [*self.texts, f"and {self.more} more"] if self.more else self.texts


def moment_ms(value: Any) -> int | None:
    """An ISO 8601 time in milliseconds, in UTC where it has no zone; None: it is none."""
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value.strip())
        return round((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


def label(given: Mapping[str, Any], name: str, warnings: Warnings) -> str:
    """A short text of an event; "" where there is none."""
    value = given.get(name)
    if value is None:
        return ""
    found = shapes.text(value, LABEL_LENGTH_MAX)
    if found is None or len(str(value)) > LABEL_LENGTH_MAX:
        warnings.add(f"{name}: no text of at most {LABEL_LENGTH_MAX} characters")
    return found or ""


def custom(given: Any, name: str, warnings: Warnings) -> dict[str, str | int | float | bool]:
    """Flat metadata within its limits."""
    if given is None:
        return {}
    if not isinstance(given, dict):
        warnings.add(f"{name}: no object")
        return {}
    kept: dict[str, str | int | float | bool] = {}
    for key, value in given.items():
        if len(kept) == KEYS_MAX:
            warnings.add(f"{name}: more than {KEYS_MAX} keys")
            break
        if not _KEY.fullmatch(key) or len(key) > KEY_LENGTH_MAX:
            warnings.add(f"{name}: {key[:50]!r} is no key of letters, digits, blanks, _ and -")
        elif isinstance(value, str):
            kept[key] = value[:TEXT_LENGTH_MAX]
            if len(value) > TEXT_LENGTH_MAX:
                warnings.add(f"{name}.{key}: longer than {TEXT_LENGTH_MAX} characters")
        elif isinstance(value, bool) or shapes.number(value) is not None:
            kept[key] = value
        else:
            warnings.add(f"{name}.{key}: no text, no number and not yes or no")
    return kept


def event_data(given: Any, event_type: str, warnings: Warnings) -> dict[str, str | int | float | bool]:
    """What an event says of its own kind, as far as it is flat."""
    if not isinstance(given, dict):
        if given is not None:
            warnings.add("eventData: no object")
        return {}
    kept: dict[str, str | int | float | bool] = {}
    for name, value in list(given.items())[:KEYS_MAX]:
        if isinstance(value, str):
            longest = EXTERNAL_LENGTH_MAX if name == "externalId" or name not in _LONG else LONG_LENGTH_MAX
            if len(value) > longest:
                warnings.add(f"eventData.{name}: longer than {longest} characters")
            kept[name[:KEY_LENGTH_MAX]] = value[:longest]
        elif isinstance(value, bool) or shapes.number(value) is not None:
            kept[name[:KEY_LENGTH_MAX]] = value
    for name, choices in _CHOICES.get(event_type, {}).items():
        if kept.get(name) not in choices:
            warnings.add(f"eventData.{name}: none of {', '.join(choices)}")
    return kept


def images(given: Any, warnings: Warnings) -> list[dict[str, Any]]:
    """Its images, those that are some."""
    if given is None:
        return []
    found = [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []
    if not isinstance(given, list) or len(found) < len(given) or len(found) > IMAGES_MAX:
        warnings.add(f"images: no list of at most {IMAGES_MAX} objects")
    return found[:IMAGES_MAX]


def detections(found: list[dict[str, Any]], warnings: Warnings) -> list[dict[str, Any]]:
    """All that was seen in all images, as predictions of ours; what has no class or no confidence is left out."""
    left: Counter[shapes.Left] = Counter()
    seen = [one for image in found for name in DETECTIONS for one in shapes.predictions(image.get(name), left)]
    if count := left[shapes.Left.PREDICTION]:
        warnings.add(f"images: {count} detections without a class, or with a confidence outside 0..1")
    return seen


def scalars(values: Mapping[str, str | int | float | bool]) -> Scalars:
    """As they are found by: JSON text."""
    return {name: orjson.dumps(value).decode() for name, value in values.items()}
