"""Each metric of a rule, drawn: what comes in every window of 10 s, and what the rule finds after it.

comes   letters that each test explains; . is nothing
finds   x breached, . not, ? no data or too little of it, - the rule says nothing
"""

from typing import Any

import numpy as np
import pytest

from pipeline.core.condition import Condition
from pipeline.core.rules.engine import RuleEngine
from pipeline.core.windows.histogram import latency_buckets
from schemas.rule import Rule
from tests.alerting import START_MS, START_S, rows, rule

Window = tuple[list[dict[str, Any]], list[dict[str, Any]]]  # rows of models, rows of classes
Come = dict[str, Window]  # by letter


def many(**fields: Any) -> dict[str, Any]:
    """100 inferences of helmets/3 on cam-7."""
    return {"inference_count": 100} | fields


def detections(confidence: float, **fields: Any) -> dict[str, Any]:
    """100 detections of the same confidence."""
    ppm = round(confidence * 1e6)
    return {
        "inference_count": 100,
        "detection_count": 100,
        "confidence_ppm_sum": 100 * ppm,
        "confidence_histogram": {ppm // 10_000: 100},
    } | fields


def latencies(ms: int, count: int = 100) -> dict[str, Any]:
    """Inferences that took the same time."""
    bucket = int(latency_buckets(np.array([ms * 1000]))[0])
    return {
        "inference_count": count,
        "latency_count": count,
        "latency_us_sum": count * ms * 1000,
        "latency_histogram": {bucket: count},
    }


def draw(of: Rule, comes: str, what: Come) -> str:
    """What the rule finds after each window."""
    engine, drawn = RuleEngine(), ""
    engine.set(of)
    engine.tick(START_MS)
    for i, letter in enumerate(comes):
        models, classes = what.get(letter, ([], []))
        start = {"window_start_s": START_S + i * 10}
        engine.observe(*rows([row | start for row in models], [row | start for row in classes]))
        drawn += "".join(map(letter_of, engine.tick(START_MS + (i + 1) * 10_000))) or "-"
    return drawn


def letter_of(found: Condition) -> str:
    return "?" if found.breached is None else "x" if found.breached else "."


GOOD: Window = [detections(0.9)], []
BAD: Window = [detections(0.2)], []
FAST: Window = [latencies(10)], []
SLOW: Window = [latencies(100)], []
PERSON, CAR = {"class": "person"}, {"class": "car"}


@pytest.mark.parametrize(
    ("story", "fields", "comes", "finds", "what"),
    [
        (
            "mean confidence falls once half of the minute is bad, and rises again",
            {"metric": "confidence_mean", "operator": "<", "threshold": 0.56},
            "gggggbbbbbbgggg",
            ".......xxxxxxx.",
            {"g": GOOD, "b": BAD},
        ),
        (
            "a 20th of bad detections is enough for the 5th percentile",
            {"metric": "confidence_p5", "operator": "<", "threshold": 0.5},
            "ggggbgggggg",
            "....xxxxxx.",
            {"g": GOOD, "b": BAD},
        ),
        (
            "the median falls when the half of them is bad",
            {"metric": "confidence_p50", "operator": "<", "threshold": 0.5},
            "ggggggbbbb",
            "........xx",
            {"g": GOOD, "b": BAD},
        ),
        (
            "mean latency",
            {"metric": "latency_mean_ms", "operator": ">", "threshold": 50},
            "ffffffssss",
            "........xx",
            {"f": FAST, "s": SLOW},
        ),
        (
            "median latency",
            {"metric": "latency_p50_ms", "operator": ">", "threshold": 50},
            "ffffffssss",
            ".........x",
            {"f": FAST, "s": SLOW},
        ),
        (
            "the 95th percentile of latency",
            {"metric": "latency_p95_ms", "operator": ">", "threshold": 50},
            "fffsffffffff",
            "...xxxxxx...",
            {"f": FAST, "s": SLOW},
        ),
        (
            "the 99th percentile of latency",
            {"metric": "latency_p99_ms", "operator": ">", "threshold": 50},
            "ffftfffffff",
            "...xxxxxx..",
            {"f": FAST, "t": ([latencies(10, 93), latencies(100, 7) | {"device_id": "cam-8"}], [])},
        ),
        (
            "errors",
            {"metric": "error_rate", "operator": ">=", "threshold": 0.1},
            "ggggeggggggg",
            "....xxxxxx..",
            {"g": ([many()], []), "e": ([many(error_count=60)], [])},
        ),
        (
            "inferences without a detection",
            {"metric": "empty_rate", "operator": ">", "threshold": 0.15},
            "geeggggg",
            ".xxxxxx.",
            {"g": ([many()], []), "e": ([many(empty_count=50)], [])},
        ),
        (
            "too few inferences say nothing",
            {"metric": "error_rate", "operator": ">", "threshold": 0.1, "min_count": 3},
            "eeee.....",
            "??xxxxx??",  # while the last three are in the minute
            {"e": ([{"inference_count": 1, "error_count": 1}], [])},
        ),
        (
            "enough of them is seen at once, too few when the whole minute is known",
            {"metric": "inference_count", "operator": "<", "threshold": 150},
            "gg......",
            "?.....xx",
            {"g": ([many()], [])},
        ),
        (
            "above: what is known of the minute may be enough, never too little",
            {"metric": "inference_count", "operator": ">", "threshold": 150},
            "gg........",
            "?xxxxx....",
            {"g": ([many()], [])},
        ),
        (
            "no inferences are few",
            {"metric": "inference_rate", "operator": "<=", "threshold": 0},
            "g........",
            "......xxx",
            {"g": ([many()], [])},
        ),
        (
            "detections of a class",
            {"metric": "class_count", "operator": ">", "threshold": 10, "class": "person"},
            "pccccccc",
            "xxxxxx..",
            {
                "p": ([many()], [PERSON | {"detection_count": 11, "inference_count": 1}]),
                "c": ([many()], [CAR | {"detection_count": 50, "inference_count": 1}]),
            },
        ),
        (
            "a class that is not seen is 0",
            {"metric": "class_count", "operator": "<", "threshold": 1, "class": "person"},
            "cccccccc",
            "?????xxx",
            {"c": ([many()], [CAR | {"detection_count": 50, "inference_count": 1}])},
        ),
        (
            "the share of a class",
            {"metric": "class_share", "operator": ">", "threshold": 0.5, "class": "person", "min_count": 20},
            "cpccccccc.",
            "?xxxxxx...",
            {
                "p": ([detections(0.9)], [PERSON | {"detection_count": 90, "inference_count": 1}]),
                "c": ([detections(0.9, detection_count=15)], [CAR | {"detection_count": 15, "inference_count": 1}]),
            },
        ),
        (
            "the confidence of a class",
            {"metric": "confidence_mean", "operator": "<", "threshold": 0.5, "class": "person"},
            "ccp",
            "--x",
            {
                "c": ([many()], [CAR | detections(0.9)]),
                "p": ([many()], [PERSON | detections(0.2)]),
            },
        ),
        (
            "a device among others",
            {"metric": "error_rate", "operator": ">", "threshold": 0.5, "device_id": "cam-8"},
            "gged",
            "--xx",
            {
                "g": ([many(error_count=100)], []),
                "e": ([many(), many(device_id="cam-8", error_count=100)], []),
                "d": ([many()], []),
            },
        ),
        (
            "silence",
            {"metric": "silence_s", "operator": ">=", "threshold": 40},
            "..g......g.",
            "--....xxx..",
            {"g": ([many()], [])},
        ),
        (
            "a model that a rule names is silent before it was ever heard of",
            {"metric": "silence_s", "operator": ">=", "threshold": 40, "model_id": "helmets/3"},
            "......g.",
            "..xxxx..",
            {"g": ([many()], [])},
        ),
        (
            "so is a device",
            {"metric": "silence_s", "operator": ">", "threshold": 30, "model_id": "helmets/3", "device_id": "cam-8"},
            "ggggg",
            "..xxx",
            {"g": ([many()], [])},
        ),
        (
            "silence of a class",
            {"metric": "silence_s", "operator": ">=", "threshold": 20, "class": "person"},
            "pcccp",
            "..xx.",
            {"c": ([many()], [CAR | {"inference_count": 1}]), "p": ([many()], [PERSON | {"inference_count": 1}])},
        ),
    ],
)
def test_timeline(story: str, fields: dict[str, Any], comes: str, finds: str, what: Come) -> None:
    assert draw(rule(**fields), comes, what) == finds, story


def test_the_mix_of_classes_is_compared_with_the_day_before() -> None:
    def mix(person: int, car: int) -> Any:
        counts = [PERSON | {"detection_count": person}, CAR | {"detection_count": car}]
        return [many()], counts

    what = {"a": mix(50, 50), "b": mix(90, 10)}
    of = rule(metric="class_distance", operator=">", threshold=0.2, min_count=300)
    # The reference needs 300 of them, too: three windows before the minute.
    assert draw(of, "aaaaaaaaaaaabbbbbbaaa", what) == "????????.......xxxx.."
