"""One array on the CPU -> exact sums: cut in boxes, each added to records by a compiled kernel."""

import itertools
from typing import cast

import numpy as np
from numpy.typing import NDArray

from streamnorm import limbs, threads
from streamnorm.arrays import Array
from streamnorm.boxes import Cut, Sizes, boxes_of
from streamnorm.dtypes import Precision, Summed, precision_of
from streamnorm.kernels import crew, exact_boxes, exact_integers
from streamnorm.kernels.machine import LINE, TURN
from streamnorm.kernels.memory import FEWEST_BOXES, cut_of, memory_of, native
from streamnorm.layout import Layout, pieces_of
from streamnorm.limbs import LIMB_BITS, Exact

__all__ = ["measure_array_exactly"]

SIZES = Sizes(tile_lines=2048, most_lanes=2048)
"""Larger tiles than for rounded sums, since to put down what a panel has gathered takes longer; and
of fewer channels, since each gathers more."""
_MOST_BYTES = 1 << 28
"""Of records of all workers together: with very many channels fewer of them work."""
_MASK = np.uint64((1 << LIMB_BITS) - 1)


def measure_array_exactly(
    array: Array,
    layout: Layout,
    precision: Precision,
    valid: NDArray[np.bool_] | None,
    workers: int,
) -> Exact:
    """Measure `array` as `layout` says.

    Returns
    -------
    records, shape (C,)
        Carried; NaN are counted.
    """
    arranged = layout.arrange(array)
    mask = None if valid is None else layout.arrange(valid)
    cut = cut_of(arranged, mask, layout, precision, SIZES)
    if cut is None:
        rows = _measure_pieces(arranged, mask, layout, precision, workers)
    else:
        boxes = len(cut.boxes)
        workers = min(workers, boxes) if boxes >= FEWEST_BOXES else 1
        records = _blank(workers, layout.channels, precision)
        if boxes:
            _add(arranged, mask, cut, precision, records)
        rows = _finished(records)
    if array.size:
        rows["omitted"] = array.size // layout.channels - rows["count"]
    return rows


def _blank(workers: int, channels: int, precision: Precision) -> Exact:
    """Return records without values, shape (workers, C); for fewer workers if they are large."""
    grid = limbs.WIDE if precision.name == "float64" else limbs.NARROW
    most = max(1, _MOST_BYTES // (grid.dtype.itemsize * max(channels, 1)))
    return np.zeros((min(workers, most), channels), grid.dtype)


def _add(array: Array, mask: Array | None, cut: Cut, precision: Precision, records: Exact) -> None:
    """Add the boxes of an array to the first row of records, by as many threads as there are."""
    x = memory_of(array, precision)
    truth = None if mask is None else memory_of(mask, precision_of("bool")).view(np.bool_)
    kernel = exact_integers if precision.summed is Summed.INTEGERS else exact_boxes
    turn = np.zeros(TURN, np.int64)
    rows = records.view(np.int64).reshape(len(records), -1)
    job = crew.Job(kernel, x, truth, cut.boxes, cut.owners, turn, precision.flip, None, rows)
    crew.share(job, len(records))


def _measure_pieces(
    arranged: Array, mask: Array | None, layout: Layout, precision: Precision, workers: int
) -> Exact:
    """Measure what cannot be read where it lies: piece by piece, each copied."""
    pieces = pieces_of(arranged.shape, layout.outer, layout.kept)
    left = itertools.count()
    workers = min(workers, len(pieces)) if len(pieces) >= FEWEST_BOXES else 1
    parts: list[Exact] = []

    def share() -> None:
        own = _blank(1, layout.channels, precision)
        while (i := next(left)) < len(pieces):
            block = layout.flatten(native(arranged[pieces[i]]))
            kept = None if mask is None else layout.flatten(np.ascontiguousarray(mask[pieces[i]]))
            _add_block(block, kept, precision, own)
        parts.append(_finished(own))

    threads.spread(share, workers)
    return limbs.add_up(parts)


def _add_block(
    block: Array, valid: NDArray[np.bool_] | None, precision: Precision, records: Exact
) -> None:
    if precision.summed is Summed.CENTRED:
        _add_wide_integers(block, valid, records[0])
        return
    steps = tuple(stride // block.itemsize for stride in block.strides)
    # A contiguous block can always be read where it lies.
    cut = cast("Cut", boxes_of(block.shape, steps, 1, 1, LINE // precision.bits.itemsize, SIZES))
    _add(block, valid, cut, precision, records)


def _add_wide_integers(block: Array, valid: NDArray[np.bool_] | None, row: Exact) -> None:
    r"""Add 64-bit integers to records, (C,).

    In halves of 32 bits, :math:`|x| = 2^{32} h + l` and
    :math:`x^2 = 2^{64} h^2 + 2^{33} h l + l^2`; of every product the halves are added up, at most
    2**18 of them below 2**33.
    """
    keep = np.ones(block.shape, np.bool_) if valid is None else valid
    below = (block < 0) & keep
    size = block.astype(np.uint64)
    size = np.where(keep, np.where(below, ~size + np.uint64(1), size), np.uint64(0))
    high, low = size >> np.uint64(LIMB_BITS), size & _MASK

    def added(numbers: NDArray[np.uint64]) -> NDArray[np.int64]:
        return np.asarray(numbers.astype(np.int64).sum(axis=(0, 2)))

    def halves(numbers: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return added(numbers & _MASK), added(numbers >> np.uint64(LIMB_BITS))

    one = -limbs.NARROW.exponent // LIMB_BITS
    sums, squares = row["sum"], row["squares"]
    for k, part in enumerate((low, high), one):
        sums[:, k] += added(part) - 2 * added(np.where(below, part, np.uint64(0)))
    lows, crosses, highs = halves(low * low), halves(high * low), halves(high * high)
    squares[:, 2 * one] += lows[0]
    squares[:, 2 * one + 1] += lows[1] + 2 * crosses[0]
    squares[:, 2 * one + 2] += highs[0] + 2 * crosses[1]
    squares[:, 2 * one + 3] += highs[1]
    limbs.carry(sums)
    limbs.carry(squares)
    _note_wide_extremes(block, keep, row)
    row["count"] += keep.sum(axis=(0, 2))


def _note_wide_extremes(block: Array, keep: NDArray[np.bool_], row: Exact) -> None:
    """Note exact extremes: the nearest float64, and what is missing."""
    for name, order, worst in (("minimum", np.minimum, "max"), ("maximum", np.maximum, "min")):
        least = getattr(np.iinfo(block.dtype), worst)
        found = order.reduce(block, axis=(0, 2), initial=least, where=keep).tolist()
        better = min if name == "minimum" else max
        for c, number in enumerate(found):
            if not keep[:, c].any():
                continue
            before = int(row[name][c]) + int(row[f"{name}_rest"][c])
            best = number if row["count"][c] == 0 else better(before, number)
            row[name][c] = float(best)
            row[f"{name}_rest"][c] = best - int(float(best))


def _finished(records: Exact) -> Exact:
    """Return the first row; a copy where others would stay in memory with it."""
    rows: Exact = records[0] if len(records) == 1 else records[0].copy()
    none = rows["count"] == 0
    if none.any():
        rows["minimum"][none] = rows["maximum"][none] = np.nan
    return rows
