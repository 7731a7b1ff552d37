"""Keys and people as an administrator changes them: read from the topic whole, written a record at a time."""

from collections.abc import Iterable

from pipeline.config import Settings
from pipeline.edge.kafka.client import Kafka
from pipeline.edge.kafka.compacted import read_compacted, write_compacted
from schemas.access import ApiKey, KeyUse, Record, User, decode, encode, record_key
from schemas.rejection import Rejected
from schemas.topics import ACCESS


class NoSuchKeyError(Exception):
    """There is no key of that id."""


class NoSuchUserError(Exception):
    """There is no person of that name."""


class Everybody:
    """All keys and people, as of now."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.keys: dict[str, ApiKey] = {}
        self.used_ms: dict[str, int] = {}
        self.users: dict[str, User] = {}
        for record in records:
            match record:
                case ApiKey():
                    self.keys[record.id] = record
                case KeyUse():
                    self.used_ms[record.id] = record.used_at_ms
                case User():
                    self.users[record.name] = record

    def key(self, key_id: str) -> ApiKey:
        """That one. Raises NoSuchKeyError."""
        if key_id not in self.keys:
            raise NoSuchKeyError(f"there is no key {key_id}; inferwatch keys list shows them")
        return self.keys[key_id]

    def user(self, name: str) -> User:
        """That one. Raises NoSuchUserError."""
        if name not in self.users:
            raise NoSuchUserError(f"there is no user {name}; inferwatch users list shows them")
        return self.users[name]


async def read(settings: Settings, kafka: Kafka) -> Everybody:
    """All of them. Raises KafkaUnavailable."""
    found = await read_compacted(kafka, settings.topic(ACCESS.name))
    decoded = (decode(key, raw) for key, raw in sorted(found.items()))
    return Everybody(record for record in decoded if not isinstance(record, Rejected))


async def put(settings: Settings, record: Record) -> None:
    """Takes it in, in place of the one before. Raises KafkaUnavailable."""
    await write_compacted(settings, settings.topic(ACCESS.name), {record_key(record): encode(record)})


async def delete(settings: Settings, record: ApiKey | User) -> None:
    """Takes it out, and with a key what is known of its use. Raises KafkaUnavailable."""
    gone: dict[bytes, bytes | None] = {record_key(record): None}
    if isinstance(record, ApiKey):
        gone[record_key(KeyUse(id=record.id, used_at_ms=0))] = None
    await write_compacted(settings, settings.topic(ACCESS.name), gone)
