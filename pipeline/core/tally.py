"""Counting, sorted into groups: numpy primitives of the fold. Integers in, integers out, so order never matters."""

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

_SQUARES_MAX = 1 << 22  # so many squares of up to 1e12, and what was carried, fit into 63 bits
_DENSE_MAX = 1 << 16  # a dense table up to this size is cheaper than sorting, however few the values


def count_pairs(groups: Ints, keys: Ints, weights: Ints | None = None) -> tuple[Ints, Ints, Ints]:
    """(group, key, count) of every pair that occurs, ordered by group, then key.

    All three inputs have shape (n,); groups are >= 0. `weights` are counts of pairs that were counted before.
    """
    if not len(groups):
        return groups, keys, np.zeros(0, np.int64)
    least = int(keys.min())
    span = int(keys.max()) - least + 1
    codes = groups * span + (keys - least)
    size = (int(groups.max()) + 1) * span
    if size <= max(_DENSE_MAX, 4 * len(codes)):
        dense = np.bincount(codes, minlength=size) if weights is None else group_sum(codes, weights, size)
        found = np.flatnonzero(dense)
        counts = dense[found]
    else:
        found, inverse = np.unique(codes, return_inverse=True)
        counts = np.bincount(inverse) if weights is None else group_sum(inverse, weights, len(found))
    return found // span, found % span + least, counts.astype(np.int64)


def dense_groups(codes: Ints) -> tuple[Ints, Ints]:
    """The distinct codes, in order, and for each element the index of its code among them. Codes are >= 0."""
    if not len(codes):
        return codes, codes
    size = int(codes.max()) + 1
    if size > max(_DENSE_MAX, 4 * len(codes)):
        found, inverse = np.unique(codes, return_inverse=True)
        return found, inverse
    seen = np.zeros(size, bool)
    seen[codes] = True
    found = np.flatnonzero(seen)
    rank = np.zeros(size, np.int64)
    rank[found] = np.arange(len(found))
    return found, rank[codes]


def group_sum(groups: Ints, values: Ints, size: int) -> Ints:
    """Sum of the values of each group, exact: shape (size,); of wide numbers (size, 2)."""
    out = np.zeros((size, *values.shape[1:]), np.int64)
    np.add.at(out, groups, values)
    return out if out.ndim == 1 else carried(out)


def group_squares(groups: Ints, values: Ints, size: int) -> Ints:
    """Sum of the squares of each group's values, as wide numbers: (size, 2). Values are <= 1,000,000."""
    out = np.zeros((size, 2), np.int64)
    for start in range(0, len(values), _SQUARES_MAX):
        part = values[start : start + _SQUARES_MAX]
        out[:, 1] += group_sum(groups[start : start + _SQUARES_MAX], part * part, size)
        out = carried(out)
    return out


def carried(wide: Ints) -> Ints:
    """The same wide numbers, [..., 0] << 32 | [..., 1], with the second below 1 << 32."""
    return np.stack([wide[:, 0] + (wide[:, 1] >> 32), wide[:, 1] & 0xFFFFFFFF], axis=1)


def group_min(groups: Ints, values: Ints, size: int) -> Ints:
    """Least value of each group; 0 where there is none."""
    nothing = np.iinfo(np.int64).max
    out = np.full(size, nothing, np.int64)
    np.minimum.at(out, groups, values)
    out[out == nothing] = 0
    return out


def group_max(groups: Ints, values: Ints, size: int) -> Ints:
    """Largest value of each group; 0 where there is none. Values are >= 0."""
    out = np.zeros(size, np.int64)
    np.maximum.at(out, groups, values)
    return out


def distinct_per_group(groups: Ints, owners: Ints, size: int) -> Ints:
    """How many distinct owners each group has. `owners` is non-decreasing, as in a walk through a log."""
    small = groups.astype(np.uint16) if size <= 1 << 16 else groups  # sorted by radix, 10 times as fast
    order = np.argsort(small, kind="stable")
    group, owner = groups[order], owners[order]
    first = np.ones(len(order), bool)
    first[1:] = (group[1:] != group[:-1]) | (owner[1:] != owner[:-1])
    return np.bincount(group[first], minlength=size)
