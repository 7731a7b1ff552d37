"""Events that were carried here, across an air gap: files of a client's spool, on their way to Kafka.

Each event arrives once however often this runs: what is a row already is not sent again, a file that is done is noted
beside it, and one that was begun waits for what is on its way to become rows. What is refused is written down beside
the files, with its place. Memory: a piece of a file.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import orjson

from pipeline.edge.clock import Clock
from pipeline.edge.kafka.connection import KafkaUnavailable
from pipeline.web.ingest.intake import RETRY, Intake, Taken
from pipeline.web.ingest.kinds import Kind

SUFFIX, NOTES, REFUSED = ".ndjson", "imported.json", "refused.jsonl"
PIECE_LINES = 2000
ATTEMPTS, AGAIN_S = 5, 1.0
SETTLE_S = 20.0  # so long what was on its way when a run was cut off may take to become rows

Known = Callable[[str, Sequence[str]], Awaitable[set[str]]]  # of a workspace and ids: those that are rows
Line = tuple[int, bytes]


@dataclass(slots=True)
class Carried:
    """What became of the events. `refused`: how many by reason, and where the first of each stands."""

    sent: int = 0
    known: int = 0
    refused: dict[str, tuple[int, str]] = field(default_factory=dict)

    def refuse(self, reason: str, where: str) -> None:
        """One more."""
        count, first = self.refused.get(reason, (0, where))
        self.refused[reason] = count + 1, first


class Import:
    """One directory."""

    def __init__(self, directory: Path, kind: Kind, topic: str, intake: Intake, known: Known, clock: Clock) -> None:
        """`kind`: events; `topic` as on the broker."""
        self._directory, self._kind, self._topic = directory, kind, topic
        self._intake, self._known, self._clock = intake, known, clock
        self._notes: dict[str, str] = _read(directory / NOTES)  # by file: begun or done
        self.carried = Carried()

    def files(self) -> list[Path]:
        """Those that are not done, oldest first."""
        found = sorted(self._directory.glob(f"*{SUFFIX}"), key=lambda path: path.name)
        return [path for path in found if self._notes.get(path.name) != "done"]

    async def bring(self, file: Path, progress: Callable[[int], None]) -> None:
        """All of one file; `progress` hears how many bytes went by. Raises KafkaUnavailable, ClickHouseUnavailable."""
        was_begun = self._notes.get(file.name) == "begun"
        self._note(file, "begun")
        with file.open("rb") as lines:
            numbered = enumerate(lines, 1)
            while piece := list(islice(numbered, PIECE_LINES)):
                for workspace, own in self._by_workspace(file, piece).items():
                    await self._bring(file, workspace, own, was_begun=was_begun)
                progress(sum(len(raw) for _, raw in piece))
        self._note(file, "done")

    def _by_workspace(self, file: Path, piece: list[Line]) -> dict[str, dict[str, Line]]:
        """The events by workspace and id, each once. What has neither is refused: it could not be told apart."""
        found: dict[str, dict[str, Line]] = {}
        for number, raw in piece:
            if raw.isspace():
                continue
            try:
                event = orjson.loads(raw)
                workspace, event_id = event["workspace"], event["event_id"]
            except (orjson.JSONDecodeError, KeyError, TypeError):
                self._refuse(file, number, "no_event", "")
                continue
            if not isinstance(workspace, str) or not isinstance(event_id, str):
                self._refuse(file, number, "no_event", "")
                continue
            own = found.setdefault(workspace, {})
            if event_id in own:
                self.carried.known += 1
            else:
                own[event_id] = number, raw.strip()
        return found

    async def _bring(self, file: Path, workspace: str, own: dict[str, Line], *, was_begun: bool) -> None:
        there = await self._rows(workspace, list(own), was_begun=was_begun)
        self.carried.known += len(there)
        waiting = [line for event_id, line in own.items() if event_id not in there]
        for attempt in range(ATTEMPTS):
            if not waiting:
                return
            if attempt:
                await asyncio.sleep(AGAIN_S)
            outcome = Taken()
            await self._intake.take(self._kind, self._topic, workspace, waiting, outcome)
            self.carried.sent += outcome.accepted
            again = {result["line"] for result in outcome.results if result["status"] == RETRY}
            for result in outcome.results:
                if result["status"] != RETRY:
                    self._refuse(file, result["line"], result["reason"], result["field"])
            waiting = [line for line in waiting if line[0] in again]
        if waiting:
            raise KafkaUnavailable(f"{len(waiting)} events of {file} are not acknowledged; run it again")

    async def _rows(self, workspace: str, ids: list[str], *, was_begun: bool) -> set[str]:
        """Which are rows; after a run that was cut off, when no more are on their way."""
        deadline = self._clock.monotonic() + SETTLE_S
        there = await self._known(workspace, ids)
        while was_begun and len(there) < len(ids) and self._clock.monotonic() < deadline:
            await asyncio.sleep(AGAIN_S)
            there = await self._known(workspace, ids)
        return there

    def _refuse(self, file: Path, number: int, reason: str, name: str) -> None:
        self.carried.refuse(reason, f"{file.name}:{number}")
        told = {"file": file.name, "line": number, "reason": reason, "field": name}
        with (self._directory / REFUSED).open("ab") as out:
            out.write(orjson.dumps(told) + b"\n")

    def _note(self, file: Path, what: str) -> None:
        self._notes[file.name] = what
        unfinished = self._directory / f"{NOTES}.part"
        unfinished.write_bytes(orjson.dumps(self._notes))
        os.replace(unfinished, self._directory / NOTES)


def sizes(files: Sequence[Path]) -> Iterator[int]:
    """In bytes."""
    return (file.stat().st_size for file in files)


def _read(notes: Path) -> dict[str, str]:
    try:
        found = orjson.loads(notes.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return {}
    return {str(name): str(what) for name, what in found.items()} if isinstance(found, dict) else {}
