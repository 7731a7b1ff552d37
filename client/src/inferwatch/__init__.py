"""Report inferences to inferwatch.

    import inferwatch

    monitor = inferwatch.Monitor("http://127.0.0.1:8080", api_key="...", device_id="cam-7")
    monitor.record(model_id="helmets/3", predictions=[{"class": "person", "confidence": 0.91}], latency_ms=43.2)

`record` never blocks and never raises: what cannot be kept is dropped, counted, and the count is sent.
"""

from inferwatch.adapters import from_roboflow, from_supervision, from_ultralytics, on_prediction
from inferwatch.context import metadata
from inferwatch.monitor import Inference, Monitor
from inferwatch.options import Options

__all__ = [
    "Inference",
    "Monitor",
    "Options",
    "from_roboflow",
    "from_supervision",
    "from_ultralytics",
    "metadata",
    "on_prediction",
]
