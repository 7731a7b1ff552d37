"""One child process: in a session of its own, with a log file, and never outliving us.

The session keeps Ctrl-C on the terminal away from the children, so that the parent can stop them in order.
On Linux the kernel kills a child when its parent is gone (PR_SET_PDEATHSIG); because it looks at the *thread* that
made the child, all children are made by one thread that lives as long as the process.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from pipeline.edge.local import EmbeddedError
from pipeline.edge.local.patience import Patience, Signs

LOG_BYTES_MAX = 20_000_000
_PR_SET_PDEATHSIG = 1


class Child:
    """A program that is started, watched and stopped. What it prints goes to `log`."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        cwd: Path | None = None,
        environ: Mapping[str, str] | None = None,
        hold_stdin: bool = False,
    ) -> None:
        self.log = log
        self._command, self._cwd, self._environ, self._hold_stdin = list(command), cwd, environ, hold_stdin
        rotate(log)
        self._log_start = log.stat().st_size if log.exists() else 0
        self._process = _spawner().submit(self._spawn).result()

    def _spawn(self) -> "subprocess.Popen[bytes]":
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as out:
            try:
                return subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE if self._hold_stdin else subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    cwd=self._cwd,
                    env=self._environ,
                    start_new_session=True,
                    preexec_fn=_dies_with(os.getpid()),
                )
            except OSError as error:
                raise EmbeddedError(f"cannot start {self._command[0]}: {error}") from error

    @property
    def pid(self) -> int:
        """Its process id, also after its end."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it lives."""
        return self._process.poll()

    def signal(self, number: int) -> None:
        """Sends a signal to it and to what it started itself; nothing happens when it has ended."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)

    def terminate(self) -> None:
        """Asks it to end; a frozen one is woken to hear it."""
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)

    def kill9(self) -> None:
        """Ends it at once and waits until it is gone."""
        self.signal(signal.SIGKILL)
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def stop(self, timeout_s: float) -> bool:
        """Asks it to end, and kills it when it does not in time; while it works, at most four times that.

        Did it end by itself?
        """
        self.terminate()
        began_s = time.monotonic()
        patience = Patience(began_s, Signs(self.cpu_s()), timeout_s)
        while self._process.poll() is None and not patience.spent and time.monotonic() < began_s + 4 * timeout_s:
            time.sleep(0.02)
            patience.observe(time.monotonic(), Signs(self.cpu_s()))
        willing = self._process.returncode is not None
        self.kill9()
        return willing

    def cpu_s(self) -> float:
        """CPU time that it has used; 0 when nobody tells."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except OSError:  # no Linux, or it is gone
            return 0.0

    def said(self) -> str:
        """What it has printed since it was started (the last 64 KiB)."""
        return tail(self.log, self._log_start)


def rotate(log: Path, bytes_max: int = LOG_BYTES_MAX) -> None:
    """Moves a log that has grown too large to NAME.1, over an older one."""
    if log.exists() and log.stat().st_size > bytes_max:
        log.replace(log.with_name(log.name + ".1"))


def tail(log: Path, start: int, bytes_max: int = 65_536) -> str:
    """The end of a log file, from byte `start` at the earliest (or from 0, if it was begun anew since)."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start if start <= size else 0, size - bytes_max))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


@cache
def _spawner() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "spawner")


def _dies_with(parent: int) -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def before_exec() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the kernel knew
            os._exit(1)

    return before_exec
