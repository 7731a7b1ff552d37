"""What the doctor asks ClickHouse about itself, its users and its disks."""

from dataclasses import dataclass

from pipeline.edge.store.client import ClickHouse, ClickHouseRefused


@dataclass(frozen=True, slots=True)
class Identity:
    """Which ClickHouse answers, and what its clock says."""

    version: str
    now_ms: int


@dataclass(frozen=True, slots=True)
class LastHour:
    """The last hour: dead letters by their reason, the most frequent first, and rows of good events."""

    by_reason: dict[str, int]
    good: int


@dataclass(frozen=True, slots=True)
class Parts:
    """The table partition with the most parts."""

    table: str
    partition: str
    count: int


@dataclass(frozen=True, slots=True)
class Disk:
    """Bytes of a disk."""

    name: str
    free: int
    total: int


@dataclass(frozen=True, slots=True)
class Detached:
    """Parts of one table that ClickHouse has put aside because it could not read them."""

    table: str
    count: int
    reasons: str


async def identity(store: ClickHouse) -> Identity:
    """Who is there."""
    ((version, now_ms),) = await store.ask("SELECT version(), toUnixTimestamp64Milli(now64(3))")
    return Identity(version, now_ms)


async def may_select(store: ClickHouse) -> None:
    """Raises ClickHouseRefused where the user may not read our tables."""
    await store.ask("SELECT count() FROM inferences WHERE 0")


async def sees_rows(store: ClickHouse) -> bool:
    """Whether the user sees any row of a workspace. Raises ClickHouseRefused where it may not read our tables."""
    rows = await store.ask("SELECT 1 FROM model_devices LIMIT 1 UNION ALL SELECT 1 FROM inferences LIMIT 1")
    return bool(rows)


async def may_insert(store: ClickHouse) -> bool:
    """Whether the user may; no row is inserted."""
    try:
        await store.do("INSERT INTO dead_letters SELECT * FROM dead_letters WHERE 0")
    except ClickHouseRefused:
        return False
    return True


async def last_hour(store: ClickHouse) -> LastHour:
    """Of the last hour."""
    rows = await store.ask(
        "SELECT toString(reason) AS r, count() AS c FROM dead_letters WHERE ingested_at > now() - 3600 "
        "GROUP BY r ORDER BY c DESC"
    )
    ((good,),) = await store.ask("SELECT count() FROM inferences WHERE ingested_at > now() - 3600")
    return LastHour(dict(rows), good)


async def most_parts(store: ClickHouse) -> Parts | None:
    """None where there is no data yet."""
    rows = await store.ask(
        "SELECT table, partition, count() AS parts FROM system.parts WHERE active "
        "AND database = currentDatabase() GROUP BY table, partition ORDER BY parts DESC LIMIT 1"
    )
    return Parts(*rows[0]) if rows else None


async def disks(store: ClickHouse) -> list[Disk]:
    """All that ClickHouse writes to."""
    return [Disk(*row) for row in await store.ask("SELECT name, unreserved_space, total_space FROM system.disks")]


async def broken_parts(store: ClickHouse) -> list[Detached]:
    """By table; what a person or a merge has put aside is left out."""
    rows = await store.ask(
        "SELECT table, count(), arrayStringConcat(arraySort(groupUniqArray(reason)), ', ') FROM system.detached_parts "
        "WHERE database = currentDatabase() AND (startsWith(reason, 'broken') OR reason IN ('noquorum', 'unexpected')) "
        "GROUP BY table ORDER BY table"
    )
    return [Detached(*row) for row in rows]


async def keeps_room(store: ClickHouse) -> bool:
    """Whether inserts are refused before the disk is full."""
    rows = await store.ask(
        "SELECT 1 FROM system.merge_tree_settings WHERE toFloat64OrZero(value) > 0 AND name IN "
        "('min_free_disk_bytes_to_perform_insert', 'min_free_disk_ratio_to_perform_insert')"
    )
    return bool(rows)
