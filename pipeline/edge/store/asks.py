"""Who can be asked in SQL: a connection as one role, or what asks for one workspace within limits."""

from typing import Any, Protocol


class Asks(Protocol):
    """Something that answers a SELECT."""

    async def ask(self, sql: str, parameters: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """The rows. Raises ClickHouseUnavailable."""
