"""What changed between two sides, a and b: which dimension, and which of its values, make the difference.

Every value's contribution is exact: of a dimension whose values share out all inferences (or detections) they add up
to the difference. A count's is b - a. Of a mean or a rate it is split as Kitagawa (1955) splits the difference of two
rates, at the midpoint of both sides: *mix*, the value has become more or less frequent, and *rate*, what it measures
has itself changed. That sum is the same for every dimension, so it ranks none. What does is the *excess* (Adtributor,
NSDI 2014, calls it surprise): a dimension has nothing to do with a difference that is spread over its values as the
traffic is. An excess counts only as far as it is beyond the noise of so many observations.

    score = the excesses on one side / the difference      of values that share out everything
    score = the largest excess / the difference            of values that overlap (tags, classes of an inference)

0: says nothing. 1: all of it lies in values that have little of the traffic. Above 1: values pull both ways.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from math import sqrt

from schemas.rule import Metric

OBSERVATIONS_MIN = 30  # fewer say nothing: of a side, and of a value on both sides together
NOISE_SIGMAS = 3.0  # neighbouring frames resemble each other, so the usual 2 would see too much
VALUES_SHOWN = 10  # of a dimension; the rest is one
DIGITS = 9  # contributions and scores are told, and ranked, to so many

COUNTED = frozenset({Metric.INFERENCE_COUNT})
METRICS = (
    Metric.INFERENCE_COUNT,
    Metric.CONFIDENCE_MEAN,
    Metric.LATENCY_MEAN_MS,
    Metric.LATENCY_P95_MS,
    Metric.ERROR_RATE,
    Metric.EMPTY_RATE,
)
UNIT: Mapping[Metric, float] = {Metric.CONFIDENCE_MEAN: 1e-6, Metric.LATENCY_MEAN_MS: 1e-3}  # of a sum


class Lot(Enum):
    """What stands in a line of a dimension."""

    VALUE = "value"
    ABSENT = "absent"  # it is not given
    OTHER = "other"  # all the values that are not named


class Weight(Enum):
    """Whether there is anything to explain."""

    DIFFERENT = "different"
    SAME = "same"  # the difference is within the noise
    TOO_FEW = "too_few"  # a side has fewer observations than say anything
    EMPTY = "empty"  # a side has none


@dataclass(frozen=True, slots=True)
class SideSums:
    """Observations: how many, their sum, the sum of their squares. Whole numbers, so exact in any order."""

    n: int = 0
    total: int = 0
    squares: int = 0

    def __add__(self, other: "SideSums") -> "SideSums":
        return SideSums(self.n + other.n, self.total + other.total, self.squares + other.squares)

    def __sub__(self, other: "SideSums") -> "SideSums":
        return SideSums(self.n - other.n, self.total - other.total, self.squares - other.squares)


@dataclass(frozen=True, slots=True)
class Pair:
    """Of both sides."""

    a: SideSums = SideSums()
    b: SideSums = SideSums()

    def __add__(self, other: "Pair") -> "Pair":
        return Pair(self.a + other.a, self.b + other.b)

    def __sub__(self, other: "Pair") -> "Pair":
        return Pair(self.a - other.a, self.b - other.b)

    @property
    def n(self) -> int:
        """Observations on both sides together."""
        return self.a.n + self.b.n


@dataclass(frozen=True, slots=True)
class Dimension:
    """What the store found: the values of a dimension with the most observations; "" is: not given."""

    name: str  # as in the filter language: model, device, class, tag, metadata.KEY, ...
    values: Mapping[str, Pair]
    overlapping: bool = False  # one inference may have several of its values
    may_lack: bool = False  # "" is a value like any other, and what has none is not among the values
    known: Pair | None = None  # of all its values, also those that were not asked for; None: these are all


@dataclass(frozen=True, slots=True)
class ValueChange:
    """What one value has to do with the difference."""

    lot: Lot
    value: str
    a_count: int
    b_count: int
    a: float | None  # what is measured, of this value alone
    b: float | None
    contribution: float
    mix: float
    rate: float
    excess: float  # beyond its part of the traffic, and beyond noise


@dataclass(frozen=True, slots=True)
class DimensionChange:
    """How much a dimension explains, and by which values."""

    name: str
    overlapping: bool
    score: float
    values: tuple[ValueChange, ...]


@dataclass(frozen=True, slots=True)
class Changed:
    """The answer."""

    weight: Weight
    a_count: int
    b_count: int
    a: float | None
    b: float | None
    difference: float | None
    noise: float | None  # so large a difference is nothing
    dimensions: tuple[DimensionChange, ...] = ()


def explain(
    metric: Metric, whole: Pair, dimensions: Iterable[Dimension], scale_a: float = 1.0, scale_b: float = 1.0
) -> Changed:
    """The dimensions ranked. Counts of a and b are multiplied: they may be of a sample, or of unequal times."""
    sides = _Sides(metric, whole, scale_a, scale_b)
    if not whole.n or (metric not in COUNTED and not (whole.a.n and whole.b.n)):
        return sides.changed(Weight.EMPTY, ())
    found = [_dimension(sides, one) for one in dimensions]
    found.sort(key=lambda one: (-one.score, one.name))
    if not (whole.a.n and whole.b.n):
        weight = Weight.EMPTY
    elif min(whole.a.n, whole.b.n) < OBSERVATIONS_MIN:
        weight = Weight.TOO_FEW
    else:
        weight = Weight.SAME if abs(sides.difference) <= sides.noise else Weight.DIFFERENT
    return sides.changed(weight, tuple(found))


class _Sides:
    """Both sides as a whole, and what a part of them has to do with the difference."""

    def __init__(self, metric: Metric, whole: Pair, scale_a: float, scale_b: float) -> None:
        self.whole, self._scale_a, self._scale_b = whole, scale_a, scale_b
        self._counted, self._unit = metric in COUNTED, UNIT.get(metric, 1.0)
        a, b = self.measured(whole)
        self._a, self._b = a or 0.0, b or 0.0
        self.difference = self._b - self._a
        self.noise = NOISE_SIGMAS * sqrt(self._variance(whole.a, whole) + self._variance(whole.b, whole))
        if self._counted:
            self.noise = NOISE_SIGMAS * sqrt(scale_b**2 * whole.b.n + scale_a**2 * whole.a.n)

    def measured(self, pair: Pair) -> tuple[float | None, float | None]:
        """The metric of a part of each side."""
        if self._counted:
            return pair.a.n * self._scale_a, pair.b.n * self._scale_b
        return self._mean(pair.a), self._mean(pair.b)

    def changed(self, weight: Weight, dimensions: tuple[DimensionChange, ...]) -> Changed:
        a, b = self.measured(self.whole)
        both = a is not None and b is not None
        difference, noise = (_told(self.difference), _told(self.noise)) if both else (None, None)
        return Changed(weight, self.whole.a.n, self.whole.b.n, a, b, difference, noise, dimensions)

    def change(self, lot: Lot, value: str, part: Pair) -> ValueChange:
        """What one part has to do with it."""
        a, b = self.measured(part)
        share_a, share_b = self._share(part.a.n, self.whole.a.n), self._share(part.b.n, self.whole.b.n)
        share = (share_a + share_b) / 2
        if self._counted:
            mix, rate = (b or 0.0) - (a or 0.0), 0.0
            sigma = sqrt(self._scale_b**2 * part.b.n + self._scale_a**2 * part.a.n)
        else:
            # A value that one side lacks has not changed what it measures: it came or went.
            own_a, own_b = a if a is not None else b or 0.0, b if b is not None else a or 0.0
            apart = (own_a + own_b) / 2 - (self._a + self._b) / 2
            mix, rate = (share_b - share_a) * apart, share * (own_b - own_a)
            sigma = sqrt(
                apart**2 * (_share_variance(share_a, self.whole.a.n) + _share_variance(share_b, self.whole.b.n))
                + share**2 * (self._variance(part.a, part) + self._variance(part.b, part))
            )
        excess = mix + rate - share * self.difference
        beyond = max(0.0, abs(excess) - NOISE_SIGMAS * sigma) if part.n >= OBSERVATIONS_MIN else 0.0
        return ValueChange(
            lot, value, part.a.n, part.b.n, a, b, _told(mix + rate), _told(mix), _told(rate),
            _told(beyond if excess > 0 else -beyond),
        )  # fmt: skip

    def score(self, excess: float) -> float:
        """As a part of the difference, or of what could be seen at least."""
        scale = max(abs(self.difference), self.noise)
        return round(excess / scale, 4) if scale else 0.0

    def _mean(self, sums: SideSums) -> float | None:
        return sums.total / sums.n * self._unit if sums.n else None

    def _variance(self, sums: SideSums, of: Pair) -> float:
        """Of a side's mean. A few observations say nothing of their spread: then by those of both sides."""
        known = sums if sums.n >= OBSERVATIONS_MIN else of.a + of.b
        if not sums.n:
            return 0.0
        spread = (known.squares * known.n - known.total**2) / known.n**2  # whole numbers above the line: exact
        return spread * self._unit**2 / sums.n

    @staticmethod
    def _share(part: int, whole: int) -> float:
        return part / whole if whole else 0.0


def _share_variance(share: float, n: int) -> float:
    return share * (1 - share) / n if n else 0.0


def _told(number: float) -> float:
    return round(number, DIGITS) + 0.0  # no -0


def _dimension(sides: _Sides, found: Dimension) -> DimensionChange:
    changes = [
        sides.change(Lot.VALUE if value or found.may_lack else Lot.ABSENT, value, pair)
        for value, pair in found.values.items()
    ]
    named = sum(found.values.values(), Pair())
    known = named if found.known is None else found.known
    if found.may_lack and (lacking := sides.whole - known).n:
        changes.append(sides.change(Lot.ABSENT, "", lacking))
    changes.sort(key=lambda one: (-abs(one.excess), -abs(one.contribution), one.lot.value, one.value))
    shown = sorted(changes[:VALUES_SHOWN], key=lambda one: -one.excess * sides.difference)  # with the difference first
    if found.overlapping:
        score = sides.score(max((abs(one.excess) for one in changes), default=0.0))
        return DimensionChange(found.name, True, score, tuple(shown))
    rest = known - named
    for one in changes[VALUES_SHOWN:]:
        rest += found.values[one.value] if one.lot is not Lot.ABSENT or not found.may_lack else sides.whole - known
    # Before noise is taken off they are as much above as below.
    above = sum(one.excess for one in changes if one.excess > 0)
    below = -sum(one.excess for one in changes if one.excess < 0)
    score = sides.score(max(above, below))
    other = (sides.change(Lot.OTHER, "", rest),) if rest.n else ()
    return DimensionChange(found.name, False, score, (*shown, *other))
