"""Workers under test, as child processes: started, killed, frozen, always ended; each may carry a fault of its own."""

import http.client
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.config import PREFIX, Settings, to_environ
from pipeline.edge.local.ports import HOST, free_port
from pipeline.edge.local.process import Child
from pipeline.edge.local.worker import Worker
from schemas.roles import ROLES

FAULT = "TEST_FAULT"  # the environment variable that carries a Fault, as JSON


class Step(StrEnum):
    """Where in the life of a cut a fault strikes."""

    NAMING = "naming"  # the commit that names it is about to be sent
    NAMED = "named"  # the broker has the name; nothing is out
    BETWEEN = "between"  # some outputs have it, some not
    DONE = "done"  # all outputs have it; the next name is not sent
    INSERT = "insert"  # of rows; for POISON


class Action(StrEnum):
    """What happens there."""

    KILL = "kill"
    FREEZE = "freeze"
    RAISE = "raise"  # an error that nobody knows
    POISON = "poison"  # the token is spent without the data, and the answer is lost


@dataclass(frozen=True)
class Fault:
    """Strikes at the `nth` occasion, or at each with a probability."""

    step: Step
    action: Action
    topic: str  # without the prefix
    nth: int = 3
    probability: float = 0.0
    seed: int = 0

    @classmethod
    def read(cls, text: str) -> "Fault":
        """From the environment variable."""
        fields = json.loads(text)
        return cls(**{**fields, "step": Step(fields["step"]), "action": Action(fields["action"])})


def hold(seconds: float) -> None:
    """Lets a fault last for so long."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 0.5))


def eventually(condition: Callable[[], bool], timeout_s: float, what: str, told: Callable[[], Any] = str) -> None:
    """Waits for a condition. `told` adds to the message when it does not come."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what} {told()}"
        time.sleep(0.05)


def partitions_of(role: str) -> int:
    """How many a role has to share, with the topics as we create them."""
    return sum(topic.partitions for one in ROLES if one.name == role for topic in one.reads)


class WorkerUnderTest(Worker):
    """One worker. It runs the production code; with a fault, by way of faulty_worker.py."""

    def __init__(self, role: str, settings: Settings, logs: Path, number: int, fault: Fault | None) -> None:
        super().__init__(role, settings, web_port=free_port(), logs=logs)
        self.fault = fault
        self.label = f"{role}-{number}"
        self.log = logs / f"{self.label}.log"
        self.strikes = logs / f"{self.label}.strikes"
        self.asked = False  # to end, by the test

    def _make_child(self) -> Child:
        environ = {name: text for name, text in os.environ.items() if not name.startswith(PREFIX)}
        environ |= to_environ(self._settings)
        command = [sys.executable, "-m", "agents", "worker", self.name]
        if self.fault is not None:
            environ[FAULT] = json.dumps(asdict(self.fault))
            command = [sys.executable, "-m", "tests.integration.faulty_worker", self.name, str(self.strikes)]
        return Child(command, self.log, environ=environ)

    @property
    def struck(self) -> int:
        """How often its fault has struck."""
        return len(self.strikes.read_text().splitlines()) if self.strikes.exists() else 0

    @property
    def returncode(self) -> int | None:
        """None while it lives."""
        return self.child.returncode

    def end(self) -> None:
        """SIGTERM: it must go by itself, with exit code 0."""
        self.asked = True
        assert self.stop(), f"{self.label} did not end within {self.stop_timeout_s} s\n{self.child.said()[-3000:]}"
        assert self.returncode == 0, f"{self.label} ended with {self.returncode}\n{self.child.said()[-3000:]}"

    def kill9(self) -> None:
        self.asked = True
        super().kill9()

    def says(self, path: str) -> tuple[int, Any]:
        """Status and JSON (or text) of one of its pages; 0 when it does not answer."""
        connection = http.client.HTTPConnection(HOST, self.web_port, timeout=3)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            text = response.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            connection.close()
        return response.status, json.loads(text) if text.startswith("{") else text

    def works(self) -> bool:
        """Whether it has its partitions, restored; it may be behind (the log's time runs fast in these tests)."""
        status, body = self.says("/readyz")
        assert self.alive, self.ended()
        return status == 200 or (status == 503 and all(why.endswith(" behind") for why in body["why"]))

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples whose labels include these; 0 while it does not answer."""
        assert self.alive, f"{self.ended()}\n{self.child.said()[-3000:]}"
        status, text = self.says("/metrics")
        if status != 200:
            return 0.0
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.startswith((name + " ", name + "{")) and all(one in line for one in wanted)
        )


class Fleet:
    """All workers of one test."""

    def __init__(self, settings: Settings, logs: Path) -> None:
        self.settings, self._logs = settings, logs
        self.workers: list[WorkerUnderTest] = []

    def start(self, role: str, fault: Fault | None = None, **settings: Any) -> WorkerUnderTest:
        """One more worker; returns before it is ready."""
        own = self.settings.model_copy(update=settings)
        worker = WorkerUnderTest(role, own, self._logs, len(self.workers) + 1, fault)
        self.workers.append(worker)
        worker.spawn()
        return worker

    def start_both(self, **settings: Any) -> list[WorkerUnderTest]:
        """One worker of each role, ready."""
        both = [self.start(role, **settings) for role in ("aggregator", "recorder")]
        self.wait_ready(*both)
        return both

    def wait_ready(self, *workers: WorkerUnderTest, timeout_s: float = 120) -> None:
        """Each of these has its partitions and works on them."""
        for worker in workers:
            eventually(worker.works, timeout_s, f"{worker.label} ready", partial(worker.says, "/readyz"))

    def alive(self, role: str) -> list[WorkerUnderTest]:
        """Those of a role that run."""
        return [worker for worker in self.workers if worker.name == role and worker.alive]

    def owned(self, role: str) -> float:
        """How many partitions the workers of a role say are theirs."""
        return sum(worker.metric("inferwatch_partitions", state="assigned") for worker in self.alive(role))

    def own_all(self, role: str, more: int = 0) -> bool:
        """Whether each partition of a role's topics has one owner; `more`: than we create."""
        return self.owned(role) == partitions_of(role) + more

    def wait_stands_still(self, worker: WorkerUnderTest, where: list[str], timeout_s: float = 60) -> None:
        """/readyz says 503 and names exactly these partitions, each with a reason for an operator."""

        def named() -> bool:
            status, body = worker.says("/readyz")
            stands = sorted(why.split(" ")[0] for why in body["why"] if "stands still" in why) if status == 503 else []
            return stands == sorted(where)

        eventually(named, timeout_s, f"{worker.label} says that {where} stand still", lambda: worker.says("/readyz"))

    def wait_struck(self, *workers: WorkerUnderTest, timeout_s: float = 120) -> None:
        """The faults of these have struck; those that kill have killed."""
        for worker in workers:
            assert worker.fault is not None
            over = worker.fault.action in (Action.KILL, Action.RAISE)

            def struck(w: WorkerUnderTest = worker, over: bool = over) -> bool:
                assert w.alive or w.struck, f"{w.ended()}\n{w.child.said()[-3000:]}"
                return w.struck > 0 and not (over and w.alive)

            eventually(struck, timeout_s, f"{worker.label} {worker.fault}", worker.child.said)
            worker.asked = worker.asked or over

    def end(self, *workers: WorkerUnderTest) -> None:
        """SIGTERM to these; returns when they are gone."""
        with ThreadPoolExecutor(max(1, len(workers))) as pool:
            list(pool.map(WorkerUnderTest.end, workers))

    def end_all(self) -> None:
        """SIGTERM to all that live: then no more output can come."""
        self.end(*(worker for worker in self.workers if worker.alive))
        self.check()

    def check(self) -> None:
        """No worker has ended unasked."""
        surprises = [w for w in self.workers if not w.alive and not w.asked]
        assert not surprises, "\n".join(f"{w.ended()}\n{w.child.said()[-3000:]}" for w in surprises)


@contextmanager
def fleet(settings: Settings, logs: Path) -> Iterator[Fleet]:
    """No worker outlives this, and none may have ended unasked."""
    running = Fleet(settings, logs)
    try:
        yield running
        running.check()
    finally:
        for worker in running.workers:
            worker.kill9()
