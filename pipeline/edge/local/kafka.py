"""A real Apache Kafka: one KRaft node (broker and controller in one process) as a child.

It is started in its directory and reads relative paths only: a path in a .properties file, in YAML or in a list would
need the escapes of each, and a comma in `log.dirs` has none.
"""

import io
import json
import os
import random
import shutil
import socket
import struct
import subprocess
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import BinaryIO

from pipeline.edge.local import EmbeddedError, Progress, ProgressCallback, unwatched
from pipeline.edge.local.engine import Engine, complaint
from pipeline.edge.local.jars import fetched_jars
from pipeline.edge.local.java import find_java
from pipeline.edge.local.ports import HOST, PROBE_S
from pipeline.edge.local.process import Child

_ANSWER_BYTES_MAX = 1_000_000
_SETTINGS = "server.properties"
_LOGGING = "log4j2.yaml"
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=data
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
"""
_LOG4J = """\
Configuration:
  status: WARN
  Appenders:
    RollingFile:
      name: FILE
      fileName: {log}
      filePattern: {pattern}
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
        self._tmp = self.directory / "tmp"
        self._java, self._class_path = Path(), ""

    @property
    def bootstrap(self) -> str:
        """host:port for clients."""
        return f"{HOST}:{self.port}"

    def prepare(self, progress: ProgressCallback = unwatched) -> None:
        """Finds Java, fetches the jars, writes the settings, formats the storage (once)."""
        try:
            str(self.directory).encode()
        except UnicodeEncodeError as error:
            name = os.fsencode(self.directory).decode(errors="backslashreplace")
            raise EmbeddedError(f"Java cannot use {name}: its name is not UTF-8; choose another directory") from error
        self._java = find_java()
        self._class_path = os.pathsep.join(map(str, fetched_jars(progress)))
        data = self.directory / "data"
        data.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._tmp, ignore_errors=True)
        self._tmp.mkdir()
        self._server_log.parent.mkdir(parents=True, exist_ok=True)
        (self.directory / _SETTINGS).write_text(
            _PROPERTIES.format(host=HOST, port=self.port, controller=self._controller_port), encoding="ascii"
        )
        log = os.path.relpath(self._server_log, self.directory)
        (self.directory / _LOGGING).write_text(
            _LOG4J.format(log=json.dumps(log), pattern=json.dumps(log + ".%i")), encoding="ascii"
        )
        if not (data / "meta.properties").exists():
            progress(Progress("Kafka's storage"))
            self._format()
            progress(Progress("Kafka's storage", 1, 1))

    def _format(self) -> None:
        cluster_id = (
            urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
        )  # - reads as an option
        tool = ["kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", _SETTINGS]
        done = subprocess.run(
            [str(self._java), "-XX:TieredStopAtLevel=1", *self._system_properties(), *tool],
            cwd=self.directory,
            env=self._environ(),
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode != 0:
            why = complaint(done.stderr) or complaint(done.stdout) or f"exit code {done.returncode}"
            raise EmbeddedError(f"kafka cannot format its storage in {self.directory}: {why}")

    def _system_properties(self) -> list[str]:
        # its own tmp: a killed JVM leaves the native libraries that it unpacked
        return [f"-Djava.io.tmpdir={self._tmp}", f"-Dlog4j2.configurationFile={_LOGGING}"]

    def _environ(self) -> dict[str, str]:
        # Java reads names of files as the locale says: with another one it cannot say the name of its own directory
        return os.environ | {"CLASSPATH": self._class_path, "LC_ALL": "C.UTF-8"}

    def _make_child(self) -> Child:
        command = [str(self._java), "-Xms256m", "-Xmx768m", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError"]
        command += [*self._system_properties(), "kafka.Kafka", _SETTINGS]
        return Child(command, self.log, cwd=self.directory, environ=self._environ())

    def answers(self) -> bool:
        """Does the broker know itself as a live member of its cluster?"""
        try:
            return (HOST, self.port) in live_brokers(self.port)
        except (OSError, ValueError):
            return False


def live_brokers(port: int, timeout_s: float = PROBE_S) -> list[tuple[str, int]]:
    """Addresses of the live brokers, by one Metadata request on a plain socket: works with or without a loop.

    Raises ValueError when what answers is no Kafka.
    """
    mark = random.getrandbits(31)
    client = b"inferwatch"
    request = struct.pack(">hhih", 3, 4, mark, len(client)) + client + struct.pack(">ib", 0, 0)  # version 4, no topics
    with socket.create_connection((HOST, port), timeout=timeout_s) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        with connection.makefile("rb") as answer:
            (size,) = struct.unpack(">i", _exactly(answer, 4))
            if not 12 <= size <= _ANSWER_BYTES_MAX:
                raise ValueError(f"no Kafka answers on port {port}: an answer of {size} bytes")
            body = io.BytesIO(_exactly(answer, size))
    correlation, _, count = struct.unpack(">iii", _exactly(body, 12))
    if correlation != mark:
        raise ValueError(f"no Kafka answers on port {port}: the answer is to no question of ours")
    return [_broker(body) for _ in range(count)]


def _broker(body: BinaryIO) -> tuple[str, int]:
    _, length = struct.unpack(">ih", _exactly(body, 6))
    host = _exactly(body, length).decode()
    port, rack = struct.unpack(">ih", _exactly(body, 6))
    _exactly(body, max(0, rack))
    return host, port


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) != count or count < 0:
        raise ValueError("the answer is cut short")
    return data
