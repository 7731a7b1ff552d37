"""What KServe's logger sends, as our events: inference protocols v1 (instances, predictions) and v2 (inputs, outputs).

One response is one event. Each instance gives its strongest class: of probabilities the largest; of a bare class, which
says nothing of how sure it is, confidence 1. A number that is no class (regression) goes into the metadata. Pure.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import orjson

REQUEST, RESPONSE = "org.kubeflow.serving.inference.request", "org.kubeflow.serving.inference.response"
PREDICTIONS_MAX = 1000
_CLASS = ("class", "class_name", "label", "name")
_CONFIDENCE = ("confidence", "score", "probability")
_BOX = ("x", "y", "width", "height")
_NAMES, _SCORES = ("labels", "classes", "class", "label"), ("scores", "confidences", "probabilities")

Prediction = dict[str, Any]


class UnreadableError(ValueError):
    """Neither v1 nor v2; the text says what is missing."""


def request_of(raw: bytes) -> Mapping[str, Any]:
    """What is remembered of a request: how many instances it has. One that cannot be read has none."""
    try:
        body = orjson.loads(raw)
    except ValueError:
        return {}
    if not isinstance(body, dict):
        return {}
    instances, inputs = body.get("instances"), body.get("inputs")
    if isinstance(instances, list):
        return {"instances": len(instances)}
    if isinstance(inputs, list) and inputs and isinstance(inputs[0], dict):
        shape = inputs[0].get("shape")
        if isinstance(shape, list) and shape and isinstance(shape[0], int):
            return {"instances": shape[0]}
    return {}


def event_of(raw: bytes, request: Mapping[str, Any] | None) -> dict[str, Any]:
    """The fields of an event that the response knows. Raises UnreadableError."""
    try:
        body = orjson.loads(raw)
    except ValueError as error:
        raise UnreadableError(str(error)) from None
    if not isinstance(body, dict):
        raise UnreadableError("no object")
    out: dict[str, Any] = {"predictions": []}
    if "error" in body:
        out["error"] = str(body["error"])[:10_000]
    elif isinstance(body.get("predictions"), list):
        out["predictions"] = list(chain.from_iterable(map(_of_instance, body["predictions"][:PREDICTIONS_MAX])))
    elif isinstance(body.get("outputs"), list):
        out["predictions"] = _of_outputs(body["outputs"])
    else:
        raise UnreadableError("neither predictions (v1) nor outputs (v2)")
    del out["predictions"][PREDICTIONS_MAX:]
    return out


def _of_instance(found: Any) -> Iterable[Prediction]:
    """What was predicted for one instance, whatever its shape."""
    match found:
        case bool():
            return [_prediction(str(found).lower(), 1.0)]
        case int() | str():
            return [_prediction(str(found), 1.0)]
        case dict():
            return _of_object(found)
        case list() if found and all(isinstance(one, dict) for one in found):
            return chain.from_iterable(map(_of_object, found))
        case list() if found and _are_probabilities(found):
            best = max(range(len(found)), key=found.__getitem__)
            return [_prediction(str(best), float(found[best]))]
        case _:
            return ()


def _of_object(found: Mapping[str, Any]) -> Iterable[Prediction]:
    names, scores = _first(found, _NAMES), _first(found, _SCORES)
    if isinstance(names, list) and isinstance(scores, list):
        return [_prediction(str(n), float(s)) for n, s in zip(names, scores, strict=False) if _is_share(s)]
    name, score = _first(found, _CLASS), _first(found, _CONFIDENCE)
    if isinstance(name, str | int) and (score is None or _is_share(score)):
        box = {side: found[side] for side in _BOX if isinstance(found.get(side), int | float)}
        return [_prediction(str(name), 1.0 if score is None else float(score)) | box]
    return ()


def _of_outputs(outputs: Sequence[Any]) -> list[Prediction]:
    tensors = [one for one in outputs if isinstance(one, dict) and isinstance(one.get("data"), list)]
    by_name = {str(one.get("name", "")).lower(): _flat(one["data"]) for one in tensors}
    names, scores = _first(by_name, _NAMES), _first(by_name, _SCORES)
    if names is not None and scores is not None:
        return list(_of_object({"labels": names, "scores": scores}))
    for one in tensors:
        data, shape = _flat(one["data"]), one.get("shape")
        if str(one.get("datatype", "")).startswith("FP"):
            width = shape[-1] if isinstance(shape, list) and len(shape) > 1 else len(data)
            if not isinstance(width, int) or width < 2 or len(data) % width:
                continue
            rows = [data[at : at + width] for at in range(0, min(len(data), width * PREDICTIONS_MAX), width)]
        else:
            rows = data[:PREDICTIONS_MAX]
        return list(chain.from_iterable(map(_of_instance, rows)))
    return []


def _flat(data: list[Any]) -> list[Any]:
    """v2 allows both, nested and in a row."""
    while data and all(isinstance(one, list) for one in data):
        data = list(chain.from_iterable(data))
    return data


def _prediction(name: str, confidence: float) -> Prediction:
    return {"class": name[:256] or "unknown", "confidence": confidence}


def _first(found: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((found[name] for name in names if name in found), None)


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _are_probabilities(found: list[Any]) -> bool:
    return all(map(_is_share, found)) and abs(sum(found) - 1) < 0.01
