"""A real ClickHouse server as a child process, with the users admin, writer, reader and query.

Users live in a file: the embedded engine has no writable access storage, so CREATE USER does not work here.
"""

import hashlib
import http.client
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from pipeline.edge.local import EmbeddedError, ProgressCallback, unwatched
from pipeline.edge.local.clickhouse_server import engine_file
from pipeline.edge.local.directory import FreeSpace
from pipeline.edge.local.engine import Engine
from pipeline.edge.local.ports import HOST, PROBE_S
from pipeline.edge.local.process import Child
from pipeline.edge.store import tenancy

MEMORY_BYTES = 3_000_000_000
_CONFIG = """\
<clickhouse>
  <listen_host>{host}</listen_host><http_port>{http}</http_port><tcp_port>{native}</tcp_port>
  <log-level>warning</log-level>
  <logger>
    <level>warning</level><log>{log}</log><errorlog>{error_log}</errorlog><size>20M</size><count>3</count>
  </logger>
  <max_server_memory_usage>{memory}</max_server_memory_usage>
  <mark_cache_size>67108864</mark_cache_size>
  <background_pool_size>2</background_pool_size>
  <background_schedule_pool_size>8</background_schedule_pool_size>
  <merge_tree>
    <!-- the defaults suit a pool of 16: with a small one, merges would stay small and mutations never run -->
    <number_of_free_entries_in_pool_to_lower_max_size_of_merge>1</number_of_free_entries_in_pool_to_lower_max_size_of_merge>
    <number_of_free_entries_in_pool_to_execute_mutation>1</number_of_free_entries_in_pool_to_execute_mutation>
    <number_of_free_entries_in_pool_to_execute_optimize_entire_partition>1</number_of_free_entries_in_pool_to_execute_optimize_entire_partition>
    <min_free_disk_bytes_to_perform_insert>{insert_free}</min_free_disk_bytes_to_perform_insert>
  </merge_tree>
  <!-- on a full disk files of zero length become parts: an insert is refused before, a merge does not begin -->
  <storage_configuration><disks><default><keep_free_space_bytes>{keep_free}</keep_free_space_bytes></default></disks></storage_configuration>
  <timezone>UTC</timezone>
  <users_config>users.xml</users_config>
</clickhouse>
"""
# The engine's own session logs in as `default` without a password, before the listeners open, and with
# max_sessions_for_user=1 it holds the only slot: nobody can come in as `default`.
_USERS = """\
<clickhouse>
  <profiles>
    <default/>
    <own_session><max_sessions_for_user>1</max_sessions_for_user></own_session>
    <reader>
      <readonly>2</readonly>
      <max_execution_time>30</max_execution_time>
      <max_memory_usage>1000000000</max_memory_usage>
      <constraints>
        <max_execution_time><min>1</min><max>120</max></max_execution_time>
        <max_memory_usage><min>1</min><max>1000000000</max></max_memory_usage>
      </constraints>
    </reader>
  </profiles>
  <quotas><default/></quotas>
  <users>
    <default>
      <no_password/><networks><ip>127.0.0.1</ip></networks><profile>own_session</profile><quota>default</quota>
    </default>
{users}
  </users>
</clickhouse>
"""
_USER = """\
    <{name}>
      <password_sha256_hex>{sha256}</password_sha256_hex>
      <networks>{networks}</networks>
      <profile>{profile}</profile><quota>default</quota>{grants}{policies}
    </{name}>"""
_LOCAL = "<ip>127.0.0.1</ip><ip>::1</ip>"


@dataclass(frozen=True, slots=True, repr=False)
class Passwords:
    """Of the users."""

    admin: str
    writer: str
    reader: str
    query: str


def users_xml(passwords: Passwords, databases: Sequence[str], networks: str = _LOCAL) -> str:
    """users.xml: admin may do everything, the others what their names say on `databases` (`name` or `prefix*`).

    query may read only where a whole name is given: row policies know no prefixes.
    """
    named = [name for name in databases if not name.endswith("*")]

    def user(name: str, password: str, profile: str, rights: Sequence[str], policies: str = "") -> str:
        grants = "".join(f"<query>GRANT {right}</query>" for right in rights)
        return _USER.format(
            name=name,
            sha256=hashlib.sha256(password.encode()).hexdigest(),
            networks=networks,
            profile=profile,
            grants=f"\n      <grants>{grants}</grants>" if grants else "",
            policies=policies,
        )

    of_query = [f"SELECT ON {database}.{name}" for database in named for name in tenancy.readable()]
    users = (
        user("admin", passwords.admin, "default", []),
        user("writer", passwords.writer, "default", [f"SELECT, INSERT ON {name}.*" for name in databases]),
        user("reader", passwords.reader, "reader", [f"SELECT ON {name}.*" for name in databases]),
        user("query", passwords.query, "reader", of_query or ["SELECT ON system.one"], _policies(named)),
    )
    return _USERS.format(users="\n".join(users))


def _policies(databases: Sequence[str]) -> str:
    tables = "".join(
        f"<{name}><filter>{escape(condition)}</filter></{name}>" for name, condition in tenancy.policies().items()
    )
    return f"\n      <databases>{''.join(f'<{name}>{tables}</{name}>' for name in databases)}</databases>"


class EmbeddedClickHouse(Engine):
    """The server at 127.0.0.1: HTTP and native ports, data under `directory`."""

    stop_timeout_s = 12.0

    def __init__(
        self,
        directory: Path,
        http_port: int,
        *,
        native_port: int,
        passwords: Passwords,
        databases: Sequence[str],
        logs: Path | None = None,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self.directory, self.http_port, self.native_port = directory.absolute(), http_port, native_port
        self.passwords = passwords
        self._databases, self._memory_bytes = tuple(databases), memory_bytes
        logs = self.directory / "logs" if logs is None else logs.absolute()
        self._server_log, self._error_log = logs / "clickhouse-server.log", logs / "clickhouse-server.err.log"
        super().__init__(
            "clickhouse",
            logs,
            ports=(http_port, native_port),
            own_logs=[self._error_log, self._server_log],
            directory=self.directory,
        )

    @property
    def url(self) -> str:
        """Its HTTP address."""
        return f"http://{HOST}:{self.http_port}"

    def prepare(self, progress: ProgressCallback = unwatched) -> None:
        """Writes config.xml and users.xml (mode 0600; only hashes of passwords)."""
        if engine_file() is None:
            raise EmbeddedError("ClickHouse (chdb-core) is not installed; pip install 'inferwatch[embedded]'")
        (self.directory / "data").mkdir(parents=True, exist_ok=True)
        self._server_log.parent.mkdir(parents=True, exist_ok=True)
        room = FreeSpace.of(self.directory)
        config = _CONFIG.format(
            host=HOST,
            http=self.http_port,
            native=self.native_port,
            # relative, as it is started in its directory: whatever that is called, no syntax is in the way
            log=escape(os.path.relpath(self._server_log, self.directory)),
            error_log=escape(os.path.relpath(self._error_log, self.directory)),
            memory=self._memory_bytes,
            insert_free=room.insert_bytes,
            keep_free=room.merge_bytes,
        )
        for name, text in (("config.xml", config), ("users.xml", users_xml(self.passwords, self._databases))):
            with open(
                os.open(self.directory / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8"
            ) as file:
                file.write(text)

    def _make_child(self) -> Child:
        command = [sys.executable, "-m", "pipeline.edge.local.clickhouse_server", str(self.directory)]
        return Child(command, self.log, hold_stdin=True)

    def answers(self) -> bool:
        """Does `/ping` say Ok?"""
        connection = http.client.HTTPConnection(HOST, self.http_port, timeout=PROBE_S)
        try:
            connection.request("GET", "/ping")
            response = connection.getresponse()
            return response.status == http.HTTPStatus.OK and response.read(10) == b"Ok.\n"
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
