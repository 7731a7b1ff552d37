"""The container image without a container engine: the Dockerfile's own commands, run where its paths lead to a folder.

What is installed then runs as in docker-compose.yml, as far as Linux can do that for a process alone: a read-only root
file system with a small /tmp, no capabilities, no new privileges, and a user that is not root. That takes root.
"""

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.deployment import ROOT, image

_SPECIAL = ("INFERWATCH_", "PYTHON", "PIP_NO_CACHE", "FAUST", "F_")  # what would change a program that we start
_CONFINED = """
set -e
mount -o bind,remount,ro /
mount -t tmpfs -o size=64m,mode=1777 tmpfs /tmp
exec unshare --user --map-user=10001 --map-group=10001 \
  setpriv --pdeathsig KILL --no-new-privs --bounding-set=-all --inh-caps=-all -- "$@"
"""


@dataclass(frozen=True)
class Installed:
    """What the Dockerfile made of this tree."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a process in the container finds: this machine's, and over it the image's."""
        inherited = {name: text for name, text in os.environ.items() if not name.startswith(_SPECIAL)}
        own = {name: self._here(text) for name, text in image().environment.items()}
        return inherited | own | {"PATH": own["PATH"].replace("$PATH", os.environ["PATH"])}

    def command(self, command: Sequence[str]) -> list[str]:
        """The image's entry point with these arguments, confined where that can be done."""
        [program] = image().entrypoint
        return self.confined([str(self.folder / "opt" / "inferwatch" / "bin" / program), *command])

    def confined(self, command: Sequence[str]) -> list[str]:
        """Any command, confined where that can be done."""
        if not can_confine():
            return list(command)
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", _CONFINED, "sh", *command]

    def run(
        self, command: Sequence[str], environ: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """A verb, to its end."""
        return subprocess.run(
            self.command(command),
            env=self.environment | dict(environ or {}),
            cwd="/",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def healthy(self, environ: Mapping[str, str]) -> bool:
        """What the image's health check says of a worker with this environment."""
        command = self.confined(image().health)
        return (
            subprocess.run(command, env=self.environment | dict(environ), cwd="/", capture_output=True).returncode == 0
        )

    def build(self) -> None:
        """The build stage: its sources, its commands."""
        source = self.folder / "src"
        for copied in image().sources:
            if (ROOT / copied).is_dir():
                shutil.copytree(ROOT / copied, source / copied, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                source.mkdir(exist_ok=True)
                shutil.copy2(ROOT / copied, source)
        environ = {name: text for name, text in os.environ.items() if not name.startswith(_SPECIAL)}
        environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"
        for command in image().texts("RUN", 0):
            done = subprocess.run(
                ["sh", "-c", self._here(command)], cwd=source, env=environ, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"

    def _here(self, text: str) -> str:
        """With the image's paths leading into the folder."""
        return text.replace("/opt/inferwatch", f"{self.folder}/opt/inferwatch").replace("/dist", f"{self.folder}/dist")


@functools.cache
def can_confine() -> bool:
    """May we make namespaces here?"""
    if os.getuid() != 0 or not shutil.which("unshare") or not shutil.which("setpriv"):
        return False
    tried = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", _CONFINED, "sh", "true"], capture_output=True
    )
    return tried.returncode == 0


@contextmanager
def installed() -> Iterator[Installed]:
    """The image's content in a folder, for as long as the context is open."""
    # not under /tmp, which is empty for who is confined
    with tempfile.TemporaryDirectory(prefix="inferwatch-image-", dir="/var/tmp") as folder:
        made = Installed(Path(folder))
        made.build()
        yield made
