"""docker-compose.yml without a container engine: every service's command and environment as a plain process.

What a container has and a process has not is put in its place: a host name and its port become 127.0.0.1 and a free
port, a volume becomes a folder. Our own services run what the Dockerfile installs; Kafka and ClickHouse run as the
embedded engines with the settings that the compose file gives them; Prometheus and Alertmanager run where their Debian
packages are installed. Grafana cannot run here.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.edge.local.clickhouse import EmbeddedClickHouse, Passwords
from pipeline.edge.local.kafka import EmbeddedKafka
from pipeline.edge.local.ports import HOST, free_port, free_ports
from pipeline.edge.local.process import Child
from schemas.roles import WEB
from tests.deployment import ROOT, Service, in_order, services
from tests.integration.image import Installed
from tests.integration.workers import eventually

KAFKA_PORTS = (19092, 9092, 9093)
WORKER_PORT = 6066
PROGRAMS = {"prometheus": ("prometheus",), "alertmanager": ("prometheus-alertmanager", "alertmanager")}  # names of each


class ComposedKafka(EmbeddedKafka):
    """The embedded Kafka, with the settings of the service `kafka`, as its image makes them of the environment."""

    def __init__(self, directory: Path, ports: Mapping[int, int], environment: Mapping[str, str]) -> None:
        super().__init__(directory, ports[19092], controller_port=ports[9093])
        settings = {
            name.removeprefix("KAFKA_").lower().replace("_", "."): text
            for name, text in environment.items()
            if name.startswith("KAFKA_") and name != "KAFKA_HEAP_OPTS"
        }
        for name in ("listeners", "advertised.listeners", "controller.quorum.voters"):
            settings[name] = re.sub(
                r"(://|@)[\w.]*:(\d+)", lambda found: f"{found[1]}{HOST}:{ports[int(found[2])]}", settings[name]
            )
        assert settings["log.dirs"] == "/var/lib/kafka/data"
        settings["log.dirs"] = str(directory / "data")
        self._composed = "".join(f"{name}={text}\n" for name, text in settings.items())

    def _format(self) -> None:  # when all is prepared, and nothing has read the settings
        (self.directory / "server.properties").write_text(self._composed)
        super()._format()


class ComposedClickHouse(EmbeddedClickHouse):
    """The embedded ClickHouse, with deploy/clickhouse on top: its admin is the one of users.d."""

    def prepare(self, progress: Callable[..., None] = lambda *_: None) -> None:
        super().prepare(progress)
        users = self.directory / "users.xml"
        users.write_text(re.sub(r"<admin>.*?</admin>", "", users.read_text(), flags=re.DOTALL))
        for name in ("config.d", "users.d"):
            shutil.copytree(ROOT / "deploy" / "clickhouse" / name, self.directory / name, dirs_exist_ok=True)
        # the engine's own session needs `default`; nobody else can come in as it
        admin = self.directory / "users.d" / "admin.xml"
        text = admin.read_text()
        assert '<default remove="1"/>' in text
        admin.write_text(text.replace('<default remove="1"/>', ""))


class Composition:
    """The services, started in the order in which they need one another."""

    def __init__(self, folder: Path, installed: Installed) -> None:
        self.folder, self._installed = folder, installed
        self.kafka_ports = dict(zip(KAFKA_PORTS, free_ports(len(KAFKA_PORTS)), strict=True))
        self.services = {name: s for name, s in services().items() if name not in PROGRAMS or program(name)}
        del self.services["grafana"]
        self.ports = {name: free_port() for name in self.services}
        self.started: list[str] = []  # in this order
        self.children: dict[str, Child] = {}
        self.stopped = False
        clickhouse = self.services["clickhouse"].environment
        os.environ["CLICKHOUSE_ADMIN_PASSWORD"] = clickhouse["CLICKHOUSE_ADMIN_PASSWORD"]  # read by users.d/admin.xml
        tables = self.services["tables"].environment
        self.kafka = ComposedKafka(folder / "kafka", self.kafka_ports, self.services["kafka"].environment)
        self.clickhouse = ComposedClickHouse(
            folder / "clickhouse",
            self.ports["clickhouse"],
            native_port=free_port(),
            passwords=Passwords(
                admin="",
                writer=tables["INFERWATCH_CLICKHOUSE_PASSWORD"],
                reader=tables["INFERWATCH_CLICKHOUSE_READER_PASSWORD"],
                query=tables["INFERWATCH_CLICKHOUSE_QUERY_PASSWORD"],
            ),
            databases=["inferwatch"],
        )

    def start(self) -> None:
        """Everything; returns when every health check is content."""
        for service in in_order(self.services):
            for needed, condition in service.needs.items():
                if needed in self.services:
                    self._await(self.services[needed], condition)
            self._start(service)
            self.started.append(service.name)
        for service in self.services.values():
            if service.health:
                self._await(service, "service_healthy")

    def _start(self, service: Service) -> None:
        if service.name == "kafka":
            self.kafka.prepare()
            self.kafka.spawn()
        elif service.name == "clickhouse":
            self.clickhouse.prepare()
            self.clickhouse.spawn()
        else:
            command = self._installed.command(service.command) if service.is_ours else self._program(service)
            self.children[service.name] = Child(
                command, self.folder / "logs" / f"{service.name}.log", cwd=Path("/"), environ=self.environment(service)
            )

    def environment(self, service: Service) -> dict[str, str]:
        """A service's environment, with addresses as they are here."""
        own = {name: self.here(text) for name, text in service.environment.items()}
        return self._installed.environment | own | {"INFERWATCH_WEB_PORT": str(self.ports[service.name])}

    def here(self, text: str) -> str:
        """A text with the services' host names and ports as they are here."""
        text = text.replace("kafka:19092", f"{HOST}:{self.kafka_ports[19092]}")
        for name, port in (("clickhouse", 8123), ("alertmanager", 9093), ("prometheus", 9090)):
            if name in self.ports:
                text = text.replace(f"{name}:{port}", f"{HOST}:{self.ports[name]}")
        return text

    def _program(self, service: Service) -> list[str]:
        """The command of Prometheus or Alertmanager, with its volumes as folders."""
        command = [*service.command, f"--web.listen-address={HOST}:{self.ports[service.name]}"]
        for volume in service.says["volumes"]:
            source, target = volume.split(":")[:2]
            folder = self.folder / service.name / target.strip("/")
            if source.startswith("."):
                shutil.copytree(ROOT / source, folder)
                self._localize(folder)
            else:
                folder.mkdir(parents=True)
            command = [re.sub(rf"={target}(?=/|$)", f"={folder}", part) for part in command]
        return [program(service.name), *command]

    def _localize(self, folder: Path) -> None:
        """Configuration files of Prometheus: no DNS here knows the workers, so they stand in a file of targets."""
        for file in folder.glob("*.yml"):
            text = self.here(file.read_text()).replace("localhost:9090", f"{HOST}:{self.ports['prometheus']}")
            file.write_text(text.replace("_interval: 15s", "_interval: 1s"))
        if not (folder / "prometheus.yml").exists():
            return
        targets = folder / "targets"
        targets.mkdir()
        (targets / "here.yml").write_text(
            "".join(
                f"- targets: ['{HOST}:{self.ports[name]}']\n  labels: {{role: {name}}}\n" for name in self.worker_names
            )
        )

    @property
    def worker_names(self) -> list[str]:
        """The services that are workers, and the HTTP side."""
        return [name for name, service in self.services.items() if service.command[:1] in (["worker"], [WEB])]

    def healthy(self, service: Service) -> bool:
        """What the service's own health check says, run as it stands."""
        command = [self._local_health(service, part) for part in service.health]
        if service.is_ours:
            command = self._installed.confined(command)
        done = subprocess.run(command, env=self.environment(service), cwd="/", capture_output=True, timeout=30)
        return done.returncode == 0

    def _local_health(self, service: Service, text: str) -> str:
        if service.name == "kafka":
            return text.replace(f"{HOST}/19092", f"{HOST}/{self.kafka_ports[19092]}")
        return re.sub(rf"{re.escape(HOST)}:\d+", f"{HOST}:{self.ports[service.name]}", text)

    def _await(self, service: Service, condition: str) -> None:
        if condition == "service_completed_successfully":
            child = self.children[service.name]
            eventually(lambda: child.returncode is not None, 60, f"{service.name} ends", child.said)
            assert child.returncode == 0, f"{service.name}: {child.said()}"
        else:
            assert condition == "service_healthy"
            eventually(lambda: self.healthy(service), 60, f"{service.name} is healthy", lambda: self.said(service.name))

    def run(self, service: Service, command: Sequence[str]) -> str:
        """What a verb prints, as `docker compose run` runs it in a service's place."""
        done = self._installed.run(command, self.environment(service))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def said(self, name: str) -> str:
        """The end of a service's log."""
        return self.children[name].said()[-3000:] if name in self.children else ""

    def check(self) -> None:
        """No service has ended by itself."""
        for name, child in self.children.items():
            assert child.returncode is None or self.services[name].runs_once, f"{name} has ended: {self.said(name)}"

    def stop(self) -> dict[str, int | None]:
        """Ends all in the opposite order; the exit codes of those that do not end by themselves."""
        self.check()
        self.stopped = True
        codes: dict[str, int | None] = {}
        for name in reversed(self.started):
            if name in self.children and not self.services[name].runs_once:
                willing = self.children[name].stop(20)
                codes[name] = self.children[name].returncode if willing else None
        for engine in (self.clickhouse, self.kafka):
            assert engine.stop(), f"{engine.name} had to be killed"
        return codes

    def kill(self) -> None:
        """Whatever is left."""
        for child in self.children.values():
            child.kill9()
        self.clickhouse.kill9()
        self.kafka.kill9()


def program(name: str) -> str:
    """Where the Debian package of a service has its program; '' where it is not installed."""
    return next((found for one in PROGRAMS[name] if (found := shutil.which(one))), "")


@contextmanager
def composition(folder: Path, installed: Installed) -> Iterator[Composition]:
    """All services, started; none outlives this."""
    running = Composition(folder, installed)
    try:
        running.start()
        yield running
    finally:
        running.kill()
        os.environ.pop("CLICKHOUSE_ADMIN_PASSWORD", None)
