"""A clock that stands where a test puts it."""


class Clock:
    """Stands where it is put."""

    def __init__(self, now: list[int]) -> None:
        self._now = now

    def now_ms(self) -> int:
        return self._now[0]

    def monotonic(self) -> float:
        return self._now[0] / 1000
