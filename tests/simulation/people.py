"""Those who are told: they take a message, or do not, and their answer may be lost."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from pipeline.core.notifying.notification import Notification
from pipeline.core.notifying.recipients import RecipientKind
from pipeline.edge.notification.outcome import Failed, Outcome, Sent
from tests.simulation.loop import now_s, pass_s
from tests.simulation.luck import Luck, Sender

SLOW_S = (0.0, 0.0, 2.0, 6.0)  # until a receiver has taken a message


@dataclass(frozen=True, slots=True)
class Heard:
    """A message that arrived."""

    at_s: float
    by: str  # the worker that sent it
    notification: Notification


class People:
    """All recipients, and what they have heard."""

    def __init__(self, luck: Luck) -> None:
        self._luck = luck
        self.heard: list[Heard] = []

    @asynccontextmanager
    async def senders(self, name: str, sender: Sender) -> AsyncIterator[Mapping[RecipientKind, "Way"]]:
        """The ways out of one worker."""
        yield dict.fromkeys(RecipientKind, Way(self._luck, self, name, sender))


class Way:
    """A sender for any recipient."""

    def __init__(self, luck: Luck, people: People, name: str, sender: Sender) -> None:
        self._luck, self._people, self._name, self._sender = luck, people, name, sender

    async def send(self, notification: Notification) -> Outcome:
        """Tries once."""
        luck = self._luck
        hear = partial(self._hear, notification)
        if luck.stormy:
            await pass_s(luck.rng.choice(SLOW_S))
        if luck.strikes(0.2, "message_lost"):
            await luck.request(self._sender, lambda: None)
            return Failed(True, "lost")
        if luck.strikes(0.04, "message_late"):
            luck.later(hear)
            await luck.request(self._sender, lambda: None)
            return Failed(True, "no answer in time")
        await luck.request(self._sender, hear)
        if luck.strikes(0.15, "message_answer_lost"):
            return Failed(True, "no answer in time")
        return Sent()

    def _hear(self, notification: Notification) -> None:
        self._luck.tell("heard", notification.recipient, notification.reason.name, notification.idempotency_key[:6])
        self._people.heard.append(Heard(now_s(), self._name, notification))
