"""inferwatch import: each event once, whatever happens between; what is refused is told with its place."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import orjson
import pytest

from pipeline.config import load
from pipeline.edge.kafka.batches import KeyedRecords
from pipeline.edge.kafka.connection import KafkaUnavailable
from pipeline.web.ingest import carried
from pipeline.web.ingest.carried import NOTES, REFUSED, Import
from pipeline.web.ingest.intake import Intake
from pipeline.web.ingest.kinds import kinds
from tests.in_process import NOW, Clock

KIND = kinds(load({}).time_limits)["events"]


class Here:
    """A Kafka that takes, refuses or dies as it is told, and the rows that come of it when they are let through."""

    def __init__(self, *fates: str) -> None:
        self.fates = list(fates)
        self.log: Counter[str] = Counter()
        self.rows: set[str] = set()
        self.slow = False  # what is on the log is no row yet

    async def partitions(self, topic: str) -> int:
        return 4

    async def send(self, topic: str, parts: Mapping[int, KeyedRecords], now_ms: int) -> set[int]:
        fate = self.fates.pop(0) if self.fates else "taken"
        taken = {} if fate == "retry" else parts
        for part in taken.values():
            self.log.update(orjson.loads(value)["event_id"] for value in part.values)
        if not self.slow:
            self.rows |= set(self.log)
        if fate == "dies":
            raise KeyboardInterrupt
        return set(parts) if fate == "retry" else set()

    async def known(self, workspace: str, ids: Sequence[str]) -> set[str]:
        if self.slow:
            self.slow, found = False, self.rows & set(ids)
            self.rows |= set(self.log)
            return found
        return self.rows & set(ids)


def line(event_id: object, **more: object) -> bytes:
    event = {"event_id": event_id, "event_time_ms": NOW, "model_id": "m", "workspace": "acme", "predictions": []}
    return orjson.dumps(event | more)


def spool(directory: Path, *files: list[bytes]) -> None:
    for number, lines in enumerate(files, 1):
        (directory / f"{number:012d}.ndjson").write_bytes(b"\n".join(lines))


def bring(directory: Path, here: Here) -> Import:
    one = Import(directory, KIND, "t", Intake(here, Clock()), here.known, Clock())  # type: ignore[arg-type]

    async def all_() -> None:
        for file in one.files():
            await one.bring(file, lambda _: None)

    asyncio.run(all_())
    return one


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carried, "AGAIN_S", 0.0)


IDS = [f"e{n}" for n in range(30)]
FILES = [[line(name) for name in IDS[start : start + 10]] for start in (0, 10, 20)]


def test_what_was_carried_is_there_once_however_often_it_is_brought(tmp_path: Path) -> None:
    spool(tmp_path, *FILES)
    here = Here()
    assert bring(tmp_path, here).carried.sent == 30
    assert bring(tmp_path, here).files() == []
    other = tmp_path / "another copy"
    other.mkdir()
    spool(other, *FILES)
    assert bring(other, here).carried.known == 30
    assert here.log == Counter(IDS)


@pytest.mark.parametrize("dies_at", [0, 1, 2])
def test_a_run_that_was_cut_off_is_taken_up_where_it_ended(tmp_path: Path, dies_at: int) -> None:
    """Also where Kafka has the events, nobody has noted it, and they are no rows yet."""
    spool(tmp_path, *FILES)
    here = Here(*["taken"] * dies_at, "dies")
    with pytest.raises(KeyboardInterrupt):
        bring(tmp_path, here)
    here.rows -= set(IDS[dies_at * 10 :])
    here.slow = True
    bring(tmp_path, here)
    assert here.log == Counter(IDS)


def test_what_is_not_acknowledged_is_sent_again_and_in_the_end_said(tmp_path: Path) -> None:
    spool(tmp_path, *FILES)
    here = Here("retry", "taken", "retry")
    assert bring(tmp_path, here).carried.sent == 30
    assert here.log == Counter(IDS)
    away = tmp_path / "away"
    away.mkdir()
    spool(away, *FILES)
    with pytest.raises(KafkaUnavailable, match="run it again"):
        bring(away, Here(*["retry"] * 100))


def test_what_is_refused_is_told_with_its_place_and_harms_nothing_else(tmp_path: Path) -> None:
    lines = [line("a"), b"{", line("b", latency_ms=-1), line(7), b'{"event_id":"c"}', b"", line("a"), b"[]", line("d")]
    spool(tmp_path, lines)
    here = Here()
    told = bring(tmp_path, here).carried
    assert here.log == {"a": 1, "d": 1}
    assert (told.sent, told.known) == (2, 1)
    name = "000000000001.ndjson"
    assert told.refused == {"no_event": (4, f"{name}:2"), "out_of_range": (1, f"{name}:3")}
    written = [orjson.loads(one) for one in (tmp_path / REFUSED).read_bytes().splitlines()]
    assert Counter(one["line"] for one in written) == Counter([2, 3, 4, 5, 8])
    assert {"file": name, "line": 3, "reason": "out_of_range", "field": "latency_ms"} in written


def test_events_keep_the_workspace_that_they_were_recorded_for(tmp_path: Path) -> None:
    spool(tmp_path, [line("a"), line("b", workspace="other")])
    assert bring(tmp_path, Here()).carried.sent == 2


@pytest.mark.parametrize("notes", [b"", b"{", b"[]", b'{"000000000001.ndjson":"begun"}'])
def test_notes_that_were_damaged_cost_a_look_and_no_event(tmp_path: Path, notes: bytes) -> None:
    spool(tmp_path, *FILES)
    here = Here()
    bring(tmp_path, here)
    (tmp_path / NOTES).write_bytes(notes)
    assert bring(tmp_path, here).carried.known == 30
    assert here.log == Counter(IDS)
