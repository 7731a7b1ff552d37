"""How much one key may send: a bucket of events that fills at the key's rate. One process's own count."""

from collections import OrderedDict

KEYS_MAX = 10_000


class Limits:
    """A bucket for each principal. `rate` is in events a second; 0: no limit."""

    def __init__(self, rate: float, burst_s: float = 10.0) -> None:
        """A bucket holds what comes in `burst_s`."""
        self._rate, self._burst = rate, rate * burst_s
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what is left, and as of when

    def wait_s(self, name: str, events: int, now_s: float) -> float:
        """Takes so many events out; how long to wait where there are not enough (nothing is taken then)."""
        if not self._rate:
            return 0.0
        left, then_s = self._buckets.pop(name, (self._burst, now_s))
        left = min(self._burst, left + (now_s - then_s) * self._rate)
        # A body larger than the bucket goes when the bucket is full, and leaves a debt.
        short = min(float(events), self._burst) - left
        self._buckets[name] = (left if short > 0 else left - events, now_s)
        if len(self._buckets) > KEYS_MAX:
            self._buckets.popitem(last=False)
        return max(0.0, short / self._rate)

    def give_back(self, name: str, events: int) -> None:
        """They did not count after all."""
        if name in self._buckets:
            left, then_s = self._buckets[name]
            self._buckets[name] = (min(self._burst, left + events), then_s)
