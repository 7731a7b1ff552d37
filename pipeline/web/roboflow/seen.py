"""Which inferences came already: servers report some twice, at the edges of their intervals. Pure.

Two generations: an id is known for at least `keep_ms`, and for twice that at most; beyond IDS_MAX a generation, for
less. What one process has seen another one does not know.
"""

import hashlib

KEEP_MS, KEEP_MS_MAX = 120_000, 1_200_000  # twice the usual METRICS_INTERVAL
IDS_MAX = 250_000  # of a generation; some 28 MB


class Seen:
    """A machine: ids in, whether they are new out."""

    def __init__(self, keep_ms: int = KEEP_MS, ids_max: int = IDS_MAX) -> None:
        """Has seen nothing."""
        self._keep_ms, self._ids_max = keep_ms, ids_max
        self._now: set[bytes] = set()
        self._before: set[bytes] = set()
        self._since_ms: int | None = None

    def keep_for(self, interval_ms: int) -> None:
        """Somebody reports so seldom: two of its intervals are remembered."""
        self._keep_ms = max(self._keep_ms, min(2 * interval_ms, KEEP_MS_MAX))

    def is_new(self, workspace: str, event_id: str, now_ms: int) -> bool:
        """Whether this is the first time; from now on it is not."""
        if self._since_ms is None:
            self._since_ms = now_ms
        age_ms = now_ms - self._since_ms
        if age_ms >= self._keep_ms or len(self._now) >= self._ids_max:
            self._before = self._now if age_ms < 2 * self._keep_ms else set()
            self._now, self._since_ms = set(), now_ms
        key = _key(workspace, event_id)
        if key in self._now or key in self._before:
            return False
        self._now.add(key)
        return True

    def forget(self, workspace: str, event_id: str) -> None:
        """It was not taken after all."""
        key = _key(workspace, event_id)
        self._now.discard(key)
        self._before.discard(key)


def _key(workspace: str, event_id: str) -> bytes:
    return hashlib.blake2b(f"{len(workspace)} {workspace}{event_id}".encode(), digest_size=16).digest()
