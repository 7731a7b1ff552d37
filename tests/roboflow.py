"""What real Roboflow servers sent (inference-cpu 1.8.3, captured), and variations of it."""

import uuid
from collections.abc import Sequence
from typing import Any

BOLT = "4e53624f-1fab-41fc-8f06-cf897f227f80"
EMPTY = "852757d5-aaaa-4bbb-8ccc-0123456789ab"
CAPTURED_AT_MS = 1_795_373_684_000
SECRETS = ("test_gateway_key", "req_key_1", "127.0.0.1", "02:fc:00:00:00:01")

_SERVER: dict[str, Any] = {
    "api_key": "test_gateway_key",
    "timestamp": "1795373536",
    "device_id": "line-3-cam-1",
    "inference_server_id": "srv-A",
    "inference_server_version": "1.8.3",
    "tags": ["plant1", "line3"],
    "platform": "Linux",
    "platform_release": "6.18.44-fc-v669",
    "platform_version": "#1 SMP PREEMPT_DYNAMIC @0",
    "architecture": "x86_64",
    "hostname": "vm",
    "ip_address": "127.0.0.1",
    "mac_address": "02:fc:00:00:00:01",
    "processor": "",
}


def result(response: Any, at_s: float = 1795373683.3018286, **more: Any) -> dict[str, Any]:
    """One inference, as the condensed cache (TINY_CACHE=True, the default) has it."""
    request = {
        "api_key": "req_key_1",
        "source": None,
        "source_info": None,
        "model_id": "bolts/7",
        "model_type": None,
        "confidence": 0.4,
    }
    return {
        "request_time": at_s,
        "inference": {
            "inference_id": more.pop("inference_id", None) or str(uuid.uuid4()),
            "inference_server_version": "1.8.3",
            "inference_server_id": "srv-A",
            "request": request | more,
            "response": response,
        },
    }


BOLTS = [
    {"class": "bolt", "confidence": 0.91},
    {"class": "nut", "confidence": 0.73},
    {"class": "bolt", "confidence": 0.55},
]
SEEN = [{"predictions": BOLTS, "time": 0.1076}]
# TINY_CACHE=False; an object of 1.5.0, a list of 1.8.3
FULL: dict[str, Any] = {
    "visualization": None,
    "inference_id": BOLT,
    "frame_id": None,
    "time": 0.1076,
    "resolved_model": None,
    "predictions": [
        {
            "x": 100.0,
            "y": 90.0,
            "width": 60.0,
            "height": 60.0,
            "confidence": 0.91,
            "class": "bolt",
            "class_confidence": None,
            "class_id": 0,
            "tracker_id": None,
            "detection_id": "a7330096-1111-4222-8333-444455556666",
            "parent_id": None,
        }
    ],
}
KEYPOINTS = FULL | {
    "predictions": [
        FULL["predictions"][0]
        | {"keypoints": [{"x": 1.0, "y": 2.0, "confidence": 0.8, "class_id": 0, "class": "nose"}]}
    ]
}
SEGMENTS = FULL | {
    "predictions": [FULL["predictions"][0] | {"points": [{"x": 1.0, "y": 2.0}] * 3, "mask_format": "polygon"}]
}
SINGLE_LABEL = {
    "time": 0.02,
    "predictions": [
        {"class": "ok", "class_id": 0, "confidence": 0.8},
        {"class": "bad", "class_id": 1, "confidence": 0.2},
    ],
    "top": "ok",
    "confidence": 0.8,
}
MULTI_LABEL = {
    "time": 0.02,
    "predictions": {"wet": {"confidence": 0.7, "class_id": 0}, "dirty": {"confidence": 0.6, "class_id": 1}},
    "predicted_classes": ["wet", "dirty"],
}


def pingback(results: Sequence[Any] | None = None, **more: Any) -> dict[str, Any]:
    """One report; without results the captured two."""
    if results is None:
        results = [result(SEEN, inference_id=BOLT), result([], 1795373683.312019, inference_id=EMPTY, confidence=0.99)]
    return {**_SERVER, "inference_results": list(results), **more}


AGGREGATED: dict[str, Any] = {
    "timestamp": "2026-11-22T19:06:43.059593",
    "source": "workflow",
    "source_info": "ModelMonitoringInferenceAggregatorBlockV1",
    "inference_results": [
        {
            "model_id": "bolts/7",
            "class_name": "bolt",
            "confidence": 0.91,
            "inference_id": "9bb27377-1111-4222-8333-444455556666",
            "model_type": "object-detection",
        }
    ],
    "device_id": "line-3-cam-1",
    "inference_server_version": "1.8.3",
    "platform": "Linux",
    "hostname": "vm",
    "ip_address": "127.0.0.1",
    "mac_address": "02:fc:00:00:00:01",
}
ADDED: dict[str, Any] = {"data": [{"inference_ids": [BOLT], "field_name": "line", "field_value": "3"}]}
WEBHOOK: dict[str, Any] = {
    "predictions": {
        "image": {"width": 640, "height": 480},
        "predictions": [
            {
                "width": 60.0,
                "height": 60.0,
                "x": 100.0,
                "y": 90.0,
                "confidence": 0.91,
                "class_id": 0,
                "class": "bolt",
                "detection_id": "67afdd48-1111-4222-8333-444455556666",
                "parent_id": "image",
            }
        ],
    },
    "inference_id": "f4e2c129-1111-4222-8333-444455556666",
    "camera": "cam-7",
}
