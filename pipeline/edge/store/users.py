"""The users in ClickHouse: a writer for the workers, a reader for Grafana and people, one that the HTTP side asks as.

The admin makes them. The last may read one workspace at a time (tenancy.py); row policies hide nothing from any other.
"""

import hashlib
from collections.abc import Sequence

from pipeline.config.sections import StoreSettings
from pipeline.edge.store import ddl, tenancy
from pipeline.edge.store.client import ClickHouse, credentials
from pipeline.edge.store.migrations import explained

# readonly = 2: Grafana and our own client set settings of their own, which 1 refuses.
_READER_LIMITS = (
    "SETTINGS readonly = 2 READONLY, max_execution_time = 30 MAX 120, max_memory_usage = 1000000000 MAX 1000000000"
)
_POLICY, _PASS = "inferwatch_workspace", "inferwatch_others"  # names of row policies
_BY_FILES = "users are managed by files here (users.xml): nothing changed"
_FROM_FILES = {"users_xml", "users.xml", "ldap"}


async def ensure_users(settings: StoreSettings) -> list[str]:
    """Create writer, reader and query, or give them their password, limits and rights; one line about each.

    Raises MigrationError if the admin may not, ClickHouseUnavailable if ClickHouse is not there.
    """
    statements, report = statements_for_users(settings)
    with explained("users"):
        async with ClickHouse(settings, "admin", database="default") as store:
            return report if await _carried_out(store, statements) else [_BY_FILES]


async def _carried_out(store: ClickHouse, statements: Sequence[str]) -> bool:
    kinds = await store.ask("SELECT type FROM system.user_directories")
    if all(str(kind) in _FROM_FILES for (kind,) in kinds):
        return False
    for statement in statements:
        await store.do(statement)
    return True


def statements_for_users(settings: StoreSettings) -> tuple[list[str], list[str]]:
    """The SQL, and what to say once it has run."""
    database, cluster = f"`{settings.clickhouse_database}`", ddl.on_cluster(settings)
    statements, report = [], []
    admin, (writer, writer_password) = credentials(settings, "admin")[0], credentials(settings, "writer")
    if admin == writer:
        report.append(f"writer: {writer} is the admin (set INFERWATCH_CLICKHOUSE_ADMIN_USER to keep them apart)")
    else:
        statements += [
            *_user(writer, writer_password, cluster),
            f"GRANT{cluster} SELECT, INSERT ON {database}.* TO {_quoted(writer)}",
        ]
        report.append(f"writer: {writer} may insert and select")
    reader, reader_password = credentials(settings, "reader")
    if not reader_password:
        report.append("reader: not created, it has no password (INFERWATCH_CLICKHOUSE_READER_PASSWORD)")
    elif reader in (admin, writer):
        report.append(f"reader: {reader} is also the writer or the admin (set INFERWATCH_CLICKHOUSE_READER_USER)")
    else:
        statements += [
            *_user(reader, reader_password, cluster, _READER_LIMITS),
            f"GRANT{cluster} SELECT ON {database}.* TO {_quoted(reader)}",
        ]
        report.append(f"reader: {reader} may select")
    query, query_password = credentials(settings, "query")
    if not query_password:
        report.append("query: not created, it has no password (INFERWATCH_CLICKHOUSE_QUERY_PASSWORD)")
    elif query in (admin, writer, reader):
        report.append(f"query: {query} is also another of our users (set INFERWATCH_CLICKHOUSE_QUERY_USER)")
    else:
        statements += [*_user(query, query_password, cluster, _READER_LIMITS), *_bound(query, database, cluster)]
        report.append(f"query: {query} may select, in one workspace at a time")
    return statements, report


def _bound(user: str, database: str, cluster: str) -> list[str]:
    """What that user may read; row policies first. The first one of a table would hide its rows from everybody else."""
    statements = []
    for table, condition in tenancy.policies().items():
        for name, rows, whom in (
            (_PASS, "1", f"ALL EXCEPT {_quoted(user)}"),
            (_POLICY, condition, _quoted(user)),
        ):
            on, what = f"ON {database}.{table}", f"FOR SELECT USING {rows} AS PERMISSIVE TO {whom}"
            statements.append(f"CREATE ROW POLICY IF NOT EXISTS {name}{cluster} {on} {what}")
            statements.append(f"ALTER ROW POLICY {name}{cluster} {on} {what}")
    may = ", ".join(f"SELECT ON {database}.{name}" for name in tenancy.readable())
    return [*statements, f"GRANT{cluster} {may} TO {_quoted(user)}"]


def _user(name: str, password: str, cluster: str, limits: str = "") -> list[str]:
    # Only the hash goes over the wire, into the query log and into error texts.
    how = f"IDENTIFIED WITH sha256_hash BY '{hashlib.sha256(password.encode()).hexdigest()}' {limits}".rstrip()
    return [f"{verb} {_quoted(name)}{cluster} {how}" for verb in ("CREATE USER IF NOT EXISTS", "ALTER USER")]


def _quoted(name: str) -> str:
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"
