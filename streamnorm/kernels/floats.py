"""Compiled kernels for float32 and float64 blocks.

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
from streamnorm.partial import Partial

__all__ = ["by_lanes", "by_runs"]

TILE = 4096
STRIP = 512
"""Extremes first, then sums, strip by strip: the dense loads of the integer scan fetch the memory
that the sums then find in the cache. Streaming from memory on one thread: 15.3 GB/s, against
8.1 GB/s with the sums first and 6.2 GB/s with one fused loop."""
SHORT_RUN = 512
LANES = 96
LANE_ROWS = 64
# Beyond 2**500 squares could overflow: such a tile is scaled by a power of two first.
HUGE = 2.0**500
DOWN = 2.0**-600
UP = 2.0**600

# An unsigned index cannot be negative, so it needs no test and the loop vectorises.
Index = np.uint64

# notation: n count, s sum, s1 sum of deviations, s2 of squared deviations, lo and hi extremes,
# o, c, i the indices outer, channel, inner, whose ranges are o0 to o1 and i0 to i1


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
def _value(key: Any, bits: Array) -> Any:
    """The number behind an order key: the map is its own inverse."""
    if bits.itemsize == 4:
        return np.float64(np.int32(key ^ ((key >> 31) & 0x7FFFFFFF)).view(np.float32))
    return np.int64(key ^ ((key >> 63) & 0x7FFFFFFFFFFFFFFF)).view(np.float64)


@jit
def _is_plain(lo: float, hi: float) -> bool:
    """Whether squares of all deviations are finite; False where a bound is NaN."""
    return -HUGE <= lo and hi <= HUGE


# Apart and without fastmath, so that no sum is regrouped across the subtraction.
@jit
def _minus(a: float, b: float) -> float:
    return a - b


def _deviations(x: Array, start: int, stop: int, shift: float) -> Any:
    """Sums of ``x - shift`` and of its square."""
    s1 = 0.0
    s2 = 0.0
    for i in range(Index(start), Index(stop)):
        d = _minus(x[i], shift)
        s1 += d
        s2 += d * d
    return s1, s2


def _sum(x: Array, start: int, stop: int) -> float:
    s = 0.0
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
def _add_clamped(row: Any, n: int, mean: float, m2: float, lo: float, hi: float) -> None:
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
        _add_clamped(row, n, lo, 0.0, lo, hi)
    elif _is_plain(lo, hi):
        mean, m2 = _two_passes(x, start, stop)
        _add_clamped(row, n, mean, m2, lo, hi)
    elif lo - lo != 0.0 or hi - hi != 0.0:
        # One infinity is the mean, both make it NaN.
        _add_clamped(row, n, lo + hi, np.nan, lo, hi)
    else:
        for i in range(n):
            scratch[i] = x[start + i] * DOWN
        mean, m2 = _two_passes(scratch, 0, n)
        _add_clamped(row, n, mean * UP, m2 * UP * UP, lo, hi)


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
        _add_without_nan(row, scratch, 0, kept, _value(lo, s_bits), _value(hi, s_bits), scratch)


@jit
def _add_tile(
    row: Any, x: Array, bits: Array, start: int, stop: int, omit: bool,
    scratch: Array, s_bits: Array,
) -> None:  # fmt: skip
    """Merge one tile into a channel's row; `x` may be `scratch` itself."""
    n = stop - start
    shift = row["mean"]
    one_pass = row["count"] >= n and _is_plain(shift, shift)
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
    lo = _value(lo_key, bits)
    hi = _value(hi_key, bits)
    if one_pass and lo < hi and _is_plain(lo, hi):
        _add_clamped(row, n, shift + s1 / n, s2 - s1 * s1 / n, lo, hi)
    elif lo == lo and hi == hi:
        _add_without_nan(row, x, start, stop, lo, hi, scratch)
    elif omit:
        _add_without_omitted(row, x, start, stop, scratch, s_bits)
    else:
        add_fields(row, n, np.nan, np.nan, np.nan, np.nan, 0)


@jit
def _add_gathered(
    row: Any, x: Array, valid: Array, channels: int, inner: int, o0: int, o1: int, c: int,
    i0: int, i1: int, omit: bool, scratch: Array, s_bits: Array,
) -> None:  # fmt: skip
    """Collect the valid values of one channel tile by tile: masks, short runs, odd columns."""
    masked = valid.size > 0
    kept = 0
    for o in range(o0, o1):
        base = (o * channels + c) * inner
        for i in range(base + i0, base + i1):
            if masked and not valid[i]:
                row["omitted"] += 1
                continue
            scratch[kept] = x[i]
            kept += 1
            if kept == TILE:
                _add_tile(row, scratch, s_bits, 0, kept, omit, scratch, s_bits)
                kept = 0
    if kept > 0:
        _add_tile(row, scratch, s_bits, 0, kept, omit, scratch, s_bits)


@jit
def _box_by_runs(
    x: Array, bits: Array, valid: Array, inner: int, o0: int, o1: int, i0: int, i1: int,
    omit: bool, out: Partial,
) -> None:  # fmt: skip
    channels = out.size
    scratch = np.empty(TILE)
    s_bits = scratch.view(np.int64)
    if valid.size > 0 or i1 - i0 < SHORT_RUN:
        for c in range(channels):
            _add_gathered(
                out[c], x, valid, channels, inner, o0, o1, c, i0, i1, omit, scratch, s_bits
            )
        return
    # In the order of memory: channel after channel would jump back and forth at half the speed.
    for o in range(o0, o1):
        for c in range(channels):
            base = (o * channels + c) * inner
            for start in range(base + i0, base + i1, TILE):
                stop = min(start + TILE, base + i1)
                _add_tile(out[c], x, bits, start, stop, omit, scratch, s_bits)


@jit
def by_runs(
    x: Array, bits: Array, valid: Array, inner: int, boxes: Array, first: int, step: int,
    omit: bool, rows: Partial,
) -> None:  # fmt: skip
    """Measure boxes ``[o0:o1, :, i0:i1]`` of an (O, C, I) array along the inner axis.

    Parameters
    ----------
    x : array, shape (O * C * I,)
        float32 or float64.
    bits : array, shape (O * C * I,)
        The same memory as signed integers.
    valid : array of bool, shape (O * C * I,) or (0,)
        What to count; size 0 for everything.
    inner : int
        I.
    boxes : array of int64, shape (B, 4)
        o0, o1, i0, i1 of each box.
    first, step : int
        Which boxes are this call's: ``first::step``, one share for each thread.
    omit : bool
        Leave NaN out (and count them) instead of letting them spread.
    rows : array of PARTIAL, shape (B, C)
        Empty rows; those of this call's boxes are filled in.
    """
    for b in range(first, len(boxes), step):
        o0, o1, i0, i1 = boxes[b]
        _box_by_runs(x, bits, valid, inner, o0, o1, i0, i1, omit, rows[b])


# One row of lanes at a time, indexed from 0: so that these loops vectorise.
@jit
def _add_sums(row: Array, s: Array) -> None:
    for j in range(row.size):
        s[j] += row[j]


@jit
def _widen_range(keys: Array, lo: Array, hi: Array) -> None:
    word = keys.dtype.type
    sign = word(keys.itemsize * 8 - 1)
    top = word(np.iinfo(keys.dtype).max)
    for j in range(keys.size):
        key = word(keys[j] ^ ((keys[j] >> sign) & top))
        lo[j] = word(min(lo[j], key))
        hi[j] = word(max(hi[j], key))


@jit
def _add_deviations(row: Array, mean: Array, s1: Array, s2: Array) -> None:
    for j in range(row.size):
        d = row[j] - mean[j]
        s1[j] += d
        s2[j] += d * d


@jit
def _box_by_lanes(
    x: Array, bits: Array, valid: Array, o0: int, o1: int, omit: bool, out: Partial
) -> None:
    channels = out.size
    lanes = channels * max(1, -(-LANES // channels))
    rows = max(LANE_ROWS, 2 * TILE // channels)
    s = np.empty(lanes)
    mean = np.empty(lanes)
    s1 = np.empty(lanes)
    s2 = np.empty(lanes)
    lo = np.empty(lanes, bits.dtype)
    hi = np.empty(lanes, bits.dtype)
    scratch = np.empty(TILE)
    s_bits = scratch.view(np.int64)
    for start in range(o0, o1, rows):
        stop = min(start + rows, o1)
        n = stop - start
        s[:] = 0.0
        s1[:] = 0.0
        s2[:] = 0.0
        lo[:] = np.iinfo(bits.dtype).max
        hi[:] = np.iinfo(bits.dtype).min
        tile = x[start * channels : stop * channels]
        keys = bits[start * channels : stop * channels]
        for at in range(0, tile.size, lanes):
            _widen_range(keys[at : at + lanes], lo, hi)
            _add_sums(tile[at : at + lanes], s)
        for c in range(channels):
            for j in range(c + channels, lanes, channels):
                s[c] += s[j]
                lo[c] = min(lo[c], lo[j])
                hi[c] = max(hi[c], hi[j])
            for j in range(c, lanes, channels):
                mean[j] = s[c] / n
        for at in range(0, tile.size, lanes):
            _add_deviations(tile[at : at + lanes], mean, s1, s2)
        for c in range(channels):
            low = _value(lo[c], bits)
            high = _value(hi[c], bits)
            if not _is_plain(low, high):
                _add_gathered(
                    out[c], x, valid, channels, 1, start, stop, c, 0, 1, omit, scratch, s_bits
                )
                continue
            for j in range(c + channels, lanes, channels):
                s1[c] += s1[j]
                s2[c] += s2[j]
            m2 = 0.0 if low == high else s2[c] - s1[c] * s1[c] / n
            _add_clamped(out[c], n, mean[c] + s1[c] / n, m2, low, high)


@jit
def by_lanes(
    x: Array, bits: Array, valid: Array, inner: int, boxes: Array, first: int, step: int,
    omit: bool, rows: Partial,
) -> None:  # fmt: skip
    """Measure boxes of an (O, C, 1) array, channels last, row by row; parameters as `by_runs`.

    Narrow rows are read as one row of ``C * ceil(96 / C)`` lanes, whose sums are folded to C.
    """
    for b in range(first, len(boxes), step):
        _box_by_lanes(x, bits, valid, boxes[b, 0], boxes[b, 1], omit, rows[b])
