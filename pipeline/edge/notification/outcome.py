"""What became of sending one notification, and what a sender is."""

from dataclasses import dataclass
from typing import Protocol

from pipeline.core.notifying.notification import Notification


@dataclass(frozen=True, slots=True)
class Sent:
    """The other side has taken it."""


@dataclass(frozen=True, slots=True)
class Failed:
    """It has not, as far as is known. The reason holds no secret."""

    recoverable: bool  # it may work later
    reason: str
    wait_s: float = 0.0  # so long the other side wants to hear nothing


Outcome = Sent | Failed


class Sender(Protocol):
    """One way to reach people or machines."""

    async def send(self, notification: Notification) -> Outcome:
        """Tries once."""
