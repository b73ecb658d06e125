"""Compiled: one tile of float32 or float64 values -> one channel's running moments.

A block is cut into tiles that stay in the first-level cache. The first tile of a channel takes two
passes: its mean, then the squared deviations from it with the correction for that mean's rounding
(Chan, Golub & LeVeque 1983, eq. 1.7). Later tiles take one: the deviations are from the channel's
running mean m within this block, of at least as many values as the tile holds. What cancels in
s2 - s1**2/n is then n (m - tile mean)**2, at most twice what the merge adds to the block's m2: the
error stays relative to that. Nothing is carried from block to block.

Extremes are found as integers: under `_order` the bit patterns of floats sort as the numbers do,
which vectorises where a comparison of floats does not. They also tell whether the tile holds a NaN
or an infinity, so the sums never test.
"""

from typing import Any

import numpy as np

from streamnorm.arrays import Array
from streamnorm.kernels.compiled import SUMS, add_fields, jit

__all__ = ["TILE", "add_clamped", "add_tile", "is_plain", "value_of"]

TILE = 4096
STRIP = 512
"""Extremes first, then sums, strip by strip: the dense loads of the integer scan fetch the memory
that the sums then find in the cache. Streaming from memory on one thread: 15.3 GB/s, against
8.1 GB/s with the sums first and 6.2 GB/s with one fused loop."""
# Beyond 2**500 squares could overflow: such a tile is scaled by a power of two first.
HUGE = 2.0**500
DOWN = 2.0**-600
UP = 2.0**600

# An unsigned index cannot be negative, so it needs no test and the loop vectorises.
Index = np.uint64

# notation: n count, s sum, s1 sum of deviations, s2 of squared deviations, lo and hi extremes


@jit
def _range(bits: Array, start: int, stop: int) -> Any:
    """Smallest and largest order key."""
    word = bits.dtype.type
    sign = word(bits.itemsize * 8 - 1)
    top = word(np.iinfo(bits.dtype).max)
    lo = top
    hi = word(np.iinfo(bits.dtype).min)
    for i in range(Index(start), Index(stop)):
        b = bits[i]
        key = word(b ^ ((b >> sign) & top))
        lo = word(min(lo, key))
        hi = word(max(hi, key))
    return lo, hi


@jit
def value_of(key: Any, bits: Array) -> Any:
    """The number behind an order key: the map is its own inverse."""
    if bits.itemsize == 4:
        return np.float64(np.int32(key ^ ((key >> 31) & 0x7FFFFFFF)).view(np.float32))
    return np.int64(key ^ ((key >> 63) & 0x7FFFFFFFFFFFFFFF)).view(np.float64)


@jit
def is_plain(lo: float, hi: float) -> bool:
    """Whether squares of all deviations are finite; False where a bound is NaN."""
    return lo >= -HUGE and hi <= HUGE


# Apart and without fastmath, so that no sum is regrouped across the subtraction.
@jit
def _minus(a: float, b: float) -> float:
    return a - b


def _deviations(x: Array, start: int, stop: int, shift: float) -> Any:
    """Sums of ``x - shift`` and of its square."""
    s1 = np.float64(0.0)
    s2 = np.float64(0.0)
    for i in range(Index(start), Index(stop)):
        d = _minus(x[i], shift)
        s1 += d
        s2 += d * d
    return s1, s2


def _sum(x: Array, start: int, stop: int) -> float:
    s = np.float64(0.0)
    for i in range(Index(start), Index(stop)):
        s += x[i]
    return s


_deviations = jit(_deviations, fastmath=SUMS)
_sum = jit(_sum, fastmath=SUMS)


@jit
def _two_passes(x: Array, start: int, stop: int) -> Any:
    """Mean and m2 of plain values."""
    n = stop - start
    mean = _sum(x, start, stop) / n
    s1, s2 = _deviations(x, start, stop, mean)
    return mean + s1 / n, s2 - s1 * s1 / n


@jit
def add_clamped(row: Any, n: int, mean: float, m2: float, lo: float, hi: float) -> None:
    """Merge what rounding may have left outside: mean beyond the extremes, m2 below zero.

    Comparisons, not min and max, so that a NaN stays one.
    """
    if mean < lo:
        mean = lo
    if mean > hi:
        mean = hi
    if m2 < 0.0:
        m2 = 0.0
    add_fields(row, n, mean, m2, lo + 0.0, hi + 0.0, 0)


@jit
def _add_without_nan(
    row: Any, x: Array, start: int, stop: int, lo: float, hi: float, scratch: Array
) -> None:
    n = stop - start
    if lo == hi and lo - lo == 0.0:
        add_clamped(row, n, lo, 0.0, lo, hi)
    elif is_plain(lo, hi):
        mean, m2 = _two_passes(x, start, stop)
        add_clamped(row, n, mean, m2, lo, hi)
    elif lo - lo != 0.0 or hi - hi != 0.0:
        # One infinity is the mean, both make it NaN.
        add_clamped(row, n, lo + hi, np.nan, lo, hi)
    else:
        for i in range(n):
            scratch[i] = x[start + i] * DOWN
        mean, m2 = _two_passes(scratch, 0, n)
        add_clamped(row, n, mean * UP, m2 * UP * UP, lo, hi)


@jit
def _add_without_omitted(
    row: Any, x: Array, start: int, stop: int, scratch: Array, s_bits: Array
) -> None:
    kept = 0
    for i in range(start, stop):
        if x[i] == x[i]:
            scratch[kept] = x[i]
            kept += 1
    row["omitted"] += stop - start - kept
    if kept > 0:
        lo, hi = _range(s_bits, 0, kept)
        _add_without_nan(row, scratch, 0, kept, value_of(lo, s_bits), value_of(hi, s_bits), scratch)


@jit
def add_tile(
    row: Any, x: Array, bits: Array, start: int, stop: int, omit: bool,
    scratch: Array, s_bits: Array,
) -> None:  # fmt: skip
    """Merge one tile into a channel's row; `x` may be `scratch` itself."""
    n = stop - start
    shift = row["mean"]
    one_pass = row["count"] >= n and is_plain(shift, shift)
    lo_key, hi_key = _range(bits, start, start)
    s1 = 0.0
    s2 = 0.0
    for at in range(start, stop, STRIP):
        end = min(at + STRIP, stop)
        lo_strip, hi_strip = _range(bits, at, end)
        lo_key = min(lo_key, lo_strip)
        hi_key = max(hi_key, hi_strip)
        if one_pass:
            s1_strip, s2_strip = _deviations(x, at, end, shift)
            s1 += s1_strip
            s2 += s2_strip
    lo = value_of(lo_key, bits)
    hi = value_of(hi_key, bits)
    if one_pass and lo < hi and is_plain(lo, hi):
        add_clamped(row, n, shift + s1 / n, s2 - s1 * s1 / n, lo, hi)
    elif lo == lo and hi == hi:
        _add_without_nan(row, x, start, stop, lo, hi, scratch)
    elif omit:
        _add_without_omitted(row, x, start, stop, scratch, s_bits)
    else:
        add_fields(row, n, np.nan, np.nan, np.nan, np.nan, 0)
