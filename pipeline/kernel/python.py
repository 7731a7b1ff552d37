"""The kernel in Python: the oracle, and what runs where no other is there."""

from collections.abc import Callable, Mapping

from pipeline.core.batch import Batch
from pipeline.core.ledger.names import Position
from pipeline.core.rows.alerts import record_alerts
from pipeline.core.rows.devices import record_heartbeats, record_metadata
from pipeline.core.rows.inferences import record_events
from pipeline.core.rows.tables import Recorded
from pipeline.core.rows.vision_events import record_vision_events
from pipeline.core.rows.windows import record_aggregates
from pipeline.core.windows.contributions import contribute
from schemas import topics
from schemas.event import TimeLimits
from schemas.topics import Topic

fold = contribute

_NO_CHAIN: Mapping[int, Position] = {}

_ROWS: Mapping[Topic, Callable[[Batch, TimeLimits, Mapping[int, Position], int], Recorded]] = {
    topics.EVENTS: lambda batch, limits, *_: record_events(batch, limits),
    topics.HEARTBEATS: lambda batch, *_: record_heartbeats(batch),
    topics.METADATA: lambda batch, *_: record_metadata(batch),
    topics.ALERTS: lambda batch, *_: record_alerts(batch),
    topics.VISION_EVENTS: lambda batch, *_: record_vision_events(batch),
    topics.AGGREGATES: lambda batch, _, chain, epoch: record_aggregates(batch, chain, epoch),
}


def rows(
    topic: Topic, limits: TimeLimits, batch: Batch, chain: Mapping[int, Position] = _NO_CHAIN, epoch: int = 0
) -> Recorded:
    """What a cut of the recorder holds. `chain`, `epoch`: of inference.aggregates, where it goes on."""
    return _ROWS[topic](batch, limits, chain, epoch)
