"""What a machine must have before anything is started on it: one clear line for each thing that is missing."""

import os
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.edge.clock import now_ms
from pipeline.edge.local import EmbeddedError
from pipeline.edge.local.directory import check_space
from pipeline.edge.local.ports import HOST

FILES_MIN = 1024  # Kafka has some 600 open in the first minute
FILES_WANTED = 65_536
_YEAR_MIN = 2025  # no machine that runs this code is older
_BACK_S = 60.0


def check_machine(directory: Path, now_s: float | None = None) -> list[str]:
    """Warnings about the machine and the disk of `directory`. Raises EmbeddedError when there is no use in starting."""
    _check_loopback()
    _raise_file_limit()
    clock = _check_clock(directory, now_ms() / 1000 if now_s is None else now_s)
    return [warning for warning in (check_space(directory), clock) if warning]


def _check_loopback() -> None:
    """Servers and clients meet there: a listener and a connection to it."""
    try:
        with socket.create_server((HOST, 0)) as server, socket.create_connection(server.getsockname()[:2], timeout=5):
            pass
    except OSError as error:
        raise EmbeddedError(
            f"{HOST} cannot be reached on this machine ({error.strerror or error}); "
            "bring its loopback interface up (ip link set lo up), with IPv4"
        ) from error


def _raise_file_limit() -> None:
    """As many open files as we may have, for our children too. Raises EmbeddedError when these are too few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = FILES_WANTED if hard == resource.RLIM_INFINITY else min(hard, FILES_WANTED)
    if allowed < FILES_MIN:
        raise EmbeddedError(
            f"only {allowed} open files are allowed, {FILES_MIN} are needed; raise the limit (ulimit -Hn, or "
            "/etc/security/limits.conf)"
        )
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def _check_clock(directory: Path, now_s: float) -> str:
    if time.gmtime(now_s).tm_year < _YEAR_MIN:
        raise EmbeddedError(
            f"the clock of this machine says {_day(now_s)}; set it first (NTP): events and windows live by it"
        )
    ahead_s = max(_written_s(directory), default=now_s) - now_s
    if ahead_s <= _BACK_S:
        return ""
    return (
        f"the clock of this machine says {_day(now_s)}, but {directory} was written {ahead_s:.0f} s later than that; "
        "set the clock (NTP): windows close by it"
    )


def _written_s(directory: Path) -> Iterator[float]:
    """When each file of the directory, and each log, was last written."""
    for folder in (directory, directory / "logs"):
        if folder.is_dir():
            yield from (entry.stat().st_mtime for entry in os.scandir(folder) if entry.is_file())


def _day(time_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(time_s))
