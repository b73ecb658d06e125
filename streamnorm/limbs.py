"""The state of exact sums: integers on a fixed binary grid, in limbs.

A sum is an integer times 2**exponent, in limbs of 32 bits that each stand in an int64. Whoever
adds, adds limb by limb, at most 2**30 times before the limbs are carried. Carried, all but the
last are from 0 to 2**32 - 1 and the last has the sign: of one number there is one such form.

No sum can leave its grid. With fewer than 2**63 values of absolute value below 2**b (b is 128 for
float32, and for integers of up to 64 bits, 1024 for float64), the sum is below 2**(b + 63) and that
of squares below 2**(2 b + 63): the highest bits of the grids are those of their signs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamnorm.fields import MAX_COUNT, Bools, Counts

__all__ = [
    "COUNTS",
    "LIMB_BITS",
    "NARROW",
    "WIDE",
    "Exact",
    "Grid",
    "add_up",
    "added_counts",
    "alike",
    "as_integers",
    "carry",
    "empty",
    "finite",
    "grid_of",
    "of_integers",
    "omit_nan",
    "widened",
]

LIMB_BITS = 32
COUNTS = ("count", "omitted", "nan", "positive_infinity", "negative_infinity")
Exact = NDArray[np.void]
"""An array of records of a grid's dtype, shape (C,)."""

_MASK = (1 << LIMB_BITS) - 1
_AT_A_TIME = 1024
"""Parts that are added before their sum is carried, and that stand in memory once more for it."""
_LARGEST = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the sums of some dtypes have their digits.

    Attributes
    ----------
    name : str
        For the state file's reader and for pickles.
    exponent : int
        The sum is a multiple of 2**exponent, and that of squares of 2**(2 * exponent).
    limbs, square_limbs : int
        How many there are of both.
    bits : int
        All values are below 2**bits.
    dtype : numpy.dtype
        The record of a channel: counts; the extremes of finite values, as the nearest float64 and,
        for integers beyond 2**53, what was rounded away; both sums.
    """

    name: str
    exponent: int
    limbs: int
    square_limbs: int
    bits: int
    dtype: np.dtype[np.void] = field(init=False)

    def __post_init__(self) -> None:
        kinds: list[Any] = [(name, np.int64) for name in COUNTS]
        kinds += [("minimum", np.float64), ("maximum", np.float64)]
        kinds += [("minimum_rest", np.int64), ("maximum_rest", np.int64)]
        kinds += [("sum", np.int64, (self.limbs,)), ("squares", np.int64, (self.square_limbs,))]
        object.__setattr__(self, "dtype", np.dtype(kinds))


NARROW = Grid("narrow", -160, 11, 20, 128)
WIDE = Grid("wide", -1088, 68, 134, 1024)
"""For float64; all others are narrow. Every limb of the narrow one is a limb of the wide one."""


def grid_of(rows: Exact) -> Grid:
    """Return the grid of records."""
    return NARROW if rows.dtype == NARROW.dtype else WIDE


def empty(shape: int | tuple[int, ...], grid: Grid = NARROW) -> Exact:
    """Return identities of the merge."""
    rows = np.zeros(shape, grid.dtype)
    rows["minimum"] = rows["maximum"] = np.nan
    return rows


def finite(rows: Exact) -> Counts:
    """Return how many values are finite numbers: those that the sums are of."""
    others = rows["nan"] + rows["positive_infinity"] + rows["negative_infinity"]
    return np.asarray(rows["count"] - others)


def omit_nan(rows: Exact) -> None:
    """Make of NaN that were counted values that were left out, in place."""
    rows["omitted"] += rows["nan"]
    rows["count"] -= rows["nan"]
    rows["nan"] = 0


def widened(rows: Exact) -> Exact:
    """Return the same numbers on the wide grid."""
    if grid_of(rows) is WIDE:
        return rows
    wide = empty(rows.shape, WIDE)
    for name in NARROW.dtype.names or ():
        if name not in ("sum", "squares"):
            wide[name] = rows[name]
    first = (NARROW.exponent - WIDE.exponent) // LIMB_BITS
    for name, start in (("sum", first), ("squares", 2 * first)):
        limbs, there = rows[name], wide[name]
        top = start + limbs.shape[-1]
        there[..., start:top] = limbs & _MASK
        there[..., top:] = np.where(limbs[..., -1:] < 0, _MASK, 0)
        there[..., -1] = limbs[..., -1] >> LIMB_BITS
    return wide


def alike(a: Exact, b: Exact) -> tuple[Exact, Exact]:
    """Return records on one grid."""
    same = grid_of(a) is grid_of(b)
    return (a, b) if same else (widened(a), widened(b))


def carry(limbs: NDArray[np.int64]) -> None:
    """Bring limbs, shape (..., L), into their one form, in place."""
    while True:
        over = limbs[..., :-1] >> LIMB_BITS
        if not over.any():
            return
        limbs[..., :-1] &= _MASK
        limbs[..., 1:] += over


def add_up(parts: Sequence[Exact]) -> Exact:
    """Add records of one or more parts, each of shape (C,) and carried.

    Raises
    ------
    OverflowError
        If a count would exceed 2**63 - 1.
    """
    wide = any(grid_of(part) is WIDE for part in parts)
    total = _added(parts[:_AT_A_TIME], wide)
    for start in range(_AT_A_TIME, len(parts), _AT_A_TIME):
        total = _added([total, *parts[start : start + _AT_A_TIME]], wide)
    return total


def _added(parts: Sequence[Exact], wide: bool) -> Exact:
    dtype = WIDE.dtype if wide else NARROW.dtype
    # Bytes: np.stack compares the fields of structured arrays one by one, 5 µs a part.
    states: Any = (np.ascontiguousarray(widened(part) if wide else part) for part in parts)
    rows = np.frombuffer(b"".join(states), dtype).reshape(len(parts), -1)
    total = np.empty(rows.shape[1], dtype)
    for name in COUNTS:
        total[name] = added_counts(rows[name])
    some = finite(rows) > 0
    # The largest of the negated is the smallest; -(-x) is x, whatever x.
    for name, sign in (("minimum", -1), ("maximum", 1)):
        value, rest = _largest(sign * rows[name], sign * rows[f"{name}_rest"], some)
        total[name] = sign * value + 0.0
        total[f"{name}_rest"] = sign * rest
    for name in ("sum", "squares"):
        limbs = rows[name].sum(axis=0)
        carry(limbs)
        total[name] = limbs
    return total


def _largest(values: Any, rests: Any, some: Bools) -> tuple[Any, Any]:
    """Return the largest of those that there are; NaN if there are none or one is unknown."""
    known = np.where(some, values, -np.inf)
    best = known.max(axis=0)
    among = some & (known == best)
    rest = np.where(among, rests, -_LARGEST).max(axis=0)
    known_at_all = among.any(axis=0)
    return np.where(known_at_all, best, np.nan), np.where(known_at_all, rest, 0)


def added_counts(counts: Counts) -> Counts:
    """Add counts along the first axis.

    Raises
    ------
    OverflowError
        If one would exceed 2**63 - 1.
    """
    # Both halves of fewer than 2**31 counts add up without a wrap.
    low = (counts & _MASK).sum(axis=0)
    high = (counts >> LIMB_BITS).sum(axis=0) + (low >> LIMB_BITS)
    if (high >> (LIMB_BITS - 1)).any():
        msg = f"the merged count would exceed {MAX_COUNT} (2**63 - 1), the most that int64 holds"
        raise OverflowError(msg)
    return np.asarray((high << LIMB_BITS) | (low & _MASK))


def as_integers(limbs: NDArray[np.int64]) -> list[int]:
    """Return the integers that carried limbs, shape (C, L), stand for."""
    words = (limbs & _MASK).astype("<u4")
    return [int.from_bytes(row.tobytes(), "little", signed=True) for row in words]


def of_integers(numbers: Iterable[int], size: int) -> NDArray[np.int64]:
    """Return integers as carried limbs, shape (C, size)."""
    data = b"".join(n.to_bytes(4 * size, "little", signed=True) for n in numbers)
    limbs = np.frombuffer(data, "<u4").reshape(-1, size).astype(np.int64)
    top = limbs[:, -1]
    limbs[:, -1] = np.where(top >= 1 << (LIMB_BITS - 1), top - (1 << LIMB_BITS), top)
    return limbs
