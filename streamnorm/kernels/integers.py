"""Compiled kernels for 8- and 16-bit integers: exact integer sums over a whole block.

With at most 2**18 values of a channel in a block, the sum of squares stays below 2**50. The mean
and m2 of the block are each rounded once or twice, whatever the data.
"""

from typing import Any

import numpy as np

from streamnorm.arrays import Array
from streamnorm.kernels.compiled import add_fields, jit
from streamnorm.kernels.machine import claim
from streamnorm.partial import Partial

__all__ = ["by_lanes", "by_runs"]

LANES = 96
# An unsigned index cannot be negative, so it needs no test and the loop vectorises.
Index = np.uint64

# notation: n count, s sum, q sum of squares, lo and hi the extremes; box indices as in floats.py


@jit
def _add_sums(row: Any, n: int, s: Any, q: Any, lo: Any, hi: Any) -> None:
    r"""Merge integer sums into a channel's row.

    With the integer :math:`c` nearest to the mean, :math:`\sum (x-c)^2 = q - c(2s - nc)` is exact
    in 64 bits, and :math:`m_2 = \sum (x-c)^2 - r^2/n` with :math:`r = s - nc` loses at most one
    bit: since x is an integer and \|r/n\| <= 1/2, :math:`m_2 \ge r^2/n`.
    """
    if n > 0:
        c = (2 * s + n) // (2 * n)
        r = s - n * c
        m2 = np.float64(q - c * (2 * s - n * c)) - np.float64(r) * np.float64(r) / n
        add_fields(row, n, c + r / n, m2, np.float64(lo), np.float64(hi), 0)


@jit
def _add_lanes(row: Array, s: Array, q: Array, lo: Array, hi: Array) -> None:
    word = row.dtype.type
    for j in range(row.size):
        v = np.int64(row[j])
        s[j] += v
        q[j] += v * v
    for j in range(row.size):
        lo[j] = word(min(lo[j], row[j]))
        hi[j] = word(max(hi[j], row[j]))


@jit
def _box_by_runs(
    x: Array, valid: Array, inner: int, o0: int, o1: int, i0: int, i1: int, out: Partial
) -> None:
    word = x.dtype.type
    channels = out.size
    masked = valid.size > 0
    for c in range(channels):
        n = 0
        s = np.int64(0)
        q = np.int64(0)
        lo = word(np.iinfo(x.dtype).max)
        hi = word(np.iinfo(x.dtype).min)
        for o in range(o0, o1):
            start = (o * channels + c) * inner + i0
            stop = start + i1 - i0
            for i in range(Index(start), Index(stop)):
                if masked and not valid[i]:
                    continue
                v = np.int64(x[i])
                n += 1
                s += v
                q += v * v
            for i in range(Index(start), Index(stop)):
                if masked and not valid[i]:
                    continue
                lo = word(min(lo, x[i]))
                hi = word(max(hi, x[i]))
        _add_sums(out[c], n, s, q, np.int64(lo), np.int64(hi))
        out[c]["omitted"] += (o1 - o0) * (i1 - i0) - n


@jit
def _box_by_lanes(x: Array, o0: int, o1: int, out: Partial) -> None:
    channels = out.size
    lanes = channels * max(1, -(-LANES // channels))
    flat = x[o0 * channels : o1 * channels]
    s = np.zeros(lanes, np.int64)
    q = np.zeros(lanes, np.int64)
    lo = np.full(lanes, np.iinfo(x.dtype).max, x.dtype)
    hi = np.full(lanes, np.iinfo(x.dtype).min, x.dtype)
    for start in range(0, flat.size, lanes):
        _add_lanes(flat[start : start + lanes], s, q, lo, hi)
    for c in range(channels):
        for j in range(c + channels, lanes, channels):
            s[c] += s[j]
            q[c] += q[j]
            lo[c] = min(lo[c], lo[j])
            hi[c] = max(hi[c], hi[j])
        _add_sums(out[c], o1 - o0, s[c], q[c], np.int64(lo[c]), np.int64(hi[c]))


@jit
def by_runs(x: Array, valid: Array, inner: int, boxes: Array, turn: Array, rows: Partial) -> None:
    """Measure boxes along the inner axis; parameters as in `streamnorm.kernels.floats`."""
    b = claim(turn)
    while b < len(boxes):
        o0, o1, i0, i1 = boxes[b]
        _box_by_runs(x, valid, inner, o0, o1, i0, i1, rows[b])
        b = claim(turn)


@jit
def by_lanes(x: Array, valid: Array, inner: int, boxes: Array, turn: Array, rows: Partial) -> None:
    """Measure boxes of shape (O, C, 1) as lanes; parameters as in `streamnorm.kernels.floats`."""
    b = claim(turn)
    while b < len(boxes):
        _box_by_lanes(x, boxes[b, 0], boxes[b, 1], rows[b])
        b = claim(turn)
