"""One array on the CPU -> one partial result: cut in boxes, each measured by a compiled kernel."""

import itertools
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from streamnorm import partial, threads
from streamnorm.arrays import Array
from streamnorm.dtypes import Precision, Summed, precision_of
from streamnorm.kernels import floats, integers
from streamnorm.kernels.compiled import merge_rows
from streamnorm.layout import Layout, boxes
from streamnorm.partial import Partial

__all__ = ["measure_array", "measure_block"]

_NO_MASK = np.zeros(0, np.bool_)
_NO_MASK.flags.writeable = False
_FEWEST_BOXES = 4
"""Below this many boxes handing work to other threads costs more than it saves."""


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
    view = _direct_view(arranged, layout, precision) if mask is None else None
    if view is not None:
        cuts = _bounds(view.shape)
    else:
        pieces = boxes(arranged.shape, layout.outer, layout.kept)
        cuts = np.empty((len(pieces), 0), np.int64)
    if not len(cuts):
        return partial.empty(layout.channels)
    rows = partial.empty((len(cuts), layout.channels))

    turn = np.zeros(1, np.int64)
    pieces_left = itertools.count()

    def share() -> None:
        if view is not None:
            _run(view, None, cuts, turn, precision, omit, rows)
            return
        while (i := next(pieces_left)) < len(cuts):
            block = layout.flatten(precision.convert(arranged[pieces[i]]))
            kept = None if mask is None else layout.flatten(np.ascontiguousarray(mask[pieces[i]]))
            measure_block(block, kept, precision, omit, rows[i])

    threads.spread(share, min(workers, len(cuts)) if len(cuts) >= _FEWEST_BOXES else 1)
    merge_rows(rows)
    merged: Partial = rows[0]
    return merged.copy() if len(rows) > 1 else merged


@lru_cache(maxsize=256)
def _bounds(shape: tuple[int, int, int]) -> NDArray[np.int64]:
    """Boxes of an (O, C, I) array as the kernels take them: o0, o1, i0, i1."""
    cut = [(o.start, o.stop, i.start, i.stop) for o, _, i in boxes(shape, 1, 1)]
    return np.array(cut, np.int64).reshape(-1, 4)


def _direct_view(arranged: Array, layout: Layout, precision: Precision) -> Array | None:
    """View the whole array as (outer, channel, inner) where kernels can read it as it lies."""
    if arranged.dtype == np.bool_:
        arranged = arranged.view(np.uint8)
    if arranged.dtype != precision.kernel or precision.summed is Summed.CENTRED:
        return None
    return layout.flat(arranged)


def measure_block(
    block: Array, valid: NDArray[np.bool_] | None, precision: Precision, omit: bool, out: Partial
) -> None:
    """Measure a contiguous block of shape (O, C, I) into the empty rows `out`, shape (C,)."""
    if precision.summed is Summed.CENTRED:
        _run_centred(block, valid, omit, out)
    else:
        _run(block, valid, _whole(block), np.zeros(1, np.int64), precision, omit, out[None])


def _whole(block: Array) -> NDArray[np.int64]:
    return np.array([[0, block.shape[0], 0, block.shape[2]]], np.int64)


def _run(
    x: Array,
    valid: NDArray[np.bool_] | None,
    cuts: NDArray[np.int64],
    turn: NDArray[np.int64],
    precision: Precision,
    omit: bool,
    rows: Partial,
) -> None:
    """Run the compiled kernel that fits on the boxes of `x` that nobody has taken yet."""
    lanes = x.shape[2] == 1 and x.shape[1] > 1 and valid is None
    inner = x.shape[2]
    # Kernels are compiled once, for read-only arrays: any array can be viewed as one.
    x = _read_only(x)
    mask = _NO_MASK if valid is None else _read_only(valid)
    if precision.summed is Summed.INTEGERS:
        integer_kernel = integers.by_lanes if lanes else integers.by_runs
        integer_kernel(x, mask, inner, cuts, turn, rows)
    else:
        bits = x.view(np.int32 if x.itemsize == 4 else np.int64)
        float_kernel = floats.by_lanes if lanes else floats.by_runs
        float_kernel(x, bits, mask, inner, cuts, turn, omit, rows)


def _read_only(array: Array) -> Array:
    view = array.reshape(array.size)
    view.flags.writeable = False
    return view


def _run_centred(block: Array, valid: NDArray[np.bool_] | None, omit: bool, out: Partial) -> None:
    """Subtract each channel's first valid integer in integers, measure, and shift back."""
    keep = np.True_ if valid is None else valid
    wide = block.astype(np.int64 if block.dtype.kind == "i" else np.uint64, copy=False)
    center = _first_valid(wide, valid)
    deviations = _difference(wide, center)
    _run(
        deviations,
        valid,
        _whole(block),
        np.zeros(1, np.int64),
        precision_of("float64"),
        omit,
        out[None],
    )
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
