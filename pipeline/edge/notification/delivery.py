"""Notifications on their way: a queue and a task for each recipient; one that fails or hangs delays only itself.

What may work later is tried again with growing waits, and not before the other side wants to hear of us, up to a limit;
then it is given up, and that is reported. At least once: after a failure that may have arrived, the same is sent again
with the same idempotency key. Whatever a sender raises is an outcome of that one message: what is sent comes from an
outbox that is read again after a restart, and would end every worker in turn.
"""

import asyncio
import random
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from pipeline.core.notifying.notification import Notification, TellReason
from pipeline.core.notifying.recipients import RecipientKind, kind_of, redacted
from pipeline.core.words import shown
from pipeline.edge import metrics
from pipeline.edge.notification.outcome import Failed, Outcome, Sender, Sent

log = structlog.get_logger()

_REASON_LENGTH_MAX = 500
Senders = Mapping[RecipientKind, Sender]
ATTEMPT_S = 30.0
Done = Callable[[Notification, Outcome], None]


@dataclass(frozen=True, slots=True)
class SendPatience:
    """How long to try."""

    attempt_s: float = ATTEMPT_S
    wait_s_first: float = 1.0
    wait_s_max: float = 60.0
    give_up_s: float = 3600.0
    resent_give_up_s: float = 50.0  # of what is sent anew every minute anyway
    queue_max: int = 200  # of one recipient
    idle_s: float = 60.0  # then its task ends


class Delivery:
    """Sends what it is given. `done` is called once for each notification, with what became of it."""

    def __init__(self, senders: Senders, done: Done, patience: SendPatience | None = None) -> None:
        """One sender for each kind of recipient."""
        self._senders, self._done, self._patience = senders, done, patience or SendPatience()
        self._queues: dict[str, asyncio.Queue[Notification]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def put(self, notification: Notification) -> None:
        """Takes a notification; never waits. A recipient with too many already does not get it."""
        recipient = notification.recipient
        queue = self._queues.setdefault(recipient, asyncio.Queue(self._patience.queue_max))
        try:
            queue.put_nowait(notification)
        except asyncio.QueueFull:
            self._finish(notification, Failed(False, "too many are waiting for this recipient"))
            return
        if recipient not in self._tasks:
            self._tasks[recipient] = asyncio.create_task(self._serve(recipient, queue))

    @property
    def waiting(self) -> int:
        """Notifications that are not done yet, but those under way."""
        return sum(queue.qsize() for queue in self._queues.values())

    async def stop(self) -> None:
        """Drops what is left: it is in the notifier's outbox."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, recipient: str, queue: asyncio.Queue[Notification]) -> None:
        free_s = 0.0  # before then the other side wants to hear nothing
        while True:
            try:
                async with asyncio.timeout(self._patience.idle_s):
                    notification = await queue.get()
            except TimeoutError:
                if queue.empty() and _now_s() >= free_s:  # nothing awaits between this and the end
                    del self._queues[recipient], self._tasks[recipient]
                    return
                continue
            outcome, free_s = await self._deliver(notification, free_s)
            self._finish(notification, outcome)

    async def _deliver(self, notification: Notification, free_s: float) -> tuple[Outcome, float]:
        """What became of it, and when the other side wants to hear of us again."""
        patience = self._patience
        resent = notification.reason is TellReason.RESENT
        give_up_s = _now_s() + (patience.resent_give_up_s if resent else patience.give_up_s)
        wait_s = patience.wait_s_first
        outcome: Outcome = Failed(True, "it asked to be left alone for longer than is tried")
        retry_s = free_s
        while retry_s <= give_up_s:
            await asyncio.sleep(retry_s - _now_s())
            outcome = await attempt(self._senders, notification, patience.attempt_s)
            if isinstance(outcome, Sent) or not outcome.recoverable:
                break
            metrics.NOTIFICATION_RETRIES.labels(kind_of(notification.recipient).value).inc()
            free_s = _now_s() + min(outcome.wait_s, patience.give_up_s)
            # At random, so that not all come at once.
            retry_s = max(free_s, _now_s() + wait_s * random.uniform(0.8, 1.2))  # noqa: S311
            wait_s = min(2 * wait_s, patience.wait_s_max)
        return outcome, free_s

    def _finish(self, notification: Notification, outcome: Outcome) -> None:
        kind = kind_of(notification.recipient).value
        if isinstance(outcome, Failed):
            outcome = replace(outcome, reason=shown(outcome.reason)[:_REASON_LENGTH_MAX])  # it becomes an alert
            log.error(
                "notification_failed",
                recipient=redacted(notification.recipient),
                group=notification.group,
                reason=outcome.reason,
                events=[event.id for event in notification.events[:10]],
            )
        metrics.NOTIFICATIONS.labels(kind, metrics.SENT if isinstance(outcome, Sent) else metrics.FAILED).inc()
        try:
            self._done(notification, outcome)
        except Exception as error:  # it stays in the outbox, and the others are still sent
            _raised(notification, error)


async def attempt(senders: Senders, notification: Notification, timeout_s: float) -> Outcome:
    """What became of sending it once. Never raises, unless it is cancelled."""
    try:
        async with asyncio.timeout(timeout_s):
            return await senders[kind_of(notification.recipient)].send(notification)
    except TimeoutError:
        return Failed(True, "no answer in time")
    except asyncio.CancelledError as error:
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise
        return _raised(notification, error)
    except Exception as error:
        return _raised(notification, error)


def _raised(notification: Notification, error: BaseException) -> Failed:
    """Where, but not the error's text: it may hold an address with its key, or what others wrote."""
    places = [
        f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
    ]
    what = type(error).__name__
    log.error("sender_raised", recipient=redacted(notification.recipient), error=what, places=places[-4:])
    return Failed(False, f"it cannot be sent: {what}, a mistake of ours")


def _now_s() -> float:
    """The loop's time, which never goes back: in the simulation it is the small world's."""
    return asyncio.get_running_loop().time()
