"""What workers log: bounded, foldable, without what other people wrote into records."""

import json
import logging
import re
from collections.abc import Iterator

import pytest
import structlog

from pipeline.config import Settings
from pipeline.edge import logs
from pipeline.edge.logs import FOLD_S, KINDS_MAX, FoldedRepeats
from tests.names import NAMES

OURS = re.compile(r"\x1b\[\d*m")  # colours


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers, root.level
    yield
    root.handlers, level = before
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def record(at_s: float, text: str, *args: object, name: str = "aiokafka.consumer") -> logging.LogRecord:
    one = logging.LogRecord(name, logging.WARNING, __file__, 1, text, args, None)
    one.created = at_s
    return one


def test_what_a_library_says_all_the_time_is_one_line_a_minute_with_its_number() -> None:
    folded = FoldedRepeats()
    minutes: list[list[str]] = []
    for minute in range(3):
        lines = []
        for tenth in range(600):
            at_s = 1e9 + minute * FOLD_S + tenth / 10
            for one in (
                record(at_s, "Marking the coordinator dead (node %s) for group %s.", tenth % 3, "g"),
                record(at_s, f"Unable to connect to node with id {tenth}: [Errno {tenth}] refused"),
                record(at_s, "Heartbeat failed: %r", OSError(tenth)),
            ):
                if folded.filter(one):
                    lines.append(one.getMessage())
        minutes.append(lines)
    assert [len(lines) for lines in minutes] == [3, 3, 3]
    assert minutes[1][0] == "Marking the coordinator dead (node 0) for group g. (and 599 more like it since the last)"


def test_another_message_another_level_and_another_library_are_said() -> None:
    folded = FoldedRepeats()
    assert folded.filter(record(0, "one"))
    assert folded.filter(record(0, "two"))
    assert folded.filter(record(0, "one", name="faust"))
    louder = record(0, "one")
    louder.levelno = logging.ERROR
    assert folded.filter(louder)
    assert not folded.filter(record(1, "one"))


def test_our_own_retries_are_folded_by_topic_and_table_and_facts_are_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr("pipeline.edge.logs.time.monotonic", lambda: clock[0])
    logs.configure(Settings(log_format="json"))
    log = structlog.get_logger()
    for _ in range(5):
        for table in ("inferences", "dead_letters"):
            log.warning("insert_retry", table=table, token="t")
        log.warning("fenced", topic="inference.events")
    clock[0] += FOLD_S
    log.warning("insert_retry", table="inferences", token="u")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines].count("fenced") == 5
    assert [(line["table"], line.get("more_like_it")) for line in lines if line["event"] == "insert_retry"] == [
        ("inferences", None),
        ("dead_letters", None),
        ("inferences", 4),
    ]


def test_the_memory_of_what_was_said_is_bounded() -> None:
    folded = FoldedRepeats()
    for i in range(10 * KINDS_MAX):
        folded.filter(record(i / 1000, "kind " + "abcdefghij"[i % 10] * (i // 10)))
    assert len(folded._repeats._said) <= KINDS_MAX


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_traceback_says_where_and_shows_no_record(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(Settings(log_format=log_format))

    def raises(record: bytes) -> None:
        raise ValueError("\x1b[31mred")

    for log in (structlog.get_logger().error, logging.getLogger("aiokafka").error):
        try:
            raises(bytes(reversed(b"ydobemos")))
        except ValueError as error:
            log("worker_fails", exc_info=error)
    said = capsys.readouterr().err
    assert said.count("in raises") == 2
    assert "somebody" not in said
    assert "\x1b[31mred" not in said
    assert len(said.splitlines()) < 40


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_name_in_a_log_is_text_on_one_line(log_format: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(Settings(log_format=log_format))
    structlog.get_logger().error("alert", summary=name)
    logging.getLogger("aiokafka").warning("alert %s", name)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    for line in lines:
        plain = line if log_format == "json" else OURS.sub("", line)
        assert all(ord(char) >= 32 and not 0x7F <= ord(char) < 0xA0 for char in plain)
    if log_format == "json":
        assert json.loads(lines[0])["summary"] == name


def test_a_value_without_end_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(Settings(log_format="json"))
    structlog.get_logger().error("refused", said="x" * 1_000_000)
    assert len(capsys.readouterr().err) < 3000
