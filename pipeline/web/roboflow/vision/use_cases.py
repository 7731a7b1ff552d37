"""The use cases of all workspaces, as they stand on inference.use-cases now."""

import asyncio
import re
import secrets
from collections.abc import Mapping

import structlog
from msgspec.structs import replace

from pipeline.config import Settings
from pipeline.edge.kafka.compacted import FollowedTopic, write_compacted
from pipeline.edge.kafka.connection import KafkaUnavailable
from pipeline.web.asgi import Refused
from schemas import use_case
from schemas.rejection import Rejected
from schemas.topics import USE_CASES
from schemas.use_case import UseCase, UseCaseStatus

log = structlog.get_logger()

USE_CASES_MAX = 1000  # of a workspace
EXISTS = "exists"
SEEN_WITHIN_S = 10.0
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class UseCases:
    """Follows its topic for as long as `work` runs."""

    def __init__(self, settings: Settings, topic: FollowedTopic) -> None:
        self._settings, self._topic = settings, topic
        self._version = -1
        self._known: dict[str, dict[str, UseCase]] = {}

    async def work(self) -> None:
        """For ever."""
        await self._topic.follow_forever()

    def not_ready(self) -> list[str]:
        """Why it does not work; empty when it does."""
        return [] if self._topic.ready.is_set() else ["the use cases are not read yet"]

    def of(self, workspace: str) -> Mapping[str, UseCase]:
        """Those of a workspace by id. Raises Refused (503) at the very start."""
        if not self._topic.ready.is_set():
            raise Refused(503, "not_ready", "use cases are not read yet", retry_after_s=1)
        if self._version != self._topic.version:
            self._version = self._topic.version
            self._read()
        return self._known.get(workspace, {})

    def one(self, workspace: str, use_case_id: str) -> UseCase:
        """That one. Raises Refused: 404, 503."""
        found = self.of(workspace).get(use_case_id)
        if found is None:
            raise Refused(404, "unknown_use_case", f"there is no use case {use_case_id[:256]!r} in this workspace")
        return found

    async def create(self, workspace: str, name: str, now_ms: int, use_case_id: str | None = None) -> UseCase:
        """A new one. Raises Refused: 400, 409, 503."""
        known = self.of(workspace)
        made = use_case_id or f"{_slug(name)}-{secrets.token_hex(3)}"
        if not _ID.fullmatch(made):
            raise Refused(400, "out_of_range", "id: letters, digits, dots, _ and -, at most 128")
        if made in known:
            raise Refused(409, EXISTS, f"there is a use case {made} already")
        if len(known) >= USE_CASES_MAX:
            raise Refused(409, "too_many", f"a workspace may have {USE_CASES_MAX} use cases")
        found = UseCase(workspace=workspace, id=made, name=checked(name), created_at_ms=now_ms)
        await self._put(found)
        return found

    async def rename(self, one: UseCase, name: str) -> UseCase:
        """Under another name. Raises Refused: 400, 503."""
        changed = replace(one, name=checked(name))
        await self._put(changed)
        return changed

    async def set_status(self, one: UseCase, status: UseCaseStatus) -> None:
        """In use, or not any more. Raises Refused: 503."""
        await self._put(replace(one, status=status))

    async def _put(self, one: UseCase) -> None:
        """Returns once this process has heard of it itself: who is answered can use it."""
        key, value = use_case.record_key(one.workspace, one.id), use_case.encode(one)
        try:
            async with asyncio.timeout(SEEN_WITHIN_S):
                await write_compacted(self._settings, self._settings.topic(USE_CASES.name), {key: value})
                while self._topic.values.get(key) != value:
                    await asyncio.sleep(0.05)
        except (KafkaUnavailable, TimeoutError):
            raise Refused(503, "kafka_unavailable", "Kafka does not answer", retry_after_s=2) from None

    def _read(self) -> None:
        self._known = {}
        for key, raw in self._topic.values.items():
            match use_case.decode(key, raw):
                case UseCase() as found:
                    self._known.setdefault(found.workspace, {})[found.id] = found
                case Rejected() as why:
                    log.warning("use_case_refused", key=key.decode(errors="replace"), reason=why.reason.value)


def checked(name: object) -> str:
    """A name that can be one. Raises Refused (400)."""
    if not isinstance(name, str) or not 1 <= len(name.strip()) <= 256:
        raise Refused(400, "out_of_range", "name: a text of 1 to 256 characters")
    return name.strip()


def _slug(name: object) -> str:
    return re.sub(r"[^a-z0-9]+", "-", checked(name).lower()).strip("-")[:60] or "use-case"
