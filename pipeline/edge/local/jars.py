"""Kafka's jars: fetched once by PyPI jgo into the local Maven repository, checked against the lock on every start.

The lock (kafka_jars.sha256) names every jar, so nothing is resolved at run time: no POM is read, and no jar can
come that was not seen when the lock was made.
"""

import errno
import fcntl
import hashlib
import importlib.resources
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.edge.local import EmbeddedError, Progress, ProgressCallback, unwatched

LOCK = "kafka_jars.sha256"
RESOLVED = ("org.apache.kafka:kafka_2.13:4.4.0", "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5")
STEP = "Kafka's jars (first run only)"
_CHUNK_TIMEOUT_S = 30
_TRIES = 2
_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of the lock."""

    coordinates: str  # group:artifact:version
    sha256: str

    @property
    def name(self) -> str:
        """Its file name."""
        _, artifact, version = self.coordinates.split(":")
        return f"{artifact}-{version}.jar"

    def path(self, repository: Path) -> Path:
        """Where a Maven repository keeps it."""
        group, artifact, version = self.coordinates.split(":")
        return repository.joinpath(*group.split("."), artifact, version, self.name)

    def intact(self, repository: Path) -> bool:
        """Is it there, whole and the right one?"""
        try:
            with self.path(repository).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256
        except OSError:
            return False


@cache
def locked_jars() -> tuple[Jar, ...]:
    """Every jar of the class path, as the lock names them."""
    text = importlib.resources.files(__package__).joinpath(LOCK).read_text()
    return tuple(Jar(*line.split()) for line in text.splitlines() if line and not line.startswith("#"))


def fetched_jars(progress: ProgressCallback = unwatched, jars: Sequence[Jar] | None = None) -> list[Path]:
    """The paths of all jars, each with the right checksum; fetches what is missing or wrong.

    Raises EmbeddedError when that cannot be done.
    """
    jars = locked_jars() if jars is None else jars
    repository, context = _maven()
    if not all(jar.intact(repository) for jar in jars):
        with _alone(repository):  # another process may be at it, or have just done it
            wrong = [jar for jar in jars if not jar.intact(repository)]
            if wrong:
                _fetch(context, repository, wrong, progress)
    return [jar.path(repository) for jar in jars]


def resolved_lock() -> str:
    """The lock's lines, made anew by resolving RESOLVED: for whoever raises Kafka's version."""
    import jgo

    newest: dict[tuple[str, str], tuple[str, str]] = {}
    for endpoint in RESOLVED:
        for artifact in jgo.resolve(endpoint):
            digest = hashlib.sha256(artifact.resolve().read_bytes()).hexdigest()
            newest.setdefault((artifact.groupId, artifact.artifactId), (artifact.version, digest))
    return "".join(f"{g}:{a}:{version}  {digest}\n" for (g, a), (version, digest) in sorted(newest.items()))


def _maven() -> tuple[Path, Any]:
    """The local Maven repository ($M2_REPO, jgo's configuration or ~/.m2) and jgo's context on it."""
    try:
        from jgo.config import GlobalSettings
        from jgo.maven import MavenContext
    except ImportError as error:
        raise EmbeddedError(
            f"jgo, which fetches Kafka, is not installed ({error}); pip install 'inferwatch[embedded]'"
        ) from error
    settings = GlobalSettings.load()
    context = MavenContext(repo_cache=settings.repo_cache, timeout=_CHUNK_TIMEOUT_S)
    context.remote_repos |= settings.repositories  # a mirror called `central` in jgo.conf takes Maven Central's place
    return Path(context.repo_cache), context


def _fetch(context: Any, repository: Path, jars: Sequence[Jar], progress: ProgressCallback) -> None:
    counted = _Counted(len(jars), progress)
    context.resolver.progress_callback = counted.download
    pool = ThreadPoolExecutor(_AT_ONCE, "jars")
    try:
        for done in as_completed([pool.submit(_fetch_one, context, repository, jar, counted) for jar in jars]):
            done.result()
    finally:
        counted.stopped = True  # after one failure, or when the caller gave up, the others end as well
        pool.shutdown(cancel_futures=True)


def _fetch_one(context: Any, repository: Path, jar: Jar, counted: "_Counted") -> None:
    group, artifact, version = jar.coordinates.split(":")
    path = jar.path(repository)
    why = ""
    for _ in range(_TRIES):
        try:
            path.unlink(missing_ok=True)  # half of it, or another one
            context.project(group, artifact).at_version(version).artifact().resolve()
        except _StoppedError:
            path.unlink(missing_ok=True)
            raise
        except OSError as error:  # the network's errors are OSErrors too
            path.unlink(missing_ok=True)
            if error.errno == errno.ENOSPC:
                raise EmbeddedError(f"the disk of {repository} is full: free at least 100 MB") from error
            why = f"{error or type(error).__name__}"
        except RuntimeError as error:  # jgo: no repository has it
            why = str(error)
        else:
            if jar.intact(repository):
                counted.one_done()
                return
            path.unlink(missing_ok=True)
            why = "what came has the wrong checksum"
    raise EmbeddedError(
        f"cannot fetch {jar.name} for Kafka: {why}; check the network (HTTPS_PROXY, or a mirror as "
        "`central` under [repositories] in ~/.config/jgo.conf) and try again"
    )


class _StoppedError(Exception):
    """The fetch is given up."""


class _Counted:
    """Counts jars and bytes over all threads, and lets them all end."""

    def __init__(self, total: int, progress: ProgressCallback) -> None:
        self.stopped = False
        self._total, self._progress = total, progress
        self._done = self._bytes = 0
        self._guard = threading.Lock()
        self._tell()

    @contextmanager
    def download(self, _name: str, _size: int) -> Iterator[Callable[[int], None]]:
        """jgo's progress callback: gives what to call with the bytes of each chunk."""
        yield self._received

    def one_done(self) -> None:
        """One more jar is there and right."""
        with self._guard:
            self._done += 1
            self._tell()

    def _received(self, count: int) -> None:
        if self.stopped:
            raise _StoppedError
        with self._guard:
            before, self._bytes = self._bytes, self._bytes + count
            if before >> 18 != self._bytes >> 18:  # every 256 KiB
                self._tell()

    def _tell(self) -> None:
        detail = f"{self._done} of {self._total}, {self._bytes / 1e6:.0f} MB"
        self._progress(Progress(STEP, self._done, self._total, detail))


@contextmanager
def _alone(repository: Path) -> Iterator[None]:
    """One process at a time fetches into `repository`; the others wait."""
    try:
        repository.mkdir(parents=True, exist_ok=True)
        file = (repository / ".inferwatch.lock").open("w")
    except OSError as error:
        raise EmbeddedError(
            f"cannot write to {repository} ({error.strerror}); set M2_REPO to a directory that can be written"
        ) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
