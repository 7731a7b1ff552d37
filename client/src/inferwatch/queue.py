"""What waits to be sent: encoded events, bounded by bytes. When it is full the oldest is dropped, and counted."""

from __future__ import annotations

import threading
from collections import deque


class Queue:
    """Many threads put, one takes."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes = 0
        self.dropped = 0  # since the last `take_dropped`
        self._bytes_max = bytes_max
        self._waiting: deque[bytes] = deque()
        self._changed = threading.Condition(threading.Lock())
        self._wanted = 1
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, event: bytes) -> None:
        """Adds an event; makes room by dropping the oldest."""
        with self._changed:
            self._waiting.append(event)
            self.bytes += len(event)
            while self.bytes > self._bytes_max and self._waiting:
                self.bytes -= len(self._waiting.popleft())
                self.dropped += 1
            if len(self._waiting) == self._wanted:  # waking a thread costs more than all the rest
                self._changed.notify()

    def count_dropped(self, events: int) -> None:
        """These were lost elsewhere."""
        with self._changed:
            self.dropped += events

    def take(self, events_max: int, bytes_max: int, wait_s: float) -> list[bytes]:
        """Up to a batch of the oldest; waits until there is a whole one, or for so long."""
        with self._changed:
            if len(self._waiting) < events_max and not self._closed:
                self._wanted = events_max
                self._changed.wait(wait_s)
                self._wanted = 1
            taken: list[bytes] = []
            size = 0
            while self._waiting and len(taken) < events_max:
                size += len(self._waiting[0])
                if taken and size > bytes_max:
                    break
                event = self._waiting.popleft()
                self.bytes -= len(event)
                taken.append(event)
            return taken

    def take_dropped(self) -> int:
        """How many were dropped since this was asked last."""
        with self._changed:
            count, self.dropped = self.dropped, 0
            return count

    def close(self) -> None:
        """Nobody waits any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
