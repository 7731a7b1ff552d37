"""inference.vision-events -> vision_events."""

from collections.abc import Sequence

import numpy as np

from pipeline.core.batch import Batch
from pipeline.core.rows.inferences import string_lists
from pipeline.core.rows.native import Lists, Maps, Numbers, Strings
from pipeline.core.rows.tables import Recorded, RowsOf
from schemas import vision_event
from schemas.vision_event import Scalars


def record_vision_events(records: Batch) -> Recorded:
    """inference.vision-events -> vision_events."""
    rows, found = RowsOf(records), []
    for position, raw in enumerate(records.values):
        value = rows.accepted(position, vision_event.decode(raw))
        if value is not None:
            found.append(value)
    confidences = np.array([one for v in found for one in v.confidences], np.float64)
    return rows.recorded(
        "vision_events",
        {
            "workspace": Strings([v.workspace for v in found]),
            "event_id": Strings([v.event_id for v in found]),
            "event_time": Numbers("DateTime64(3)", np.array([v.event_time_ms for v in found], np.int64)),
            "use_case_id": Strings([v.use_case_id for v in found]),
            "event_type": Strings([v.event_type for v in found]),
            "device_id": Strings([v.device_id for v in found]),
            "stream_id": Strings([v.stream_id for v in found]),
            "workflow_id": Strings([v.workflow_id for v in found]),
            "external_id": Strings([v.external_id for v in found]),
            "classes": string_lists([v.classes for v in found]),
            "confidences_ppm": Lists(
                np.array([len(v.confidences) for v in found], np.int64), Numbers("UInt32", np.rint(confidences * 1e6))
            ),
            "event_data": _maps([v.event_data for v in found]),
            "custom_metadata": _maps([v.custom_metadata for v in found]),
            "image_metadata": _maps([v.image_metadata for v in found]),
            "warnings": string_lists([v.warnings for v in found]),
            "deleted": Numbers("UInt8", np.array([v.deleted for v in found], np.int64)),
            "body": Strings([bytes(v.body) for v in found]),
        },
    )


def _maps(rows: Sequence[Scalars]) -> Maps:
    return Maps(
        np.array([len(row) for row in rows], np.int64),
        Strings([name for row in rows for name in row]),
        Strings([text for row in rows for text in row.values()]),
    )
