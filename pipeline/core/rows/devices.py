"""What comes beside inferences: inference.heartbeats -> device_heartbeats, inference.metadata -> inference_metadata."""

from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline.core.batch import Batch
from pipeline.core.rows.inferences import string_lists, text_of
from pipeline.core.rows.native import Numbers, Strings
from pipeline.core.rows.tables import Recorded, RowsOf
from schemas import heartbeat, metadata


def _decoded(records: Batch, decode: Callable[[bytes | None], Any]) -> tuple[RowsOf, list[Any]]:
    rows, values = RowsOf(records), []
    for position, raw in enumerate(records.values):
        value = rows.accepted(position, decode(raw))
        if value is not None:
            values.append(value)
    return rows, values


def record_heartbeats(records: Batch) -> Recorded:
    """inference.heartbeats -> device_heartbeats."""
    rows, beats = _decoded(records, heartbeat.decode)
    return rows.recorded(
        "device_heartbeats",
        {
            "workspace": Strings([b.workspace for b in beats]),
            "device_id": Strings([b.device_id for b in beats]),
            "sent_at": Numbers("DateTime64(3)", np.array([b.sent_at_ms for b in beats], np.int64)),
            "interval_ms": Numbers("UInt64", np.array([b.interval_ms for b in beats], np.int64)),
            "server_id": Strings([b.server_id or "" for b in beats]),
            "version": Strings([b.version or "" for b in beats]),
            "tags": string_lists([b.tags or () for b in beats]),
            "boot_id": Strings([b.boot_id or "" for b in beats]),
            "status": Strings([b.status or "" for b in beats]),
            "expected_downtime_ms": Numbers("UInt64", np.array([b.expected_downtime_ms or 0 for b in beats], np.int64)),
        },
    )


def record_metadata(records: Batch) -> Recorded:
    """inference.metadata -> inference_metadata."""
    rows, values = _decoded(records, metadata.decode)
    return rows.recorded(
        "inference_metadata",
        {
            "workspace": Strings([v.workspace for v in values]),
            "inference_id": Strings([v.inference_id for v in values]),
            "field": Strings([v.field for v in values]),
            "value": Strings([text_of(v.value) for v in values]),
            "sent_at": Numbers("DateTime64(3)", np.array([v.sent_at_ms for v in values], np.int64)),
        },
    )
