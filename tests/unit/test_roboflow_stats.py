"""Statistics in Roboflow's words: what may be asked for, and what there is where nothing was."""

from datetime import UTC, datetime

import pytest

from pipeline.core.asking import requests
from pipeline.core.asking.requests import Sums
from pipeline.web.roboflow import stats
from pipeline.web.roboflow.blocks import InvalidRequestError

NOON_MS = int(datetime(2026, 11, 28, 12, tzinfo=UTC).timestamp() * 1000)
HOUR_MS = 3_600_000


def test_the_last_day_is_asked_for_and_the_day_before() -> None:
    asked = stats.asked_of({}, NOON_MS)
    assert (asked.before_ms, asked.start_ms, asked.end_ms) == (
        NOON_MS - 48 * HOUR_MS,
        NOON_MS - 24 * HOUR_MS,
        NOON_MS,
    )
    assert asked.models == []


@pytest.mark.parametrize("text", ["2026-11-28 11:00:00", "2026-11-28T11:00:00Z", "2026-11-28T12:00:00+01:00"])
def test_a_time_without_a_zone_is_utc(text: str) -> None:
    asked = stats.asked_of({"startTime": text, "modelNames": "cards, bolts/7,"}, NOON_MS)
    assert (asked.start_ms, asked.end_ms) == (NOON_MS - HOUR_MS, NOON_MS)
    assert asked.models == ["cards", "bolts/7"]


@pytest.mark.parametrize(
    "query",
    [
        {"startTime": "yesterday"},
        {"endTime": "2026-13-01 00:00:00"},
        {"startTime": "2026-11-28 12:00:00", "endTime": "2026-11-28 12:00:00"},
        {"startTime": "0001-01-01 00:00:00"},
        {"modelNames": ",".join(map(str, range(1001)))},
    ],
)
def test_what_makes_no_sense_is_an_invalid_request(query: dict[str, str]) -> None:
    with pytest.raises(InvalidRequestError):
        stats.asked_of(query, NOON_MS)


def test_where_nothing_was_there_is_null_and_no_mean() -> None:
    empty = stats.told({}, {})
    assert empty.pop("inference_stats") == []
    assert empty == {
        "num_inferences": 0,
        "prev_num_inferences": 0,
        "num_errors": 0,
        "prev_num_errors": 0,
        "avg_confidence": None,
        "prev_avg_confidence": None,
        "avg_response_time": None,
        "prev_avg_response_time": None,
    }


def test_a_class_that_was_there_before_only_has_nulls_for_now() -> None:
    seen = ["bolts", "bolt", False, 3, 4, 2_000_000, 500_000.0, 2, 300_000, ["edge"], ["1.8.3"]]
    nothing = ["bolts", "", True, 5, 0, 0, float("nan"), 0, 0, [], []]
    models = requests.read_models([["bolts", False, 3, 0, 4, 2_000_000, 2, 300_000], ["bolts", True, 5, 1, 0, 0, 0, 0]])
    assert models["bolts"] == (Sums(5, 1, 0, 0, 0, 0), Sums(3, 0, 4, 2_000_000, 2, 300_000))
    told = stats.told(models, requests.read_classes([seen, nothing]))
    assert (told["num_inferences"], told["prev_num_inferences"], told["num_errors"]) == (5, 3, 1)
    assert (told["prev_avg_confidence"], told["prev_avg_response_time"]) == (0.5, 0.15)
    empty, bolt = told["inference_stats"]
    assert (empty["predicted_class"], empty["num_inferences"], empty["class_count"]) == ("", 5, 5)
    assert (empty["avg_confidence"], empty["median_confidence"], empty["avg_response_time"]) == (0, 0, 0)
    assert (empty["prev_num_inferences"], empty["prev_avg_confidence"]) == (None, None)
    assert (bolt["num_inferences"], bolt["avg_confidence"], bolt["class_count"]) == (None, None, None)
    assert (bolt["prev_num_inferences"], bolt["prev_avg_confidence"], bolt["deployment_types"]) == (3, 0.5, "edge")
    assert (bolt["model_num_inferences"], bolt["prev_model_num_inferences"]) == (5, 3)
