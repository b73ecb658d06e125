"""Compiled kernel for boxes of 8- and 16-bit integers: exact integer sums over a whole box.

With at most 2**20 values of a channel in a box, the sum of squares stays below 2**52. The mean
and m2 of the box are each rounded once or twice, whatever the data.
"""

from typing import Any

import numpy as np

from streamnorm.arrays import Array
from streamnorm.kernels import walk
from streamnorm.kernels.compiled import jit, jit_part, merge_tree
from streamnorm.kernels.desk import clear, offer
from streamnorm.kernels.helping import serve_by
from streamnorm.kernels.integer_rows import (
    FIELDS,
    HIGH,
    LOW,
    SQUARES,
    SUM,
    VALID,
    add_narrow_rows,
    add_rows,
    begin,
    finish,
)
from streamnorm.kernels.machine import LINE, NEXT, atomic_add, pointer
from streamnorm.partial import Partial

__all__ = ["measure_boxes", "serve", "sums_of_lanes"]

# notation: n count, s sum, q sum of squares, lo and hi the extremes


@jit_part
def _write(row: Any, n: int, s: int, q: int, lo: int, hi: int, flip: int, total: int) -> None:
    r"""Write integer sums of ``x ^ flip`` to a channel's row.

    A flipped x is x + flip (flip is half of the range, or 0). With the integer :math:`c` nearest to
    the mean, :math:`\sum (x-c)^2 = q - c(2s - nc)` is exact in 64 bits, and
    :math:`m_2 = \sum (x-c)^2 - r^2/n` with :math:`r = s - nc` loses at most one bit: since x is an
    integer and \|r/n\| <= 1/2, :math:`m_2 \ge r^2/n`.
    """
    row["count"] = n
    row["omitted"] = total - n
    row["mean"] = np.nan
    row["m2"] = 0.0
    row["minimum"] = np.nan
    row["maximum"] = np.nan
    if n > 0:
        c = (2 * s + n) // (2 * n)
        r = s - n * c
        row["mean"] = np.float64(c - flip) + r / n
        row["m2"] = np.float64(q - c * (2 * s - n * c)) - np.float64(r) * np.float64(r) / n
        row["minimum"] = np.float64(lo - flip)
        row["maximum"] = np.float64(hi - flip)


@jit_part
def sums_of_lanes(acc: Array, owners: Array, channels: int, top: int) -> Array:
    """Add up the lanes of each channel; gives the fields of `integer_rows`, (FIELDS, channels)."""
    lanes = acc.shape[1]
    sums = np.zeros((FIELDS, channels), np.int64)
    for c in range(channels):
        sums[LOW, c] = top
    for k in range(owners.size):
        c = owners[k]
        if c >= 0:
            row = k // lanes * FIELDS
            lane = k % lanes
            for field in (SUM, SQUARES, VALID):
                sums[field, c] += acc[row + field, lane]
            sums[LOW, c] = min(sums[LOW, c], acc[row + LOW, lane])
            sums[HIGH, c] = max(sums[HIGH, c], acc[row + HIGH, lane])
    return sums


_read = walk.reader(add_rows, add_narrow_rows)


@jit
def measure_boxes(
    x: Array, mask: Array | None, boxes: Array, owners: Array, turn: Array, flip: int,
    omit: bool | None, rows: Partial, desk: Array, worker: int,
) -> None:  # fmt: skip
    """Measure boxes, and merge their rows of results into the first.

    Parameters are those of `streamnorm.kernels.floats.measure_boxes`, but for `x`, uint8 or uint16,
    `flip`: 0, or half of the range where the memory holds signed integers, and `omit`: None.
    """
    offer(desk, (x, mask, boxes, owners, turn, rows), flip)
    lanes = LINE // x.itemsize
    top = 256**x.itemsize - 1
    b = atomic_add(turn, NEXT, 1)
    while b < len(boxes):
        box = boxes[b]
        b = atomic_add(turn, NEXT, 1)
        panels = box["panels"]
        channels = box["channels"]
        here = rows[box["row"], box["first"] : box["first"] + channels]
        acc = np.empty((panels * FIELDS, lanes), np.int64)
        begin(pointer(x), pointer(acc), panels)
        _read(
            box, 0, box["lines"], lanes, x.itemsize, x.size, pointer(x), flip, pointer(mask), omit,
            pointer(acc),
        )  # fmt: skip
        finish(pointer(x), pointer(acc), panels)
        own = owners[box["owners"] : box["owners"] + panels * lanes]
        sums = sums_of_lanes(acc, own, channels, top)
        for c in range(channels):
            n, s, q = sums[VALID, c], sums[SUM, c], sums[SQUARES, c]
            _write(here[c], n, s, q, sums[LOW, c], sums[HIGH, c], flip, box["each"])
    if worker == 0:
        clear(desk)
        merge_tree(pointer(rows), *rows.shape)


serve = serve_by(measure_boxes, "integers")
