"""Rules as a worker hears them: what cannot be read is counted and told once, and the others hold."""

from typing import Any, cast

import msgspec
from prometheus_client import CollectorRegistry, Counter
from structlog.testing import capture_logs

from agents.heard import HeardRules
from agents.world import Metrics
from pipeline.edge.kafka.compacted import FollowedTopic
from tests.alerting import rule


class Counts:
    REFUSED = Counter("refused_total", "Refused.", ["topic", "reason"], registry=CollectorRegistry())


def test_rules_that_cannot_be_read_are_counted_once_for_each_change_and_the_first_of_a_kind_is_said() -> None:
    followed = FollowedTopic(cast(Any, None), "rules")  # nothing is read here
    heard = HeardRules(followed, "rules", cast(Metrics, Counts))

    def say(values: dict[bytes, bytes]) -> None:
        followed.values = values
        followed.version += 1

    def refused(reason: str) -> float:
        return float(Counts.REFUSED.labels("rules", reason)._value.get())

    good = msgspec.json.encode(rule(rule_id="good"))
    with capture_logs() as said:
        assert heard.sound() == {}
        say({b"good": good, b"b\xff": b"{", b"c": b"{", b"d": b'{"rule_id": "d"}'})
        for _ in range(3):  # each of its partitions asks
            assert list(heard.sound()) == ["good"]
        assert (refused("not_json"), refused("missing_field")) == (2, 1)
        say({b"good": good, b"c": b"{"})
        assert list(heard.sound()) == ["good"]
        assert refused("not_json") == 3
        say({b"c": good})
        assert list(heard.sound()) == ["good"]
    assert [(line["event"], line["key"], line["reason"]) for line in said] == [
        ("refused", "b\\xff", "not_json"),
        ("refused", "d", "missing_field"),
    ]
