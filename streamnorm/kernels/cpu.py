"""One array on the CPU -> one partial result: cut in boxes, each measured by a compiled kernel."""

import itertools
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from streamnorm import partial, threads
from streamnorm.arrays import Array
from streamnorm.boxes import Cut, boxes_of
from streamnorm.dtypes import Precision, Summed, precision_of
from streamnorm.kernels import crew, floats, integers
from streamnorm.kernels.compiled import merge_rows
from streamnorm.kernels.machine import LINE, NEXT, OPEN, OVERFLOWED, TURN
from streamnorm.kernels.memory import FEWEST_BOXES, cut_of, memory_of, native
from streamnorm.layout import Layout, pieces_of
from streamnorm.partial import Partial

__all__ = ["measure_array", "measure_block"]

# Squares of what is scaled down so do not overflow; a power of two changes no digit.
_DOWN = 2.0**-600
_UP = 2.0**600
_LITTLE = 8192
"""Bytes of results that may be handed on although only the first row of them is needed."""


def measure_array(
    array: Array,
    layout: Layout,
    precision: Precision,
    valid: NDArray[np.bool_] | None,
    omit: bool,
    workers: int,
) -> Partial:
    """Measure `array` as `layout` says; boxes are cut by size alone and merged in their order.

    Returns
    -------
    array of PARTIAL, shape (C,)
    """
    arranged = layout.arrange(array)
    mask = None if valid is None else layout.arrange(valid)
    cut = cut_of(arranged, mask, layout, precision)
    if cut is None:
        return _measure_pieces(arranged, mask, layout, precision, omit, workers)
    if not cut.rows:
        return partial.empty(layout.channels)
    rows = np.empty((cut.rows, layout.channels), partial.PARTIAL)
    job = _job(arranged, mask, cut, precision, rows)
    boxes = len(cut.boxes)
    _run(job, omit, min(workers, boxes) if boxes >= FEWEST_BOXES else 1)
    # A copy lets go of the others; where they are few it costs more than they do.
    merged: Partial = rows[0] if rows.nbytes <= _LITTLE else rows[0].copy()
    if job.turn[OVERFLOWED]:
        _mend(arranged, mask, layout.outer, layout.kept, omit, merged)
    return merged


def _mend(
    arranged: Array, mask: Array | None, outer: int, kept: int, omit: bool, rows: Partial
) -> None:
    """Measure channels whose squares overflow again, scaled down by a power of two."""
    channel_shape = arranged.shape[outer : outer + kept]
    before = (slice(None),) * outer
    bounded = np.isfinite(rows["minimum"]) & np.isfinite(rows["maximum"])
    for c in np.flatnonzero(bounded & ~np.isfinite(rows["m2"])):
        index: Any = (*before, *np.unravel_index(c, channel_shape))
        values = arranged[index]
        valid = None if mask is None else mask[index]
        pieces = pieces_of(values.shape, values.ndim, 0)
        parts = partial.empty((len(pieces), 1))
        for part, piece in zip(parts, pieces, strict=True):
            block = (values[piece] * _DOWN).reshape(1, 1, -1)
            where = None if valid is None else valid[piece].reshape(1, 1, -1)
            measure_block(block, where, precision_of("float64"), omit, part)
        scaled = _merged(parts)[0]
        row = rows[c]
        with np.errstate(over="ignore"):
            row["mean"] = np.clip(scaled["mean"] * _UP, row["minimum"], row["maximum"])
            row["m2"] = scaled["m2"] * _UP * _UP


def _measure_pieces(
    arranged: Array,
    mask: Array | None,
    layout: Layout,
    precision: Precision,
    omit: bool,
    workers: int,
) -> Partial:
    """Measure what cannot be read where it lies: piece by piece, each copied."""
    pieces = pieces_of(arranged.shape, layout.outer, layout.kept)
    if not pieces:
        return partial.empty(layout.channels)
    rows = partial.empty((len(pieces), layout.channels))
    left = itertools.count()

    def share() -> None:
        while (i := next(left)) < len(pieces):
            block = layout.flatten(native(arranged[pieces[i]]))
            kept = None if mask is None else layout.flatten(np.ascontiguousarray(mask[pieces[i]]))
            measure_block(block, kept, precision, omit, rows[i])

    threads.spread(share, min(workers, len(pieces)) if len(pieces) >= FEWEST_BOXES else 1)
    return _merged(rows)


def _merged(rows: Partial) -> Partial:
    merged: Partial = rows[0]
    if len(rows) == 1:
        return merged
    merge_rows(rows)
    return merged.copy()


def measure_block(
    block: Array, valid: NDArray[np.bool_] | None, precision: Precision, omit: bool, out: Partial
) -> None:
    """Measure a contiguous block of shape (O, C, I), in native byte order, into `out`, (C,)."""
    if precision.summed is Summed.CENTRED:
        _run_centred(block, valid, omit, out)
        return
    steps = tuple(stride // block.itemsize for stride in block.strides)
    # A contiguous block can always be read where it lies.
    cut = cast("Cut", boxes_of(block.shape, steps, 1, 1, LINE // precision.bits.itemsize))
    if cut.rows:
        rows = np.empty((cut.rows, block.shape[1]), partial.PARTIAL)
        job = _job(block, valid, cut, precision, rows)
        _run(job, omit, 1)
        out[:] = rows[0]
        if job.turn[OVERFLOWED]:
            _mend(block, valid, 1, 1, omit, out)


def _job(
    array: Array,
    mask: Array | None,
    cut: Cut,
    precision: Precision,
    rows: Partial,
) -> crew.Job:
    """Return the work on the boxes of an array."""
    x = memory_of(array, precision)
    truth = None if mask is None else memory_of(mask, precision_of("bool")).view(np.bool_)
    kernel = integers if precision.summed is Summed.INTEGERS else floats
    turn = np.zeros(TURN, np.int64)
    return crew.Job(
        kernel, x, truth, cut.boxes, cut.owners, turn, precision.flip, omit=None, rows=rows
    )


def _run(job: crew.Job, omit: bool, workers: int) -> None:
    """Do the work, first as if all were finite; then with counting, where that was not so."""
    crew.share(job, workers)
    if job.turn[OPEN]:
        job.turn[NEXT] = 0
        crew.share(job._replace(omit=omit), workers)


def _run_centred(block: Array, valid: NDArray[np.bool_] | None, omit: bool, out: Partial) -> None:
    """Subtract each channel's first valid integer in integers, measure, and shift back."""
    keep = np.True_ if valid is None else valid
    wide = block.astype(np.int64 if block.dtype.kind == "i" else np.uint64, copy=False)
    center = _first_valid(wide, valid)
    deviations = _difference(wide, center)
    measure_block(deviations, valid, precision_of("float64"), omit, out)
    info = np.iinfo(wide.dtype)
    low = wide.min(axis=(0, 2), initial=info.max, where=keep).astype(np.float64)
    high = wide.max(axis=(0, 2), initial=info.min, where=keep).astype(np.float64)
    some = out["count"] > 0
    mean = np.clip(center[0, :, 0].astype(np.float64) + out["mean"], low, high)
    for name, values in (("mean", mean), ("minimum", low), ("maximum", high)):
        out[name][some] = values[some]


def _first_valid(block: Array, valid: NDArray[np.bool_] | None) -> Array:
    """Return one value per channel, shape (1, C, 1); a masked one could be a nodata code."""
    if valid is None:
        return block[:1, :, :1]
    by_channel = valid.transpose(1, 0, 2).reshape(block.shape[1], -1)
    values = block.transpose(1, 0, 2).reshape(block.shape[1], -1)
    first = np.take_along_axis(values, by_channel.argmax(axis=1)[:, None], axis=1)
    return first[None]


def _difference(x: Array, center: Array) -> NDArray[np.float64]:
    """Return ``x - center`` rounded once: as unsigned numbers no difference wraps."""
    above = x >= center
    gap = x.view(np.uint64) - np.ascontiguousarray(center).view(np.uint64)
    up = gap.astype(np.float64)
    down = (~gap + np.uint64(1)).astype(np.float64)
    return np.where(above, up, -down)
