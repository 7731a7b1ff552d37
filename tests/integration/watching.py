"""A real Prometheus and a real Alertmanager with the configuration of deploy/, at the workers of a test."""

import json
import shutil
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.edge.local.ports import HOST, free_port
from pipeline.edge.local.process import Child
from tests.integration.workers import eventually

DEPLOY = Path(__file__).parents[2] / "deploy"


def program(*names: str) -> str:
    """Where it is; skips the test where it is not."""
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no {names[0]} here: install the Debian packages prometheus and prometheus-alertmanager")
    return found


class Server:
    """One of the two, by its HTTP API."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **query: str) -> Any:
        """What it answers, from JSON; None while it does not."""
        try:
            with urllib.request.urlopen(f"{self.url}{path}?{urllib.parse.urlencode(query)}", timeout=5) as answer:
                body = answer.read()
        except OSError:
            return None
        return json.loads(body) if body[:1] in b"{[" else body

    def data(self, path: str, **query: str) -> Any:
        """The data of an answer of Prometheus' API."""
        answer = self.get(path, **query)
        assert answer is not None, f"{self.url}{path} {query} is not answered"
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """An instant query: labels and value of each series."""
        result = self.data("/api/v1/query", query=expression)["result"]
        return [(series["metric"], float(series["value"][1])) for series in result]


@contextmanager
def alertmanager(directory: Path) -> Iterator[Server]:
    """An Alertmanager with our routes, as they are."""
    binary, port = program("prometheus-alertmanager", "alertmanager"), free_port()
    command = [
        binary,
        f"--config.file={DEPLOY / 'alertmanager' / 'alertmanager.yml'}",
        f"--storage.path={directory / 'alertmanager'}",
        f"--web.listen-address={HOST}:{port}",
        "--cluster.listen-address=",
    ]
    with _running(command, directory / "alertmanager.log", port) as server:
        yield server


@contextmanager
def prometheus(directory: Path, workers: Mapping[str, int], alerts_to: Server | None = None) -> Iterator[Server]:
    """A Prometheus with our configuration and rules, in a hurry. `workers`: the port of each role's."""
    binary, port = program("prometheus"), free_port()
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    del jobs["inferwatch"]["dns_sd_configs"]  # no DNS knows these; they stand in a file of targets
    jobs["prometheus"]["static_configs"] = [{"targets": [f"{HOST}:{port}"]}]
    where = [] if alerts_to is None else [{"targets": [alerts_to.url.removeprefix("http://")]}]
    jobs["alertmanager"]["static_configs"] = where
    config["alerting"]["alertmanagers"] = [{"static_configs": where}]
    home = directory / "prometheus"
    (home / "targets").mkdir(parents=True)
    targets = [{"targets": [f"{HOST}:{at}"], "labels": {"role": role}} for role, at in workers.items()]
    (home / "targets" / "workers.json").write_text(json.dumps(targets))
    shutil.copytree(DEPLOY / "prometheus" / "rules", home / "rules")
    (home / "prometheus.yml").write_text(yaml.safe_dump(config))
    command = [
        binary,
        f"--config.file={home / 'prometheus.yml'}",
        f"--storage.tsdb.path={home / 'data'}",
        "--rules.alert.resend-delay=1s",  # the first alerts come before it has found its Alertmanager, and are dropped
        f"--web.listen-address={HOST}:{port}",
    ]
    with _running(command, directory / "prometheus.log", port) as server:
        yield server


@contextmanager
def _running(command: list[str], log: Path, port: int) -> Iterator[Server]:
    child, server = Child(command, log), Server(f"http://{HOST}:{port}")

    def ready() -> bool:
        assert child.returncode is None, child.said()
        return server.get("/-/ready") is not None

    try:
        eventually(ready, 30, f"{command[0]} answers", child.said)
        yield server
    finally:
        child.stop(5)
