"""What people say on compacted topics, as workers hear it: what cannot be read is counted, told, and harms nothing."""

from collections.abc import Mapping

import structlog

from agents.world import Metrics
from pipeline.edge.kafka.compacted import FollowedTopic
from schemas import rule
from schemas.rejection import Reason, Rejected
from schemas.rule import Rule

log = structlog.get_logger()


class RefusedRecords:
    """Records of one worker's topics: the first of its kind is said."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._said: set[tuple[str, Reason]] = set()

    def take(self, topic: str, key: bytes | None, why: Rejected) -> None:
        """One of them."""
        self._metrics.REFUSED.labels(topic, why.reason.value).inc()
        if (topic, why.reason) not in self._said:
            self._said.add((topic, why.reason))
            shown = (key or b"").decode(errors="backslashreplace")
            log.warning("refused", topic=topic, key=shown, reason=why.reason.value, field=why.field)


class HeardRules:
    """The rules of a followed topic that can be read, decoded once for each change of it."""

    def __init__(self, followed: FollowedTopic, topic: str, metrics: Metrics) -> None:
        """`topic` as on the broker."""
        self._followed, self._topic, self._refusals = followed, topic, RefusedRecords(metrics)
        self._version, self._sound = -1, dict[str, Rule]()

    def sound(self) -> Mapping[str, Rule]:
        """By id, as of now."""
        if self._version != self._followed.version:
            self._version, self._sound = self._followed.version, {}
            for key, value in self._followed.values.items():
                match rule.decode(value):
                    case Rejected() as why:
                        self._refusals.take(self._topic, key, why)
                    case one:
                        self._sound[one.rule_id] = one
        return self._sound
