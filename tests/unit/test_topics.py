"""The topics are the design's, and the broker is told so."""

import pytest

from schemas.rejection import RECORD_BYTES_MAX
from schemas.topics import TOPICS, Topic


@pytest.mark.parametrize(
    ("name", "partitions", "days"),
    [
        ("inference.events", 8, 3),
        ("inference.heartbeats", 4, 3),
        ("inference.metadata", 4, 3),
        ("inference.aggregates", 8, 3),
        ("inference.alerts", 4, 30),
        ("inference.rules", 1, None),
        ("inference.silences", 1, None),
        ("inference.access", 1, None),
        ("inference.views", 1, None),
        ("inference.vision-events", 4, 3),
        ("inference.use-cases", 1, None),
        ("inference.detector-state", 8, None),
    ],
)
def test_each_topic_has_its_partitions_and_keeps_its_records(name: str, partitions: int, days: int | None) -> None:
    [topic] = [topic for topic in TOPICS if topic.name == name]
    settings = topic.settings()
    assert topic.partitions == partitions
    if days is None:
        assert settings["cleanup.policy"] == "compact"
        assert "retention.ms" not in settings
    else:
        assert settings["cleanup.policy"] == "delete"
        assert settings["retention.ms"] == str(days * 86_400_000)


def test_there_are_no_others() -> None:
    assert len(TOPICS) == len({topic.name for topic in TOPICS}) == 12


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_the_brokers_clock_stamps_the_records_and_a_full_record_fits(topic: Topic) -> None:
    settings = topic.settings()
    assert settings["message.timestamp.type"] == "LogAppendTime"
    assert int(settings["max.message.bytes"]) > RECORD_BYTES_MAX
