"""What all children of `inferwatch up` have in common: prepare, spawn, wait until it answers, stop, and say why not."""

import re
import signal
import stat
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pipeline.edge.local import EmbeddedError, ProgressCallback, unwatched
from pipeline.edge.local.directory import DirectoryLock
from pipeline.edge.local.patience import QUIET_S, Patience, Signs
from pipeline.edge.local.ports import is_free
from pipeline.edge.local.process import Child, tail

_REASONS = (
    (
        re.compile(r"no space left on device|NOT_ENOUGH_SPACE|disk quota exceeded", re.I),
        "the disk is full; free some space",
    ),
    (
        re.compile(r"address already in use|BindException|EADDRINUSE", re.I),
        "a port it listens on is in use by another process; free the port or choose another",
    ),
    (
        re.compile(r"cannot lock file|failed to acquire lock on file", re.I),
        "its data directory is in use by another process; stop that one first",
    ),
    (re.compile(r"OutOfMemoryError|Cannot allocate memory", re.I), "it ran out of memory"),
)
_TELLING = re.compile(
    r"^inferwatch: |\b(ERROR|FATAL|CRITICAL)\b|<(Error|Fatal|Critical)>|Exception|Error:|error:", re.I
)
_INSIDE_TRACE = re.compile(r"\s*(at [\w.$/<>]+\(|\.\.\. \d+ more|Caused by:|Suppressed:)")


class Engine:
    """One server: a Child that can be started again with the same port and the same data."""

    stop_timeout_s = 15.0

    def __init__(
        self,
        name: str,
        logs: Path,
        *,
        ports: Sequence[int],
        own_logs: Sequence[Path] = (),
        directory: Path | None = None,
    ) -> None:
        self.name = name
        self._ports = tuple(ports)
        # our own lock on its data: a second Kafka on a directory damages it before it sees the first one's lock
        self._directory, self._lock = directory, DirectoryLock(directory) if directory else None
        self.log = logs / f"{name}.log"
        self._own_logs = tuple(own_logs)  # what it writes itself, beside what it prints
        self._own_starts: dict[Path, int] = {}
        self._child: Child | None = None

    def prepare(self, progress: ProgressCallback = unwatched) -> None:
        """Everything before the first spawn that may take long. Safe to repeat."""

    def _make_child(self) -> Child:
        raise NotImplementedError

    def answers(self) -> bool:
        """Does it do its work? Takes a few seconds at most."""
        raise NotImplementedError

    @property
    def child(self) -> Child:
        """The process; there is one after `spawn`."""
        if self._child is None:
            raise EmbeddedError(f"{self.name} was not started")
        return self._child

    @property
    def pid(self) -> int:
        """Of the current process, or of the last one."""
        return self.child.pid

    @property
    def alive(self) -> bool:
        """Has it been started, and not ended?"""
        return self._child is not None and self._child.returncode is None

    def spawn(self) -> None:
        """Starts the process and returns at once. Raises EmbeddedError when its ports or its data are taken."""
        if not self.alive:
            self._take()
            self._own_starts = {log: log.stat().st_size if log.exists() else 0 for log in self._own_logs}
            self._child = self._make_child()

    def _take(self) -> None:
        for port in self._ports:
            if not is_free(port):  # another server there would answer in its place
                raise EmbeddedError(
                    f"port {port} of {self.name} is in use by another process; free it or choose another port"
                )
        if self._lock is not None:
            self._lock.acquire()

    def ready(self) -> bool:
        """Does it answer? Raises EmbeddedError with the reason when it has ended instead."""
        answered = self.alive and self.answers()
        if not self.alive:
            raise EmbeddedError(self.ended())
        return answered

    def patience(self, quiet_s: float = QUIET_S) -> Patience:
        """To be used up by `waits_in_vain`, from now on."""
        return Patience(time.monotonic(), self._signs(), quiet_s)

    def waits_in_vain(self, patience: Patience) -> bool:
        """Looks once more whether it gets on; is there no use in waiting longer?"""
        patience.observe(time.monotonic(), self._signs())
        return bool(patience.spent)

    def _signs(self) -> Signs:
        """Of its data the first level only: a Kafka that idles writes on below."""
        if self._child is None:
            return Signs()
        found: list[tuple[str, int, int]] = []
        for path in (self.log, *self._own_logs, *self._data()):
            with suppress(OSError):
                is_file = stat.S_ISREG((status := path.stat()).st_mode)
                found.append((path.name, status.st_size if is_file else 0, status.st_mtime_ns))
        return Signs(self._child.cpu_s(), hash(tuple(found)))

    def _data(self) -> list[Path]:
        try:
            return list((self._directory / "data").iterdir()) if self._directory else []
        except OSError:
            return []

    def start(self, timeout_s: float = QUIET_S) -> None:
        """Prepares, spawns, and waits until it answers."""
        if not self.alive:
            self._take()
            self.prepare()
            self.spawn()
        self.wait_ready(timeout_s)

    def wait_ready(self, timeout_s: float = QUIET_S) -> None:
        """Waits until it answers; one that stands still for `timeout_s` instead is killed."""
        patience = self.patience(timeout_s)
        while not self.ready():
            if self.waits_in_vain(patience):
                self.kill9()
                raise EmbeddedError(self.too_slow(patience))
            time.sleep(0.03)

    def stop(self) -> bool:
        """Ends it in order, by force when it takes too long. Was no force needed?"""
        willing = self._child is None or self._child.stop(self.stop_timeout_s)
        if self._lock is not None:
            self._lock.release()
        return willing

    def kill9(self) -> None:
        """Ends it at once (SIGKILL)."""
        if self._child is not None:
            self._child.kill9()

    def pause(self) -> None:
        """Freezes it (SIGSTOP): connections stay open, nothing is answered."""
        self.child.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets a frozen one go on (SIGCONT)."""
        self.child.signal(signal.SIGCONT)

    def ended(self) -> str:
        """The one line for one that has ended: how, why as far as its logs tell, and where these are."""
        code = self.child.returncode or 0
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return f"{self.name} {how}{self._because()}; its log is {self.log}"

    def too_slow(self, patience: Patience) -> str:
        """The one line for one that lives but does not answer."""
        return (
            f"{self.name} does not answer {patience.waited_s:.0f} s after its start, and {patience.spent}"
            f"{self._because()}; its log is {self.log}"
        )

    def _because(self) -> str:
        reason = self.reason()
        return f": {reason}" if reason else ""

    def reason(self) -> str:
        """Why it failed, as far as its logs since the last spawn tell; '' when they do not."""
        texts = [tail(log, start) for log, start in self._own_starts.items()] + [self.child.said()]
        for pattern, meaning in _REASONS:
            if any(pattern.search(text) for text in texts):
                return meaning
        if (self.child.returncode or 0) < 0:
            return ""  # killed: its last complaint was about something else
        return next(filter(None, map(complaint, texts)), "")


def complaint(text: str) -> str:
    """The last line that says what is wrong: of a stack trace its first one; '' when none does."""
    telling = [line.strip() for line in text.splitlines() if _TELLING.search(line) and not _INSIDE_TRACE.match(line)]
    return telling[-1][:300] if telling else ""
