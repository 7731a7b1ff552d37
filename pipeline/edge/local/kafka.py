"""A real Apache Kafka: one KRaft node (broker and controller in one process) as a child."""

import os
import shutil
import socket
import struct
import subprocess
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path

from pipeline.edge.local import EmbeddedError, Progress, ProgressCallback, unwatched
from pipeline.edge.local.engine import Engine
from pipeline.edge.local.jars import fetched_jars
from pipeline.edge.local.java import find_java
from pipeline.edge.local.ports import HOST
from pipeline.edge.local.process import Child

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
num.partitions=8
message.max.bytes=4194304
group.initial.rebalance.delay.ms=0
offsets.topic.num.partitions=8
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# one small node: fewer threads, a smaller cleaner buffer than a server in a rack
num.network.threads=2
num.io.threads=4
background.threads=2
log.cleaner.dedupe.buffer.size=16777216
# a killed broker may register again without waiting for its former self to time out
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=2000
"""
_LOG4J = """\
Configuration:
  status: WARN
  Appenders:
    RollingFile:
      name: FILE
      fileName: "{log}"
      filePattern: "{log}.%i"
      PatternLayout: {{pattern: "%d %p %c - %m%n"}}
      Policies: {{SizeBasedTriggeringPolicy: {{size: "20 MB"}}}}
      DefaultRolloverStrategy: {{max: 2}}
  Loggers:
    Root: {{level: WARN, AppenderRef: [{{ref: FILE}}]}}
"""


class EmbeddedKafka(Engine):
    """The broker at 127.0.0.1:`port`, with its data under `directory`."""

    def __init__(self, directory: Path, port: int, *, controller_port: int, logs: Path | None = None) -> None:
        self.directory, self.port, self._controller_port = directory.absolute(), port, controller_port
        logs = self.directory / "logs" if logs is None else logs.absolute()
        self._server_log = logs / "kafka-server.log"
        super().__init__(
            "kafka", logs, ports=(port, controller_port), own_logs=[self._server_log], directory=self.directory
        )
        self._properties = self.directory / "server.properties"
        self._log4j = self.directory / "log4j2.yaml"
        self._tmp = self.directory / "tmp"
        self._java, self._class_path = Path(), ""

    @property
    def bootstrap(self) -> str:
        """host:port for clients."""
        return f"{HOST}:{self.port}"

    def prepare(self, progress: ProgressCallback = unwatched) -> None:
        """Finds Java, fetches the jars, writes the settings, formats the storage (once)."""
        self._java = find_java()
        self._class_path = os.pathsep.join(map(str, fetched_jars(progress)))
        data = self.directory / "data"
        data.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._tmp, ignore_errors=True)
        self._tmp.mkdir()
        self._server_log.parent.mkdir(parents=True, exist_ok=True)
        self._properties.write_text(
            _PROPERTIES.format(host=HOST, port=self.port, controller=self._controller_port, data=data)
        )
        self._log4j.write_text(_LOG4J.format(log=self._server_log))
        if not (data / "meta.properties").exists():
            progress(Progress("Kafka's storage"))
            self._format()
            progress(Progress("Kafka's storage", 1, 1))

    def _format(self) -> None:
        cluster_id = (
            urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
        )  # - reads as an option
        tool = ["kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(self._properties)]
        done = subprocess.run(
            [str(self._java), "-XX:TieredStopAtLevel=1", *self._system_properties(), *tool],
            env=self._environ(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
            raise EmbeddedError(f"kafka cannot format its storage in {self.directory}: {said[-1] if said else '?'}")

    def _system_properties(self) -> list[str]:
        # its own tmp: a killed JVM leaves the native libraries that it unpacked
        return [f"-Djava.io.tmpdir={self._tmp}", f"-Dlog4j2.configurationFile={self._log4j}"]

    def _environ(self) -> dict[str, str]:
        return os.environ | {"CLASSPATH": self._class_path}

    def _make_child(self) -> Child:
        command = [str(self._java), "-Xms256m", "-Xmx768m", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError"]
        command += [*self._system_properties(), "kafka.Kafka", str(self._properties)]
        return Child(command, self.log, cwd=self.directory, environ=self._environ())

    def answers(self) -> bool:
        """Does the broker know itself as a live member of its cluster?"""
        try:
            return broker_count(self.port) > 0
        except (OSError, struct.error):
            return False


def broker_count(port: int) -> int:
    """Live brokers, by one Metadata request (version 4, no topics) on a plain socket: works with or without a loop."""
    client = b"inferwatch"
    request = struct.pack(">hhih", 3, 4, 1, len(client)) + client + struct.pack(">ib", 0, 0)
    with socket.create_connection((HOST, port), timeout=1) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        answer = b""
        while len(answer) < 16:  # size, correlation id, throttle time, number of brokers
            received = connection.recv(16 - len(answer))
            if not received:
                raise ConnectionError("closed")
            answer += received
    count: int = struct.unpack(">iiii", answer)[3]
    return count
