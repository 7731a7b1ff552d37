"""State of many keys in one place: named arrays, all of them ending in the key's column."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]  # float32, all of them
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Field:
    """One array: its shape for one key, its type, and what a new key begins with."""

    shape: tuple[int, ...]
    fill: Any = 0.0
    dtype: type[np.generic] = np.float32

    @property
    def bytes(self) -> int:
        """What a key costs."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


class KeyedState:
    """Arrays that grow together as keys come and are taken together as keys go."""

    def __init__(self, fields: Mapping[str, Field]) -> None:
        self._fields = dict(fields)
        self._capacity = 0
        self._whole: Arrays = {name: np.zeros((*f.shape, 0), f.dtype) for name, f in self._fields.items()}
        self.size = 0

    @property
    def key_bytes(self) -> int:
        """What a key costs in memory."""
        return sum(field.bytes for field in self._fields.values())

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self._whole[name][..., : self.size]

    def view(self, start: int, end: int) -> Arrays:
        """The columns start to end of every array; what is written to them is kept. Valid until keys come or go."""
        return {name: array[..., start:end] for name, array in self._whole.items()}

    def add(self, count: int) -> None:
        """`count` new keys, at the end."""
        size = self.size + count
        if size > self._capacity:
            self._reserve(size + size // 4)  # of a few keys no more: they lie close together
        for name, field in self._fields.items():
            fill = np.asarray(field.fill, field.dtype)
            self._whole[name][..., self.size : size] = fill[..., None] if fill.ndim else fill
        self.size = size

    def renew(self, columns: Ints) -> None:
        """These keys begin anew."""
        for name, field in self._fields.items():
            fill = np.asarray(field.fill, field.dtype)
            self._whole[name][..., columns] = fill[..., None] if fill.ndim else fill

    def keep(self, columns: Ints) -> None:
        """Only these columns, in this order; a column may be taken twice."""
        self._whole = {name: self._whole[name][..., columns] for name in self._fields}
        self._capacity = self.size = len(columns)

    @property
    def form(self) -> str:
        """What the annotation of saved arrays does not tell: their names, types and sizes."""
        return repr([(name, f.shape, np.dtype(f.dtype).str) for name, f in self._fields.items()])

    def arrays(self) -> Arrays:
        """What to save."""
        return {name: self[name] for name in self._fields}

    def take(self, saved: Arrays) -> None:
        """The columns of saved arrays, after those that are here."""
        start = self.size
        self.add(next(iter(saved.values())).shape[-1])
        for name in self._fields:
            self._whole[name][..., start : self.size] = saved[name]

    def _reserve(self, capacity: int) -> None:
        for name, field in self._fields.items():
            array = np.zeros((*field.shape, capacity), field.dtype)
            array[..., : self.size] = self._whole[name][..., : self.size]
            self._whole[name] = array
        self._capacity = capacity
