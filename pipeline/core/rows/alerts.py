"""inference.alerts -> alerts."""

from collections.abc import Sequence

import msgspec
import numpy as np

from pipeline.core.batch import Batch
from pipeline.core.rows.native import Maps, NullableNumbers, Numbers, Strings
from pipeline.core.rows.tables import Recorded, RowsOf
from schemas import alert
from schemas.rejection import Rejected


def record_alerts(records: Batch) -> Recorded:
    """inference.alerts -> alerts."""
    rows, events = RowsOf(records), []
    for position, raw in enumerate(records.values):
        event = alert.decode(raw)
        if isinstance(event, Rejected):
            rows.refused.append((position, event))
        else:
            rows.positions.append(position)
            events.append(event)
    return rows.recorded(
        "alerts",
        {
            "fingerprint": Strings([e.fingerprint for e in events]),
            "episode": _times([e.episode for e in events]),
            "sequence": Numbers("UInt32", np.array([e.sequence for e in events], np.int64)),
            "state": Strings([e.state.value for e in events]),
            "previous_state": Strings([e.previous_state.value if e.previous_state else "" for e in events]),
            "at": _times([e.at_ms for e in events]),
            "starts_at": _times([e.starts_at_ms for e in events]),
            "kind": Strings([e.kind.value for e in events]),
            "rule_id": Strings([e.rule_id or "" for e in events]),
            "workspace": Strings([e.workspace for e in events]),
            "model_id": Strings([e.model_id or "" for e in events]),
            "device_id": Strings([e.device_id or "" for e in events]),
            "class": Strings([e.class_name or "" for e in events]),
            "metric": Strings([e.metric for e in events]),
            "value": _numbers([e.value for e in events]),
            "expected": _numbers([e.expected for e in events]),
            "threshold": _numbers([e.threshold for e in events]),
            "severity": Strings([e.severity.value for e in events]),
            "labels": Maps(
                np.array([len(e.labels) for e in events], np.int64),
                Strings([name for e in events for name in e.labels]),
                Strings([value for e in events for value in e.labels.values()]),
            ),
            "summary": Strings([e.summary for e in events]),
            "evidence": Strings([msgspec.json.encode(e.evidence) for e in events]),
        },
    )


def _times(times_ms: Sequence[int]) -> Numbers:
    return Numbers("DateTime64(3)", np.array(times_ms, np.int64))


def _numbers(values: Sequence[float | None]) -> NullableNumbers:
    known = np.array([value is not None for value in values], np.bool_)
    return NullableNumbers(Numbers("Float64", np.array([value or 0.0 for value in values], np.float64)), known)
