"""The board of one process: what it follows for all who look, and the one producer by which they change it."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from pipeline.config import Settings
from pipeline.core.notifying.muting import Silences
from pipeline.edge.kafka.client import Kafka
from pipeline.edge.kafka.producer import Producer, within
from pipeline.edge.kafka.shared import SharedTopic
from pipeline.edge.operator.followed_alerts import FollowedAlerts
from pipeline.web.board.records import Records
from schemas import rule, silence, view
from schemas.alert import AlertEvent
from schemas.rule import Rule
from schemas.silence import Acknowledgement, Silence
from schemas.topics import ALERTS, RULES, SILENCES, VIEWS
from schemas.view import View

CHANGE_S = 10.0  # within which Kafka must take a change
CHANGES_BYTES_MAX = 8 << 20  # on their way


class Board:
    """Everything of it; each has an event `ready`, set once it has been read."""

    def __init__(self, settings: Settings, kafka: Kafka) -> None:
        """Nothing is read before `work` runs."""
        self._producer = Producer(kafka, within(CHANGE_S, CHANGES_BYTES_MAX))

        def shared(name: str) -> SharedTopic:
            return SharedTopic(kafka, settings.topic(name), self._producer)

        self.rules: Records[Rule] = Records(shared(RULES.name), rule.decode)
        self.silences: Records[Silence | Acknowledgement] = Records(shared(SILENCES.name), silence.decode)
        self.views: Records[View] = Records(shared(VIEWS.name), view.decode)
        self.alerts = FollowedAlerts(kafka, settings.topic(ALERTS.name))
        self._muting, self._muting_version = Silences(), -1

    @property
    def work(self) -> Sequence[Callable[[], Coroutine[Any, Any, None]]]:
        """What must run beside the server."""
        topics = (self.rules.topic, self.silences.topic, self.views.topic)
        return (*(topic.followed.follow_forever for topic in topics), self.alerts.follow_forever)

    def muting(self, event: AlertEvent, now_ms: int) -> Silence | None:
        """The silence that keeps it quiet now."""
        if self._muting_version != self.silences.version:
            self._muting, self._muting_version = Silences(), self.silences.version
            for key, kept in self.silences.all.items():
                if isinstance(kept.value, Silence) and kept.value.ends_at_ms > now_ms:
                    self._muting.observe(key, kept.value)
        return self._muting.muting(event, now_ms)

    def acknowledgement(self, event: AlertEvent) -> Acknowledgement | None:
        """Who has taken this episode."""
        kept = self.silences.all.get(silence.acknowledgement_id(event.fingerprint, event.episode))
        said = kept.value if kept is not None else None
        return said if isinstance(said, Acknowledgement) and said.says != "free" else None

    async def stop(self) -> None:
        """Closes what was opened to write."""
        await self._producer.stop()
