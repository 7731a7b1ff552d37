"""Notifications on their way: a queue and a task for each recipient; one that fails or hangs delays only itself.

What may work later is tried again with growing waits, up to a limit; then it is given up, and that is reported. At
least once: after a failure that may have arrived, the same is sent again with the same idempotency key.
"""

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from pipeline.core.notifying.notification import Notification, Reason
from pipeline.core.notifying.recipients import RecipientKind, kind_of, redacted
from pipeline.edge import metrics
from pipeline.edge.notification.outcome import Failed, Outcome, Sender, Sent

log = structlog.get_logger()

Done = Callable[[Notification, Outcome], None]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to try."""

    attempt_s: float = 30.0  # one attempt
    wait_s_first: float = 1.0
    wait_s_max: float = 60.0
    give_up_s: float = 3600.0
    resent_give_up_s: float = 50.0  # of what is sent anew every minute anyway
    queue_max: int = 200  # of one recipient
    idle_s: float = 60.0  # then its task ends


class Delivery:
    """Sends what it is given. `done` is called once for each notification, with what became of it."""

    def __init__(self, senders: Mapping[RecipientKind, Sender], done: Done, patience: Patience | None = None) -> None:
        """One sender for each kind of recipient."""
        self._senders, self._done, self._patience = senders, done, patience or Patience()
        self._queues: dict[str, asyncio.Queue[Notification]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

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
            self._tasks[recipient].add_done_callback(self._ended)

    @property
    def waiting(self) -> int:
        """Notifications that are not done yet, but those under way."""
        return sum(queue.qsize() for queue in self._queues.values())

    async def watch(self) -> None:
        """Waits until something breaks that nobody expected, and raises it."""
        await asyncio.shield(self._broken)

    async def stop(self) -> None:
        """Drops what is left: it is in the notifier's outbox."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._broken.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._broken.done():
            self._broken.set_exception(error)

    async def _serve(self, recipient: str, queue: asyncio.Queue[Notification]) -> None:
        while True:
            try:
                async with asyncio.timeout(self._patience.idle_s):
                    notification = await queue.get()
            except TimeoutError:
                if queue.empty():  # nothing awaits between this and the end
                    del self._queues[recipient], self._tasks[recipient]
                    return
                continue
            self._finish(notification, await self._deliver(notification))

    async def _deliver(self, notification: Notification) -> Outcome:
        patience = self._patience
        resent = notification.reason is Reason.RESENT
        give_up_s = time.monotonic() + (patience.resent_give_up_s if resent else patience.give_up_s)
        wait_s = patience.wait_s_first
        while True:
            outcome = await self._attempt(notification)
            if isinstance(outcome, Sent) or not outcome.recoverable or time.monotonic() + wait_s > give_up_s:
                return outcome
            metrics.NOTIFICATION_RETRIES.labels(kind_of(notification.recipient).value).inc()
            await asyncio.sleep(wait_s * random.uniform(0.8, 1.2))  # noqa: S311 - so that not all come at once
            wait_s = min(2 * wait_s, patience.wait_s_max)

    async def _attempt(self, notification: Notification) -> Outcome:
        try:
            async with asyncio.timeout(self._patience.attempt_s):
                return await self._senders[kind_of(notification.recipient)].send(notification)
        except TimeoutError:
            return Failed(True, "no answer in time")

    def _finish(self, notification: Notification, outcome: Outcome) -> None:
        kind = kind_of(notification.recipient).value
        if isinstance(outcome, Failed):
            log.error(
                "notification_failed",
                recipient=redacted(notification.recipient),
                group=notification.group,
                reason=outcome.reason,
                events=[event.id for event in notification.events[:10]],
            )
        metrics.NOTIFICATIONS.labels(kind, metrics.SENT if isinstance(outcome, Sent) else metrics.FAILED).inc()
        self._done(notification, outcome)
