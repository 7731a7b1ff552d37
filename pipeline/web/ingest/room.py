"""How many bytes of requests a process holds: those that are read, and those that Kafka has not acknowledged."""

from pipeline.edge.metrics import INGEST_BYTES
from pipeline.web.asgi import Refused

REQUEST_BYTES = 4096  # what a request costs beside its body


class Room:
    """All requests of a kind together."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self.bytes = 0

    def change(self, by: int) -> None:
        """More, or less. Raises Refused (503) where there is no room."""
        if by > 0 and self.bytes + by > self._bytes_max:
            raise Refused(503, "full", "as much as fits waits for Kafka already", retry_after_s=1)
        self.bytes += by
        INGEST_BYTES.inc(by)  # of all rooms


class Held:
    """What one request holds. Given back once, by `release`."""

    def __init__(self, room: Room) -> None:
        """Raises Refused (503) where there is no room for one more request."""
        self._room, self._bytes = room, 0
        self.take(REQUEST_BYTES)

    def take(self, count: int) -> None:
        """So many bytes more. Raises Refused (503)."""
        self._room.change(count)
        self._bytes += count

    def change_to(self, body: int) -> None:
        """A body of this size is all that is held now. Raises Refused (503)."""
        self._room.change(body + REQUEST_BYTES - self._bytes)
        self._bytes = body + REQUEST_BYTES

    def release(self) -> None:
        """All of it."""
        self._room.change(-self._bytes)
        self._bytes = 0
