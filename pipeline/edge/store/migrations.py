"""Brings a database to the tables and views that this code knows: numbered SQL files, forward only, each recorded.

Every statement may run twice and by two at once. What stands in braces in the SQL is told in ddl.py. Retention follows
the settings, on every run.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources

from pipeline.config.sections import StoreSettings
from pipeline.edge.store import ddl
from pipeline.edge.store.client import ClickHouse, ClickHouseRefused

_FILE = re.compile(r"(\d{4})_\w+\.sql")
_TTL = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+).*^TTL (.+) \+ toIntervalDay\((\d+)\)$", re.MULTILINE | re.DOTALL)
_DAYS = re.compile(r"\bTTL .*toIntervalDay\((\d+)\)")

_RECORD = """
CREATE TABLE IF NOT EXISTS schema_migrations {cluster}
(
    version    UInt32,
    name       String,
    checksum   String,
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = {engine:ReplacingMergeTree}
ORDER BY version
SETTINGS {deduplication}
"""


class MigrationError(Exception):
    """The database cannot be brought to what this code knows; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One SQL file."""

    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file, before any setting is filled in."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def statements(self, settings: StoreSettings) -> list[str]:
        """The SQL to run, in order. Raises MigrationError for a name that is no setting."""
        try:
            return ddl.statements(self.text, settings)
        except ddl.TemplateError as error:
            raise MigrationError(f"{self.name}: {error}") from error


def known_migrations() -> tuple[Migration, ...]:
    """The migrations that came with this code, in order."""
    found = sorted(
        (file for file in resources.files("schemas.clickhouse").iterdir() if _FILE.fullmatch(file.name)),
        key=lambda file: file.name,
    )
    known = tuple(
        Migration(int(file.name[:4]), file.name.removesuffix(".sql"), file.read_text("utf-8")) for file in found
    )
    assert [m.version for m in known] == list(range(1, len(known) + 1)), "numbers without a gap, each once"
    return known


def missing_migrations(known: Sequence[Migration], recorded: Mapping[int, str]) -> list[Migration]:
    """What is still to be applied, where `recorded` is version -> checksum.

    Raises MigrationError if the database has a version that is unknown here, or one whose file has changed since.
    """
    newer = max(recorded, default=0)
    if newer > len(known):
        raise MigrationError(
            f"the database is at migration {newer}, this version of inferwatch knows {len(known)}: "
            "use the newer inferwatch that migrated it"
        )
    for migration in known:
        if recorded.get(migration.version, migration.checksum) != migration.checksum:
            raise MigrationError(
                f"{migration.name} was applied with another content than it has now "
                "(its checksum in schema_migrations differs): install the version that it came from, "
                "or put a change into a new migration"
            )
    return [m for m in known if m.version not in recorded]


async def migrate(settings: StoreSettings, known: Sequence[Migration] | None = None) -> list[str]:
    """Bring the database to `known` (default: what came with this code); a line for each thing done now.

    Raises MigrationError or ClickHouseUnavailable. What was applied until then stays; the next run goes on there.
    """
    known = known_migrations() if known is None else known
    with explained(settings.clickhouse_database):
        await _create_database(settings)
        async with ClickHouse(settings, "admin") as store:
            (record,) = ddl.statements(_RECORD, settings)
            await store.do(record)
            missing = missing_migrations(known, await recorded(store))
            applied = [await _apply(store, migration, settings) for migration in missing]
            return applied + await _follow_retention(store, settings, known)


@contextmanager
def explained(what: str) -> Iterator[None]:
    """What ClickHouse refuses in here becomes one line that begins with `what`."""
    try:
        yield
    except ClickHouseRefused as error:
        raise MigrationError(f"{what}: {error}") from error


async def has_tables(settings: StoreSettings) -> bool:
    """Whether any migration was ever applied, or begun."""
    sql = "SELECT count() FROM system.tables WHERE database = {database:String} AND name = 'schema_migrations'"
    async with ClickHouse(settings, "admin", database="default") as store:
        ((count,),) = await store.ask(sql, {"database": settings.clickhouse_database})
        return bool(count)


async def recorded(store: ClickHouse) -> dict[int, str]:
    """The checksum of each migration that was applied, by its version."""
    rows = await store.ask("SELECT version, argMin(checksum, applied_at) FROM schema_migrations GROUP BY version")
    return {int(version): str(checksum) for version, checksum in rows}


async def _create_database(settings: StoreSettings) -> None:
    name = settings.clickhouse_database
    async with ClickHouse(settings, "admin", database="default") as store:
        # Asked first: a user who may do everything inside one database may not say CREATE DATABASE, even to no effect.
        if not await store.ask("SELECT 1 FROM system.databases WHERE name = {name:String}", {"name": name}):
            await store.do(f"CREATE DATABASE IF NOT EXISTS `{name}`{ddl.on_cluster(settings)}")


async def _apply(store: ClickHouse, migration: Migration, settings: StoreSettings) -> str:
    with explained(migration.name):
        for statement in migration.statements(settings):
            await store.do(statement)
        row = (migration.version, migration.name, migration.checksum)
        await store.put("schema_migrations", ("version", "name", "checksum"), [row])
    return migration.name


async def _follow_retention(store: ClickHouse, settings: StoreSettings, known: Sequence[Migration]) -> list[str]:
    """Set the TTL of each table that has another one than the settings say; one line for each."""
    tables = await store.ask("SELECT name, engine_full FROM system.tables WHERE database = currentDatabase()")
    engines = {str(name): str(engine) for name, engine in tables}
    changed = []
    for table, column, days in (
        ttl for migration in known for statement in migration.statements(settings) for ttl in _TTL.findall(statement)
    ):
        now = _DAYS.search(engines.get(table, ""))
        if table in engines and (now is None or now[1] != days):
            # Not materialized: that would rewrite every part at once. Parts take it up as they merge.
            ttl = f"ALTER TABLE {table}{ddl.on_cluster(settings)} MODIFY TTL {column} + toIntervalDay({days})"
            await store.do(ttl, {"materialize_ttl_after_modify": 0})
            changed.append(f"{table} is kept for {days} days")
    return changed
