"""Which classes are watched by name."""

from pipeline.core.detection.seats import Seats
from pipeline.core.detection.signals import CLASS_SEATS, OTHER_SEAT
from tests.states import reloaded

M = ("acme", "helmets/3")


def seats() -> Seats:
    out = Seats()
    out.add(M)
    return out


def find(machine: Seats, *names: str, young: bool = False, count: int = 1) -> list[int]:
    return machine.find([M] * len(names), names, [count] * len(names), {M} if young else set())


def test_a_young_model_seats_whom_it_sees_until_all_seats_are_taken() -> None:
    machine = seats()
    names = [f"c{i}" for i in range(CLASS_SEATS + 2)]
    assert find(machine, *names, young=True) == [*range(CLASS_SEATS), OTHER_SEAT, OTHER_SEAT]
    assert find(machine, "c3", "c9") == [3, OTHER_SEAT]


def test_later_a_new_class_is_one_of_the_others_until_the_hour_is_reviewed() -> None:
    machine = seats()
    find(machine, "person", young=True)
    assert find(machine, "cat", count=30) == [OTHER_SEAT]
    assert machine.review(M, [1.0] + [0.0] * 7, 300.0) == (1, 0.1)
    assert find(machine, "cat") == [1]
    assert machine.names(M)[:3] == ["person", "cat", ""]


def test_a_frequent_class_takes_the_seat_of_a_rare_one() -> None:
    machine = seats()
    find(machine, *(f"c{i}" for i in range(CLASS_SEATS)), young=True)
    shares = [0.3, 0.2, 0.2, 0.1, 0.1, 0.05, 0.04, 0.01]
    find(machine, "cat", count=15)
    assert machine.review(M, shares, 1000.0) is None  # .015: not twice as frequent
    find(machine, "cat", count=25)
    assert machine.review(M, shares, 1000.0) == (7, 0.025)
    assert find(machine, "c7", "cat") == [OTHER_SEAT, 7]


def test_names_that_people_send_have_no_bound_but_memory_has() -> None:
    machine = seats()
    find(machine, *(f"c{i}" for i in range(5000)))
    assert len(machine.snapshot(M).unseated) == 64


def test_seats_survive_a_restart() -> None:
    machine = seats()
    find(machine, "person", young=True)
    find(machine, "cat", count=30)
    again = Seats()
    again.restore(M, reloaded(machine.snapshot(M)))
    assert again.names(M) == machine.names(M)
    assert again.review(M, [1.0] + [0.0] * 7, 300.0) == (1, 0.1)
