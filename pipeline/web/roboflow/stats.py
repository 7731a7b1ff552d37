"""GET /{workspace}/inference-stats in Roboflow's words, from what is recorded here. Pure.

A confidence is a mean over detections, a time one over the requests whose time is known, in seconds; null: there was
nothing in that period. `prev_`: the period of the same length before. A request without a detection counts under
predicted_class "", with confidence 0. Requests with an error are num_errors, and in nothing else.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pipeline.core.asking.requests import ClassSums, RequestsAsked, Sums
from pipeline.web.roboflow.blocks import SAMPLED, InvalidRequestError

DAY_MS = 86_400_000
MODELS_MAX = 1000
_NOTHING = Sums(0, 0, 0, 0, 0, 0)

Both = tuple[Sums | None, Sums | None]  # now, before
BothOfClass = tuple[ClassSums | None, ClassSums | None]


def asked_of(query: Mapping[str, str], now_ms: int) -> RequestsAsked:
    """What a request asks for: the last 24 h unless it says otherwise. Raises InvalidRequestError."""
    end_ms = _time_ms(query["endTime"]) if query.get("endTime") else now_ms
    start_ms = _time_ms(query["startTime"]) if query.get("startTime") else end_ms - DAY_MS
    models = [name.strip() for name in query.get("modelNames", "").split(",") if name.strip()]
    if not 0 <= start_ms < end_ms or len(models) > MODELS_MAX:
        raise InvalidRequestError("startTime must lie before endTime")
    return RequestsAsked(max(0, 2 * start_ms - end_ms), start_ms, end_ms, models, SAMPLED)


def _time_ms(text: str) -> int:
    """`YYYY-MM-DD HH:mm:ss` in UTC, or ISO 8601 with a zone of its own."""
    try:
        found = datetime.fromisoformat(text.strip())
        return round((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise InvalidRequestError("a time is YYYY-MM-DD HH:mm:ss") from None


def told(models: Mapping[str, Both], classes: Mapping[tuple[str, str], BothOfClass]) -> dict[str, Any]:
    """The answer."""
    now, before = (_total([both[side] for both in models.values()]) for side in (0, 1))
    rows = [_row(model, name, both, models.get(model, (None, None))) for (model, name), both in classes.items()]
    rows.sort(key=lambda row: (row["model_name"], -(row["num_inferences"] or 0), row["predicted_class"]))
    return {
        "num_inferences": now.requests,
        "prev_num_inferences": before.requests,
        "num_errors": now.errors,
        "prev_num_errors": before.errors,
        "avg_confidence": _confidence(now),
        "prev_avg_confidence": _confidence(before),
        "avg_response_time": _seconds(now),
        "prev_avg_response_time": _seconds(before),
        "inference_stats": rows,
    }


def _row(model: str, name: str, both: BothOfClass, of_model: Both) -> dict[str, Any]:
    now, before = both
    newest = now or before
    assert newest is not None
    return {
        "model_name": model,
        "predicted_class": name,
        "num_inferences": now and now.sums.requests,
        "prev_num_inferences": before and before.sums.requests,
        "num_errors": None,
        "prev_num_errors": None,
        "avg_confidence": now and (_confidence(now.sums) or 0),
        "prev_avg_confidence": before and (_confidence(before.sums) or 0),
        "avg_response_time": now and (_seconds(now.sums) or 0),
        "prev_avg_response_time": before and (_seconds(before.sums) or 0),
        "median_confidence": now and now.confidence_ppm_median / 1_000_000,
        "class_count": now and (now.sums.detections or now.sums.requests),
        "deployment_types": ",".join(newest.deployments),
        "inference_server_versions": ",".join(newest.versions),
        "model_num_inferences": of_model[0] and of_model[0].requests,
        "prev_model_num_inferences": of_model[1] and of_model[1].requests,
    }


def _total(parts: list[Sums | None]) -> Sums:
    known = [part for part in parts if part is not None]
    return Sums(*(sum(getattr(part, name) for part in known) for name in Sums.__slots__)) if known else _NOTHING


def _confidence(sums: Sums) -> float | None:
    return sums.confidence_ppm / sums.detections / 1_000_000 if sums.detections else None


def _seconds(sums: Sums) -> float | None:
    return sums.latency_us / sums.timed / 1_000_000 if sums.timed else None
