"""Compiled: one tile of float32 or float64 values -> one channel's running moments.

A block is cut into tiles that stay in the first-level cache. The first tile of a channel takes two
passes: its mean, then the squared deviations from it with the correction for that mean's rounding
(Chan, Golub & LeVeque 1983, eq. 1.7). Later tiles take one, in groups: their deviations are from
the channel's mean m so far in this block. A group is closed once it holds as many values as m is
the mean of, and so never holds twice as many. What cancels in s2 - s1**2/n is then
n (m - group mean)**2, at most three times what the merge adds to the block's m2: the error stays
relative to that. Nothing is carried from block to block.

Extremes are found as integers: under `_range`'s map the bit patterns of floats sort as the numbers
do, which vectorises where a comparison of floats does not. They also tell whether the tile holds a
NaN or an infinity, so the sums never test.
"""

from typing import Any

import numpy as np

from streamnorm.arrays import Array
from streamnorm.kernels.compiled import SUMS, add_fields, jit
from streamnorm.kernels.machine import prefetch

__all__ = ["GROUP", "TILE", "add_clamped", "add_tile", "close_group", "is_plain", "value_of"]

GROUP = np.dtype(
    [
        ("shift", np.float64),
        ("limit", np.int64),
        ("count", np.int64),
        ("s1", np.float64),
        ("s2", np.float64),
        ("lo", np.float64),
        ("hi", np.float64),
    ]
)
"""A channel's open group of tiles: sums around one shift, until it holds `limit` values."""

TILE = 4096
STRIP = 256
"""Extremes first, then sums, strip by strip: the dense loads of the integer scan fetch the memory
that the sums then find in the cache. Streaming from memory on one thread: 15.3 GB/s, against
8.1 GB/s with the sums first and 6.2 GB/s with one fused loop."""
LINE = 64
AHEAD = 256
"""Bytes of a cache line, and how many values past a strip are asked for while it is summed:
14.1 GB/s from memory against 11.7 GB/s without; 512 values ahead 13.2 GB/s."""
# Beyond 2**500 squares could overflow: such a tile is scaled by a power of two first.
HUGE = 2.0**500
DOWN = 2.0**-600
UP = 2.0**600

# An unsigned index cannot be negative, so it needs no test and the loop vectorises.
Index = np.uint64

# notation: n count, s sum, s1 sum of deviations, s2 of squared deviations, lo and hi extremes


# Twice, with constants of each width: one source over `bits.dtype` ran at 14 GB/s instead of 23.
@jit
def _range32(bits: Array, start: int, stop: int) -> Any:
    lo = np.int32(0x7FFFFFFF)
    hi = np.int32(-0x80000000)
    for i in range(Index(start), Index(stop)):
        b = bits[i]
        key = np.int32(b ^ ((b >> np.int32(31)) & np.int32(0x7FFFFFFF)))
        lo = np.int32(min(lo, key))
        hi = np.int32(max(hi, key))
    return np.int64(lo), np.int64(hi)


@jit
def _range64(bits: Array, start: int, stop: int) -> Any:
    lo = np.int64(0x7FFFFFFFFFFFFFFF)
    hi = np.int64(-0x8000000000000000)
    for i in range(Index(start), Index(stop)):
        b = bits[i]
        key = b ^ ((b >> 63) & 0x7FFFFFFFFFFFFFFF)
        lo = min(lo, key)
        hi = max(hi, key)
    return lo, hi


@jit
def _range(bits: Array, start: int, stop: int) -> Any:
    """Smallest and largest order key."""
    if bits.itemsize == 4:
        return _range32(bits, start, stop)
    return _range64(bits, start, stop)


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
def _reopen(row: Any, group: Any) -> None:
    """Begin a new group around the channel's mean so far; keep the old one if that is not plain."""
    mean = row["mean"]
    if row["count"] > 0 and is_plain(mean, mean):
        group["shift"] = mean
        group["limit"] = row["count"]
    group["count"] = 0
    group["s1"] = 0.0
    group["s2"] = 0.0
    group["lo"] = np.inf
    group["hi"] = -np.inf


@jit
def close_group(row: Any, group: Any) -> None:
    """Merge what a group has gathered into its channel's row, and begin the next."""
    n = group["count"]
    if n > 0:
        s1 = group["s1"]
        lo = group["lo"]
        hi = group["hi"]
        if lo == hi:
            add_clamped(row, n, lo, 0.0, lo, hi)
        else:
            add_clamped(row, n, group["shift"] + s1 / n, group["s2"] - s1 * s1 / n, lo, hi)
    _reopen(row, group)


@jit
def _add_apart(
    row: Any, x: Array, bits: Array, start: int, stop: int, omit: bool,
    scratch: Array, s_bits: Array,
) -> None:  # fmt: skip
    """Merge a tile by itself: a channel's first, or one with NaN, infinities, huge values."""
    lo_key, hi_key = _range(bits, start, stop)
    lo = value_of(lo_key, bits)
    hi = value_of(hi_key, bits)
    if lo == lo and hi == hi:
        _add_without_nan(row, x, start, stop, lo, hi, scratch)
    elif omit:
        _add_without_omitted(row, x, start, stop, scratch, s_bits)
    else:
        add_fields(row, stop - start, np.nan, np.nan, np.nan, np.nan, 0)


@jit
def add_tile(
    row: Any, group: Any, x: Array, bits: Array, start: int, stop: int, omit: bool,
    scratch: Array, s_bits: Array,
) -> None:  # fmt: skip
    """Add a tile of at most `TILE` values to a channel; `x` may be `scratch` itself."""
    n = stop - start
    if group["limit"] < n:
        _add_apart(row, x, bits, start, stop, omit, scratch, s_bits)
        close_group(row, group)
        return
    shift = group["shift"]
    lo_key, hi_key = _range(bits, start, start)
    s1 = 0.0
    s2 = 0.0
    for at in range(start, stop, STRIP):
        end = min(at + STRIP, stop)
        for line in range(Index(end), Index(end + AHEAD), Index(LINE // bits.itemsize)):
            prefetch(x, line)
        lo_strip, hi_strip = _range(bits, at, end)
        lo_key = min(lo_key, lo_strip)
        hi_key = max(hi_key, hi_strip)
        s1_strip, s2_strip = _deviations(x, at, end, shift)
        s1 += s1_strip
        s2 += s2_strip
    lo = value_of(lo_key, bits)
    hi = value_of(hi_key, bits)
    if not is_plain(lo, hi):
        _add_apart(row, x, bits, start, stop, omit, scratch, s_bits)
        return
    group["count"] += n
    group["s1"] += s1
    group["s2"] += s2
    group["lo"] = min(group["lo"], lo)
    group["hi"] = max(group["hi"], hi)
    if group["count"] >= group["limit"]:
        close_group(row, group)
