"""The layout of a state, and what is no snapshot."""

from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from pipeline.core.alerting.device_watch import DeviceState
from pipeline.core.alerting.model_watch import ModelState
from pipeline.core.notifying.notifier import NotifierState
from pipeline.core.state import NoSnapshot, decode, encode, layout
from tests.states import reloaded


class Colour(Enum):
    RED = "red"


class Shade(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, slots=True)
class Place:
    row: int


class Whole(msgspec.Struct):
    places: list[Place]
    array: npt.NDArray[Any]
    by_key: dict[tuple[str, str], int] = {}


def struct(**fields: Any) -> type[msgspec.Struct]:
    return msgspec.defstruct("Anything", list(fields.items()))


WHOLE = Whole([Place(3)], np.arange(6, dtype=np.float32).reshape(2, 3), {("a", "b"): 1})


def test_a_state_comes_back_as_it_was() -> None:
    again = reloaded(WHOLE)
    assert (again.places, again.by_key) == (WHOLE.places, WHOLE.by_key)
    assert again.array.dtype == np.float32
    assert again.array.tolist() == WHOLE.array.tolist()


def test_the_name_of_a_layout_is_that_of_its_fields_and_types_all_the_way_down() -> None:
    inner = struct(a=int)
    kinds = [
        struct(a=int),
        struct(b=int),
        struct(a=str),
        struct(a=int, b=int),
        struct(a=list[int]),
        struct(a=dict[int, int]),
        struct(a=dict[int, str]),
        struct(a=Colour),
        struct(a=Shade),
        struct(a=inner),
        struct(a=struct(b=int)),
        struct(a=struct(a=inner)),
        struct(a=npt.NDArray[Any]),
    ]
    assert len({layout(kind) for kind in kinds}) == len(kinds)
    assert layout(struct(a=int)) == layout(msgspec.defstruct("Renamed", [("a", int, 5)]))


def test_what_no_annotation_tells_is_told_by_the_form() -> None:
    class Small(msgspec.Struct):
        FORM: ClassVar[str] = "(3,)"
        array: npt.NDArray[Any]

    class Large(msgspec.Struct):
        FORM: ClassVar[str] = "(4,)"
        array: npt.NDArray[Any]

    assert layout(Small) != layout(Large)


def test_a_state_of_another_layout_is_no_snapshot() -> None:
    saved = encode(struct(a=int)(1))
    assert decode(struct(b=int), saved) is NoSnapshot.ANOTHER_LAYOUT
    assert not isinstance(decode(struct(a=int), saved), NoSnapshot)


def test_no_byte_of_a_snapshot_can_be_changed_or_missing_unseen() -> None:
    saved = encode(WHOLE)
    for at in range(len(saved)):
        assert isinstance(decode(Whole, saved[:at]), NoSnapshot)
        assert isinstance(decode(Whole, saved[:at] + bytes([saved[at] ^ 1]) + saved[at + 1 :]), NoSnapshot)


@pytest.mark.parametrize("foreign", [b"", b"{}", b"\x80" * 40, msgspec.msgpack.encode({"version": [1, 2]})])
def test_foreign_bytes_are_no_snapshot(foreign: bytes) -> None:
    assert decode(Whole, foreign) is NoSnapshot.DAMAGED


def test_an_array_of_anything_but_numbers_is_no_state() -> None:
    with pytest.raises(NotImplementedError):
        encode(Whole([], [object()]))  # type: ignore[arg-type]
    assert decode(Whole, encode(Whole([], np.array(["x"])))) is NoSnapshot.DAMAGED


def test_all_that_workers_save_has_a_layout() -> None:
    assert len({layout(kind) for kind in (ModelState, DeviceState, NotifierState)}) == 3
