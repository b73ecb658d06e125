"""What kernels on a device write -> partial results, on the host.

Three forms, each with one entry for every piece of a batch, P of them:

- *moments*, float64 (P, 5, C): count, mean, m2, minimum, maximum;
- *sums* of integers, int64 (P, 6 or 11, C): see `SUMS`;
- *records* of exact sums, int64 (P, C, words): those of a grid, with limbs that are not carried and
  with extremes as keys.

In sums of up to 32 bits and in records, extremes are keys: whole numbers above 0 of which the
largest is kept, so that zeros stand for no values at all. The key of a minimum is that of what is
left up to the top of an integer's range, or of the negated float.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamnorm import limbs
from streamnorm import partial as rounded
from streamnorm.arrays import Array
from streamnorm.dtypes import Precision, precision_of
from streamnorm.limbs import NARROW, WIDE, Exact
from streamnorm.partial import Partial

__all__ = ["KEY", "MOST_VALUES", "NO_KEY", "SUMS", "WIDE_SUMS", "decoder"]

SUMS = ("count", "low", "high", "sum", "squares", "squares 32")
"""Of integers: how many; keys of the extremes; the sum; and that of the squares' lower and upper 32
bits, or of all of them, for 8 and 16 bits, in the first of the two."""
WIDE_SUMS = (*SUMS, "sum 32", "cross", "cross 32", "squares 64", "squares 96")
"""Of 64-bit integers, as halves l and h of absolute values: extremes as they are, sums of l and h
with signs, and of both halves of l², h·l and h²."""
MOST_VALUES = 1 << 30
"""Of each channel in a piece, for no sum to leave its 64 bits."""

KEY = (1 << 31) + 1
"""What is added to the order of a float32, for its key to be above 0."""
NO_KEY = -(1 << 63)
"""In records of float64, whose keys are their order itself: that there is no value."""
_ONE = -NARROW.exponent // limbs.LIMB_BITS
_WORDS = {name: NARROW.dtype.fields[name][1] // 8 for name in NARROW.dtype.names or ()}  # type: ignore[index]
_SIGN = 1 << 63


@lru_cache(maxsize=1024)
def decoder(dtype: str, each: int, exact: bool, omit: bool) -> Callable[[Array], Array]:
    """Return what makes rows of the numbers of a batch with `each` values a channel."""
    precision = precision_of(dtype)
    if not exact:
        return partial(_moments, precision, each)
    return partial(_exact, precision, each, omit)


def _moments(precision: Precision, each: int, raw: Array) -> Partial:
    pieces = _of_moments(raw) if raw.dtype == np.float64 else _of_sums(precision, raw)
    rows = rounded.merge_tree(pieces)
    rows["omitted"] = each - rows["count"]
    return rows


def _of_moments(raw: NDArray[np.float64]) -> Partial:
    rows = rounded.empty((raw.shape[0], raw.shape[2]))
    for k, name in enumerate(("count", "mean", "m2", "minimum", "maximum")):
        rows[name] = raw[:, k]
    return rows


def _of_sums(precision: Precision, raw: NDArray[np.int64]) -> Partial:
    """Centre sums around the whole number nearest to the mean, in integers; then round.

    That way what is subtracted from the sum of squares is at most half of it.
    """
    count, low, high, total, squares = (raw[:, k] for k in range(5))
    some = count > 0
    n = np.where(some, count, 1)
    center = (2 * total + n) // (2 * n)
    # Products may leave 64 bits; what is left in the end does not.
    first = total - n * center
    second = squares - 2 * center * total + n * center * center
    rows = rounded.empty(count.shape)
    rows["count"] = count
    least, most = _ends(precision, low, high)
    mean = np.clip(center + first / n, least, most)
    m2 = second - first * (first / n)
    values = {"mean": mean, "m2": m2, "minimum": least, "maximum": most}
    for name, numbers in values.items():
        rows[name] = np.where(some, numbers, rows[name])
    return rows


def _ends(precision: Precision, low: Any, high: Any) -> tuple[Any, Any]:
    """Return the extremes that keys of integers stand for."""
    least, most = precision.range
    return most + 1 - low, high - 1 + least


def _exact(precision: Precision, each: int, omit: bool, raw: NDArray[np.int64]) -> Exact:
    make = _record if precision.is_float else _record_of_sums
    parts = [make(precision, piece) for piece in raw]
    rows = parts[0] if len(parts) == 1 else limbs.add_up(parts)
    rows["omitted"] = each - rows["count"]
    if omit:
        limbs.omit_nan(rows)
    return rows


def _record_of_sums(precision: Precision, sums: NDArray[np.int64]) -> Exact:
    rows = limbs.empty(sums.shape[1])
    rows["count"] = sums[0]
    some = sums[0] > 0
    if len(sums) == len(SUMS):
        least, most = _ends(precision, sums[1], sums[2])
        rows["minimum"][some], rows["maximum"][some] = least[some], most[some]
    else:
        _put_wide_ends(precision, sums[1], sums[2], rows)
    total, squares = rows["sum"], rows["squares"]
    total[:, _ONE], squares[:, 2 * _ONE], squares[:, 2 * _ONE + 1] = sums[3:6]
    if len(sums) == len(WIDE_SUMS):
        total[:, _ONE + 1] = sums[6]
        # Twice the cross product, 33 bits up.
        squares[:, 2 * _ONE + 1] += 2 * sums[7]
        squares[:, 2 * _ONE + 2] = 2 * sums[8] + sums[9]
        squares[:, 2 * _ONE + 3] = sums[10]
    limbs.carry(total)
    limbs.carry(squares)
    return rows


def _put_wide_ends(precision: Precision, low: Any, high: Any, rows: Exact) -> None:
    """Note extremes exactly: the nearest float64, and what is missing."""
    offset = _SIGN if precision.name == "uint64" else 0
    for name, numbers in (("minimum", low), ("maximum", high)):
        for c in np.flatnonzero(rows["count"]):
            number = int(numbers[c]) + offset
            rows[name][c] = float(number)
            rows[f"{name}_rest"][c] = number - int(float(number))


def _record(precision: Precision, words: NDArray[np.int64]) -> Exact:
    wide = precision.name == "float64"
    rows: Exact = np.ascontiguousarray(words).view((WIDE if wide else NARROW).dtype)[:, 0]
    for name, sign in (("minimum", -1), ("maximum", 1)):
        keys = words[:, _WORDS[name]]
        none = keys == (NO_KEY if wide else 0)
        rows[name] = np.where(none, np.nan, sign * _of_keys(keys, wide)) + 0.0
    limbs.carry(rows["sum"])
    limbs.carry(rows["squares"])
    return rows


def _of_keys(keys: NDArray[np.int64], wide: bool) -> NDArray[np.float64]:
    """Return the numbers whose bits, as integers in their order, the keys are."""
    if wide:
        return (keys ^ (keys >> 63 & np.int64(_SIGN - 1))).view(np.float64)
    bits = (keys - KEY).astype(np.int32)
    return (bits ^ (bits >> 31 & np.int32((1 << 31) - 1))).view(np.float32).astype(np.float64)
