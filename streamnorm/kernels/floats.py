"""Compiled kernels for boxes of float32 and float64 arrays.

Where a channel's values lie in long runs, they are read tile by tile as they lie. Channels last are
read row by row, in lanes. Everything else (masks, short runs, columns with a NaN or an infinity) is
gathered into tiles first.
"""

from typing import Any

import numpy as np

from streamnorm.arrays import Array
from streamnorm.kernels.compiled import jit
from streamnorm.kernels.machine import claim
from streamnorm.kernels.tiles import (
    GROUP,
    TILE,
    add_clamped,
    add_tile,
    close_group,
    is_plain,
    value_of,
)
from streamnorm.partial import Partial

__all__ = ["by_lanes", "by_runs"]

SHORT_RUN = 512
LANES = 96
LANE_ROWS = 64

# notation: n count, s sum, s1 sum of deviations, s2 of squared deviations, lo and hi order keys,
# o, c, i the indices outer, channel, inner, whose ranges are o0 to o1 and i0 to i1


@jit
def _add_gathered(
    row: Any, group: Any, x: Array, valid: Array, channels: int, inner: int, o0: int, o1: int,
    c: int, i0: int, i1: int, omit: bool, scratch: Array, s_bits: Array,
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
                add_tile(row, group, scratch, s_bits, 0, kept, omit, scratch, s_bits)
                kept = 0
    if kept > 0:
        add_tile(row, group, scratch, s_bits, 0, kept, omit, scratch, s_bits)


@jit
def _box_by_runs(
    x: Array, bits: Array, valid: Array, inner: int, o0: int, o1: int, i0: int, i1: int,
    omit: bool, out: Partial,
) -> None:  # fmt: skip
    channels = out.size
    scratch = np.empty(TILE)
    s_bits = scratch.view(np.int64)
    groups = np.zeros(channels, GROUP)
    for c in range(channels):
        close_group(out[c], groups[c])
    if valid.size > 0 or i1 - i0 < SHORT_RUN:
        for c in range(channels):
            _add_gathered(
                out[c],
                groups[c],
                x,
                valid,
                channels,
                inner,
                o0,
                o1,
                c,
                i0,
                i1,
                omit,
                scratch,
                s_bits,
            )
            close_group(out[c], groups[c])
        return
    # In the order of memory: channel after channel would jump back and forth at half the speed.
    for o in range(o0, o1):
        for c in range(channels):
            base = (o * channels + c) * inner
            for start in range(base + i0, base + i1, TILE):
                stop = min(start + TILE, base + i1)
                add_tile(out[c], groups[c], x, bits, start, stop, omit, scratch, s_bits)
    for c in range(channels):
        close_group(out[c], groups[c])


@jit
def by_runs(
    x: Array, bits: Array, valid: Array, inner: int, boxes: Array, turn: Array,
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
    turn : array of int64, shape (1,)
        The next box that nobody has taken; shared by the threads at work.
    omit : bool
        Leave NaN out (and count them) instead of letting them spread.
    rows : array of PARTIAL, shape (B, C)
        Empty rows; those of the boxes that this call takes are filled in.
    """
    b = claim(turn)
    while b < len(boxes):
        o0, o1, i0, i1 = boxes[b]
        _box_by_runs(x, bits, valid, inner, o0, o1, i0, i1, omit, rows[b])
        b = claim(turn)


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
def _fold_sums(lanes: Array, channels: int) -> None:
    """Add the lanes of each channel into its first."""
    for j in range(channels, lanes.size):
        lanes[j % channels] += lanes[j]


@jit
def _fold_range(lo: Array, hi: Array, channels: int) -> None:
    for j in range(channels, lo.size):
        lo[j % channels] = min(lo[j % channels], lo[j])
        hi[j % channels] = max(hi[j % channels], hi[j])


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
    groups = np.zeros(1, GROUP)
    close_group(out[0], groups[0])
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
        _fold_sums(s, channels)
        _fold_range(lo, hi, channels)
        for lane in range(lanes):
            mean[lane] = s[lane % channels] / n
        for at in range(0, tile.size, lanes):
            _add_deviations(tile[at : at + lanes], mean, s1, s2)
        _fold_sums(s1, channels)
        _fold_sums(s2, channels)
        for c in range(channels):
            low = value_of(lo[c], bits)
            high = value_of(hi[c], bits)
            if not is_plain(low, high):
                _add_gathered(
                    out[c],
                    groups[0],
                    x,
                    valid,
                    channels,
                    1,
                    start,
                    stop,
                    c,
                    0,
                    1,
                    omit,
                    scratch,
                    s_bits,
                )
                close_group(out[c], groups[0])
                groups[0]["limit"] = 0
                continue
            m2 = 0.0 if low == high else s2[c] - s1[c] * s1[c] / n
            add_clamped(out[c], n, mean[c] + s1[c] / n, m2, low, high)


@jit
def by_lanes(
    x: Array, bits: Array, valid: Array, inner: int, boxes: Array, turn: Array,
    omit: bool, rows: Partial,
) -> None:  # fmt: skip
    """Measure boxes of an (O, C, 1) array, channels last, row by row; parameters as `by_runs`.

    Narrow rows are read as one row of ``C * ceil(96 / C)`` lanes, whose sums are folded to C.
    """
    b = claim(turn)
    while b < len(boxes):
        _box_by_lanes(x, bits, valid, boxes[b, 0], boxes[b, 1], omit, rows[b])
        b = claim(turn)
