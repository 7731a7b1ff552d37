"""What changed: contributions add up, the guilty dimension comes first, and noise and small numbers rank nothing."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.asking.changed.explanation import METRICS, Changed, Dimension, Lot, Pair, SideSums, Weight, explain
from pipeline.core.asking.changed.questions import Sides, Subset, of_many, overview, size, understood, values
from pipeline.core.asking.language import parse
from schemas.rule import Metric

Row = dict[str, Any]  # dimensions by name, and "x": what is measured, a whole number


def sums(rows: list[Row]) -> SideSums:
    return SideSums(len(rows), sum(row["x"] for row in rows), sum(row["x"] ** 2 for row in rows))


def dimensions(a: list[Row], b: list[Row]) -> Iterator[Dimension]:
    for name in sorted({name for row in a + b for name in row} - {"x"}):
        sides: dict[str, tuple[list[Row], list[Row]]] = defaultdict(lambda: ([], []))
        for side, rows in enumerate((a, b)):
            for row in rows:
                if name in row:
                    sides[row[name]][side].append(row)
        found = {value: Pair(sums(of_a), sums(of_b)) for value, (of_a, of_b) in sides.items()}
        yield Dimension(name, found, may_lack=name.startswith("metadata."))


def compared(metric: Metric, a: list[Row], b: list[Row], scale_a: float = 1.0) -> Changed:
    return explain(metric, Pair(sums(a), sums(b)), dimensions(a, b), scale_a)


def traffic(seed: int, count: int, x: Callable[[Random, Row], int]) -> list[Row]:
    """Twenty cameras at two sites, three models, and a number that every inference has for itself."""
    random = Random(seed)
    rows = []
    for n in range(count):
        row: Row = {
            "device": f"cam-{random.randrange(20)}",
            "model": random.choice(["helmets/3", "helmets/4", "people/1"]),
            "source": "edge",
            "metadata.site": random.choice(["s1", "s2"]),
            "metadata.frame": f"{seed}-{n}",
        }
        if random.random() < 0.5:
            row["metadata.line"] = str(random.randrange(4))
        rows.append(row | {"x": x(random, row)})
    return rows


def confidence(random: Random, row: Row) -> int:
    return random.randrange(800_000, 900_000)


def dark(random: Random, row: Row) -> int:
    return confidence(random, row) - (300_000 if row["device"] == "cam-7" else 0)


def test_the_camera_whose_confidence_fell_comes_first() -> None:
    found = compared(Metric.CONFIDENCE_MEAN, traffic(1, 4000, confidence), traffic(2, 4000, dark))
    assert found.weight is Weight.DIFFERENT
    first, *rest = found.dimensions
    assert (first.name, first.values[0].value) == ("device", "cam-7")
    assert first.score > 0.7 > 5 * max(one.score for one in rest)
    assert first.values[0].contribution == pytest.approx(found.difference, rel=0.15)
    assert abs(first.values[0].mix) < abs(first.values[0].rate) / 3


def test_a_mix_that_changed_is_told_from_a_value_that_changed() -> None:
    def by_model(random: Random, row: Row) -> int:
        return 40_000 if row["model"] == "people/1" else 10_000 + random.randrange(100)

    a = traffic(1, 3000, by_model)
    b = [row for row in traffic(2, 6000, by_model) if row["model"] == "people/1" or hash(row["x"]) % 3 == 0]
    found = compared(Metric.LATENCY_MEAN_MS, a, b)
    first = found.dimensions[0]
    assert first.name == "model"
    assert all(abs(value.rate) < abs(value.mix) / 10 for value in first.values if value.value == "people/1")


def test_a_change_that_is_spread_as_the_traffic_is_explained_by_nothing() -> None:
    a = traffic(1, 4000, confidence)
    b = [row | {"x": row["x"] - 200_000} for row in traffic(2, 4000, confidence)]
    found = compared(Metric.CONFIDENCE_MEAN, a, b)
    assert found.weight is Weight.DIFFERENT
    assert all(one.score < 0.05 for one in found.dimensions)


def test_noise_is_no_difference_and_ranks_nothing() -> None:
    found = compared(Metric.CONFIDENCE_MEAN, traffic(1, 2000, confidence), traffic(2, 2000, confidence))
    assert found.weight is Weight.SAME
    assert [one.score for one in found.dimensions] == [0.0] * len(found.dimensions)


def test_a_value_that_only_one_inference_has_says_nothing() -> None:
    found = compared(Metric.CONFIDENCE_MEAN, traffic(1, 500, confidence), traffic(2, 500, dark))
    (frame,) = (one for one in found.dimensions if one.name == "metadata.frame")
    assert frame.score == 0.0


def test_a_camera_that_fell_silent_explains_the_count() -> None:
    a = traffic(1, 8000, confidence)
    b = [row for row in traffic(2, 8000, confidence) if row["device"] != "cam-3"]
    found = compared(Metric.INFERENCE_COUNT, a, b)
    assert (found.weight, found.dimensions[0].name) == (Weight.DIFFERENT, "device")
    assert found.dimensions[0].values[0].value == "cam-3"
    assert found.dimensions[0].values[0].b_count == 0


def test_half_the_time_is_half_the_count() -> None:
    found = compared(Metric.INFERENCE_COUNT, traffic(1, 8000, confidence), traffic(2, 4000, confidence), 0.5)
    assert (found.weight, found.a, found.b) == (Weight.SAME, 4000, 4000)


def test_of_very_many_one_in_some_is_looked_at_and_counts_stay_what_they_are() -> None:
    hour = Subset(0, 3_600_000)
    sides = of_many(Sides(hour, None, hour), 2_000_001)
    assert (sides.every, sides.scale_a, of_many(sides, 1_000_000).every) == (3, 3.0, 1)
    assert "intHash32(kafka_offset) % 3 = 0" in overview(sides).text
    sample = Pair(SideSums(100), SideSums(200))
    found = explain(Metric.INFERENCE_COUNT, sample, [Dimension("device", {"x": sample})], 3.0, 3.0)
    assert (found.a, found.b, found.difference, found.dimensions[0].values[0].contribution) == (300, 600, 300, 300)
    assert found.noise == pytest.approx(3 * 3 * 300**0.5)


def test_an_empty_side_is_said_and_few_observations_too() -> None:
    some = traffic(1, 100, confidence)
    assert compared(Metric.CONFIDENCE_MEAN, [], some).weight is Weight.EMPTY
    assert compared(Metric.INFERENCE_COUNT, some, []).weight is Weight.EMPTY
    assert compared(Metric.INFERENCE_COUNT, [], []).weight is Weight.EMPTY
    few = compared(Metric.ERROR_RATE, some, some[:29])
    assert few.weight is Weight.TOO_FEW
    assert few.b_count == 29


def test_what_is_not_named_is_there_as_other_and_what_is_not_given_as_absent() -> None:
    found = compared(Metric.CONFIDENCE_MEAN, traffic(1, 2000, confidence), traffic(2, 2000, dark))
    lots = {one.name: [value.lot for value in one.values] for one in found.dimensions}
    assert lots["device"] == [Lot.VALUE] * 10 + [Lot.OTHER]
    assert sorted(lots["metadata.line"], key=lambda lot: lot.value) == [Lot.ABSENT] + [Lot.VALUE] * 4


def test_values_that_were_not_asked_for_are_in_other() -> None:
    cut = Dimension(
        "device",
        {"cam-1": Pair(SideSums(50, 50, 50), SideSums(60, 60, 60))},
        known=Pair(SideSums(90, 80, 80), SideSums(95, 70, 70)),
    )
    found = explain(Metric.ERROR_RATE, Pair(SideSums(90, 80, 80), SideSums(95, 70, 70)), [cut])
    assert [(v.lot, v.a_count, v.b_count) for v in found.dimensions[0].values] == [
        (Lot.VALUE, 50, 60),
        (Lot.OTHER, 40, 35),
    ]


def test_tags_overlap_so_the_strongest_stands_for_all() -> None:
    pairs = {
        "night": Pair(SideSums(100, 100, 100), SideSums(500, 500, 500)),
        "edge": Pair(SideSums(950, 50, 50), SideSums(950, 450, 450)),
    }
    whole = Pair(SideSums(1000, 100, 100), SideSums(1000, 500, 500))
    found = explain(Metric.ERROR_RATE, whole, [Dimension("tag", pairs, overlapping=True)])
    assert found.dimensions[0].overlapping
    assert found.dimensions[0].values[0].value == "night"


def test_the_questions_hold_nothing_that_people_wrote() -> None:
    evil = "a') OR 1=1 --"
    hour = Subset(0, 3_600_000, parse(f'device:"{evil}"'))
    sides = Sides(hour, None, hour)
    for question in (size(sides), overview(sides), values(sides, Metric.CONFIDENCE_MEAN, [evil], 10.0)):
        assert "OR 1=1" not in question.text
        assert evil in question.parameters.values()


def test_what_the_store_brings_becomes_dimensions() -> None:
    found = [
        ("whole", "", "", 10, 4, 4, 20, 6, 6, 10, 4, 4, 20, 6, 6),
        ("metadata", "site", "s1", 3, 1, 1, 4, 1, 1, 5, 2, 2, 6, 3, 3),
        ("tag", "", "", 10, 4, 4, 20, 6, 6, 10, 4, 4, 20, 6, 6),
    ]
    whole, (site, tag) = understood(found, Metric.ERROR_RATE)
    assert whole == Pair(SideSums(10, 4, 4), SideSums(20, 6, 6))
    assert site == Dimension(
        "metadata.site",
        {"s1": Pair(SideSums(3, 1, 1), SideSums(4, 1, 1))},
        False,
        True,
        Pair(SideSums(5, 2, 2), SideSums(6, 3, 3)),
    )
    assert (tag.overlapping, tag.may_lack) == (True, False)


rows = st.lists(
    st.tuples(st.sampled_from(["x", "y", "z", ""]), st.integers(0, 10**6)).map(
        lambda drawn: {"device": drawn[0], "x": drawn[1]} | ({"metadata.k": drawn[0]} if drawn[0] else {})
    ),
    min_size=1,
    max_size=60,
)


@given(a=rows, b=rows, metric=st.sampled_from(METRICS))
def test_contributions_add_up_to_the_difference_and_the_order_is_always_the_same(
    a: list[Row], b: list[Row], metric: Metric
) -> None:
    found = compared(metric, a, b)
    assert found.difference is not None
    for one in found.dimensions:
        scale = 1e-6 * max(1, abs(found.a or 0), abs(found.b or 0))
        assert sum(value.contribution for value in one.values) == pytest.approx(found.difference, abs=scale)
    assert compared(metric, a[::-1], b[::-1]) == found
