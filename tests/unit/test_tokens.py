"""How long a deduplication token is believed to be remembered, and what a writer does when it may not be."""

import asyncio
from collections.abc import Callable, Mapping

import pytest

from pipeline.config import load
from pipeline.core.ledger.tokens import REMEMBERED_MS, is_remembered
from pipeline.core.rows.blocks import Block
from pipeline.core.rows.inferences import record_events
from pipeline.edge import clock
from pipeline.edge.store import inserts
from pipeline.edge.store.answers import Answer, Outcome, classify
from pipeline.edge.store.inserts import Attempt, InsertRefusedError, Writer
from tests.builders import LIMITS, event, records


@pytest.mark.parametrize(
    ("age_ms", "remembered"),
    [(0, True), (REMEMBERED_MS, True), (REMEMBERED_MS + 1, False), (-60_000, True)],  # named by a clock that is ahead
)
def test_a_token_is_used_for_a_while_after_its_cut_was_named(age_ms: int, remembered: bool) -> None:
    assert is_remembered(1_000_000, 1_000_000 + age_ms) is remembered


class Server:
    """A ClickHouse of one table with a small memory: what it has, and what becomes of each attempt."""

    def __init__(self, window: int, *fates: str) -> None:
        self._window, self.fates = window, list(fates)
        self._tokens: list[str] = []
        self.offsets: list[int] = []
        self.asked: list[str] = []

    def insert(self, token: str, offsets: list[int]) -> None:
        if token not in self._tokens:
            self._tokens = [*self._tokens, token][-self._window :]
            self.offsets += offsets

    def others(self, count: int) -> None:
        """Blocks of other workers."""
        for n in range(count):
            self.insert(f"other-{n}-{len(self.asked)}", [])


class OurWriter(Writer):
    """Its posts go to the server of the test."""

    def __init__(self, server: Server, meanwhile: Callable[[], None] = lambda: None) -> None:
        super().__init__(load({}), self._answer)
        self._server, self._meanwhile = server, meanwhile

    async def _answer(self, params: Mapping[str, str], body: bytes) -> Answer:
        server, token = self._server, params.get("insert_deduplication_token")
        if token is None:
            server.asked.append("data")
            return Answer(Outcome.DONE, "".join(f"{offset}\n" for offset in server.offsets))
        server.asked.append(token)
        fate = server.fates.pop(0) if server.fates else "done"
        if fate in ("done", "answer lost"):
            server.insert(token, [100, 101])
        if fate != "done":
            self._meanwhile()
        return Answer({"done": Outcome.DONE, "not sent": Outcome.NOT_SENT}.get(fate, Outcome.UNKNOWN))


def cut() -> Block:
    (rows,) = record_events(records([event(), event()]), LIMITS).blocks
    return rows


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inserts, "WAIT_S_FIRST", 0.0)


def put(writer: OurWriter, attempt: Attempt = Attempt.FIRST, age_ms: int = 0) -> None:
    asyncio.run(writer.put(cut(), "t", attempt, clock.now_ms() - age_ms, lambda: None))


@pytest.mark.parametrize(
    ("story", "fates", "attempt", "age_ms", "asked"),
    [
        ("the first attempt is believed", [], Attempt.FIRST, 0, ["t"]),
        ("what was not sent is sent again", ["not sent", "not sent"], Attempt.FIRST, 0, ["t", "t", "t"]),
        ("an answer is lost: the data say that it is in", ["answer lost"], Attempt.FIRST, 0, ["t", "data"]),
        ("a request is lost: the same token", ["request lost"], Attempt.FIRST, 0, ["t", "data", "t", "data"]),
        ("twice", ["request lost"] * 2, Attempt.FIRST, 0, ["t", "data", "t", "data", "t", "data"]),
        ("a first attempt that leaves late", [], Attempt.FIRST, REMEMBERED_MS + 1, ["data", "t:r1", "data"]),
        ("a cut made again", [], Attempt.AGAIN, 1000, ["data", "t", "data"]),
        ("a cut made again late", [], Attempt.AGAIN, REMEMBERED_MS + 1, ["data", "t:r1", "data"]),
        ("under another name", [], Attempt.AGAIN_OLD, 0, ["data", "t:r1", "data"]),
        ("a mend's answer is lost", ["answer lost"], Attempt.AGAIN_OLD, 0, ["data", "t:r1", "data"]),
        ("a mend is lost", ["request lost"], Attempt.AGAIN_OLD, 0, ["data", "t:r1", "data", "t:r1", "data"]),
    ],
)
def test_the_data_are_asked_before_any_attempt_that_may_be_the_second(
    story: str, fates: list[str], attempt: Attempt, age_ms: int, asked: list[str]
) -> None:
    server = Server(100, *fates)
    put(OurWriter(server), attempt, age_ms)
    assert server.asked == asked, story
    assert server.offsets == [100, 101]


@pytest.mark.parametrize("attempt", [Attempt.FIRST, Attempt.AGAIN])
def test_a_window_that_is_smaller_than_what_others_do_meanwhile_doubles_nothing(attempt: Attempt) -> None:
    server = Server(10, "answer lost")
    put(OurWriter(server, meanwhile=lambda: server.others(40)), attempt)
    assert server.offsets == [100, 101]


def test_a_token_that_is_spent_without_its_rows_is_mended() -> None:
    server = Server(100)
    server.insert("t", [])
    put(OurWriter(server), Attempt.AGAIN)
    assert server.asked == ["data", "t", "data", "t:r1", "data"]
    assert server.offsets == [100, 101]


# -- what an answer means


@pytest.mark.parametrize("code", [6, 26, 27, 33, 62, 72, 117, 130, 209, 210, 241, 243, 246, 252, 999])
def test_what_a_request_cut_short_or_a_broken_part_can_cause_is_unknown(code: int) -> None:
    assert classify(500, str(code), f"Code: {code}").outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("code", [16, 60, 81, 192, 497, 516])
def test_what_no_repeat_can_mend_is_refused(code: int) -> None:
    assert classify(404, str(code), f"Code: {code}").outcome is Outcome.REFUSED


def test_a_refusal_is_the_writers_error() -> None:
    class Refusing(OurWriter):
        async def _answer(self, params: Mapping[str, str], body: bytes) -> Answer:
            return Answer(Outcome.REFUSED, "no such table")

    with pytest.raises(InsertRefusedError, match="no such table"):
        put(Refusing(Server(1)))
