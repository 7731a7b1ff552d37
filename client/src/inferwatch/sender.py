"""The thread that sends: batches from the queue, retries only what is to be sent again, beats, spools, flushes.

Waits grow from 0.1 s to 30 s while the server is away; the queue's bound holds meanwhile. What cannot be sent goes to
the spool, if there is one, and comes back in order before anything newer is sent.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import zlib
from collections.abc import Callable

from inferwatch.options import Options
from inferwatch.queue import Queue
from inferwatch.spool import Spool
from inferwatch.transport import Answer, Transport

log = logging.getLogger("inferwatch")

WAIT_S_FIRST, WAIT_S_MAX = 0.1, 30.0
ATTEMPTS_MAX = 8  # of a batch that the server neither takes nor refuses, where there is no spool to keep it
TOLD_S = 60.0  # a trouble is told once a minute


class Sender:
    """One a process. Starts with the first event; a child process has one of its own."""

    def __init__(self, options: Options, queue: Queue, transport: Transport, beat: Callable[[str], bytes]) -> None:
        """`beat(status)` makes a heartbeat."""
        self._options = options
        self._queue = queue
        self._transport = transport
        self._beat = beat
        self._spool = Spool(options.spool, options.spool_bytes_max) if options.spool else None
        self._replays = True
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._end = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._flushing = False
        self._told_at = 0.0
        self._beat_at = 0.0
        self.sent = 0
        self.refused = 0

    def ensure_started(self) -> None:
        """Starts the thread, once."""
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="inferwatch", daemon=True)
                    self._thread.start()

    def flush(self, timeout_s: float) -> bool:
        """Waits until everything that was recorded is sent, spooled or given up; whether that was in time."""
        if self._thread is None:
            return not len(self._queue)
        deadline = time.monotonic() + timeout_s
        self._flushing = True
        try:
            while time.monotonic() < deadline:
                if not len(self._queue) and self._idle.is_set():
                    return True
                time.sleep(0.01)
            return False
        finally:
            self._flushing = False

    def stop(self, timeout_s: float) -> None:
        """Flushes, says that the device stops, ends the thread; what is left goes to the spool."""
        self.flush(timeout_s)
        self._end.set()
        self._queue.close()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(max(0.5, timeout_s))

    def leave_to_parent(self) -> None:
        """In a forked child: what is open here is the parent's."""
        if self._spool is not None:
            self._spool.close()

    # -- the thread

    def _run(self) -> None:
        options = self._options
        while not self._end.is_set():
            self._beat_if_due("up")
            wait_s = 0.02 if self._flushing else min(options.batch_s, options.heartbeat_s or options.batch_s)
            events = self._queue.take(options.batch_events, options.batch_bytes_max, wait_s)
            self._replay()
            if events:
                self._idle.clear()
                self._deliver(events)
                self._idle.set()
        self._leave()

    def _leave(self) -> None:
        """The end: one attempt for what is left, the rest is spooled."""
        while events := self._queue.take(self._options.batch_events, self._options.batch_bytes_max, 0):
            answer = self._send("events", events)
            if answer.whole:
                self._keep(events)
        self._beat_if_due("stopping")
        self._transport.close()
        if self._spool is not None:
            self._spool.close()

    def _deliver(self, events: list[bytes]) -> None:
        """Until it has arrived, is refused, or is given up."""
        key, wait_s, attempts = os.urandom(16).hex(), WAIT_S_FIRST, 0
        while events:
            answer = self._send("events", events, key)
            if not answer.whole:
                self.sent += len(events) - answer.refused - len(answer.again)
                events = [events[i] for i in answer.again]
                if not events:
                    return
                key = os.urandom(16).hex()  # another batch
            attempts += 1
            if self._spool is not None and answer.whole:
                self._keep(events)
                self._pause(max(answer.wait_s, WAIT_S_FIRST))
                return
            if attempts >= ATTEMPTS_MAX or self._end.is_set():
                self._give_up(events, answer.why)
                return
            self._pause(max(answer.wait_s, wait_s))
            wait_s = min(2 * wait_s, WAIT_S_MAX)

    def _send(self, kind: str, events: list[bytes], key: str = "") -> Answer:
        dropped = self._queue.take_dropped()
        try:
            answer = self._transport.send(kind, events, key or os.urandom(16).hex(), dropped)
        except Exception as error:
            answer = Answer(whole=True, why=repr(error))
        if answer.whole or answer.lost:
            self._queue.count_dropped(dropped)  # nobody has heard of them
        if answer.refused and kind == "events":
            self.refused += answer.refused
        if answer.why:
            self._tell(answer.why)
        return answer

    def _replay(self) -> None:
        """What was spooled, oldest first, while the server takes it."""
        while self._spool is not None and self._replays and not self._end.is_set():
            found = self._spool.oldest()
            if found is None:
                return
            path, body = found
            events = body.split(b"\n")
            answer = self._send("events", events, f"spool-{path.stem}-{zlib.crc32(body):08x}")
            if answer.whole:
                self._pause(max(answer.wait_s, 1.0))
                return
            if answer.again:
                self._keep([events[i] for i in answer.again])
            self.sent += len(events) - answer.refused - len(answer.again)
            try:
                self._spool.done(path)
            except OSError as error:  # it would be sent again and again
                self._tell(f"the spool cannot be emptied, and is not sent any more: {error}")
                self._replays = False

    def _keep(self, events: list[bytes]) -> None:
        if self._spool is None:
            self._give_up(events, "the process ends")
            return
        try:
            self._spool.put(b"\n".join(events))
            self._queue.count_dropped(self._spool.dropped)
            self._spool.dropped = 0
        except OSError as error:
            self._give_up(events, f"the spool cannot be written: {error}")

    def _give_up(self, events: list[bytes], why: str) -> None:
        self._queue.count_dropped(len(events))
        self._tell(f"{len(events)} events are given up: {why}")

    def _pause(self, wait_s: float) -> None:
        self._end.wait(0.05 if self._flushing else wait_s)

    def _beat_if_due(self, status: str) -> None:
        every_s = self._options.heartbeat_s
        if every_s is None or self._options.device_id is None:
            return
        if status == "up" and time.monotonic() - self._beat_at < every_s and self._beat_at:
            return
        self._beat_at = time.monotonic()
        self._send("heartbeats", [self._beat(status)])

    def _tell(self, why: str) -> None:
        if time.monotonic() - self._told_at > TOLD_S or not self._told_at:
            self._told_at = time.monotonic()
            log.warning("inferwatch: %s", why)
