"""Which classes of a model are watched by name: the first seen, later the most frequent; all others are one signal."""

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from pipeline.core.detection.signals import CLASS_SEATS, OTHER_SEAT

Model = tuple[str, str]

_TALLIED_MAX = 64  # unseated classes counted for a model in an hour: a set of names that people send has no bound
_BETTER = 2.0  # times as frequent as the seated class that it would replace


class SeatsState(msgspec.Struct):
    """What is saved of the seats of a model."""

    seats: dict[str, int]
    unseated: dict[str, int]


class Seats:
    """The seats of the classes of all models, and what was seen of those without one since the last review."""

    def __init__(self) -> None:
        self._seats: dict[Model, dict[str, int]] = {}
        self._unseated: dict[Model, Counter[str]] = {}

    def add(self, model: Model) -> None:
        """A model that is new."""
        self._seats[model] = {}

    def remove(self, model: Model) -> None:
        """A model that is no longer watched."""
        self._seats.pop(model, None)
        self._unseated.pop(model, None)

    def find(
        self, models: Sequence[Model], classes: Iterable[str], counts: Sequence[int], young: set[Model]
    ) -> list[int]:
        """The seat of each row's class. A young model gives its free seats to whom it sees."""
        out = []
        for model, name, count in zip(models, classes, counts, strict=True):
            seats = self._seats[model]
            seat = seats.get(name)
            if seat is None:
                seat = self._find_new(model, seats, name, count, young)
            out.append(seat)
        return out

    def names(self, model: Model) -> list[str]:
        """The class in each seat; '' where nobody sits."""
        names = [""] * CLASS_SEATS
        for name, seat in self._seats[model].items():
            names[seat] = name
        return names

    def review(self, model: Model, shares: Sequence[float], detections: float) -> tuple[int, float] | None:
        """After an hour with `detections`: the seat that gets a new class, and the share of that class; one at most.

        `shares` are those of the seats. What was counted is forgotten.
        """
        counted = self._unseated.pop(model, None)
        if not counted or detections <= 0:
            return None
        seats = self._seats[model]
        name, count = counted.most_common(1)[0]
        share = min(count / detections, 1.0)
        taken = {seat: seated for seated, seat in seats.items()}
        free = [seat for seat in range(CLASS_SEATS) if seat not in taken]
        seat = free[0] if free else min(range(CLASS_SEATS), key=lambda s: shares[s])
        if not free and share < _BETTER * shares[seat]:
            return None
        if seat in taken:
            del seats[taken[seat]]
        seats[name] = seat
        return seat, share

    @property
    def to_review(self) -> list[Model]:
        """Models that had classes without a seat."""
        return list(self._unseated)

    def snapshot(self, model: Model) -> SeatsState:
        """What a restart needs."""
        return SeatsState(self._seats[model], dict(self._unseated.get(model, {})))

    def restore(self, model: Model, state: SeatsState) -> None:
        """What `snapshot` said."""
        self._seats[model] = state.seats
        if state.unseated:
            self._unseated[model] = Counter(state.unseated)

    def _find_new(self, model: Model, seats: dict[str, int], name: str, count: int, young: set[Model]) -> int:
        if model in young and len(seats) < CLASS_SEATS:
            seats[name] = len(seats)
            return seats[name]
        counted = self._unseated.setdefault(model, Counter())
        if name in counted or len(counted) < _TALLIED_MAX:
            counted[name] += count
        return OTHER_SEAT
