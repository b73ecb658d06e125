"""How an array lies in memory, as kernels read it."""

import numpy as np
from numpy.lib.stride_tricks import as_strided

from streamnorm.arrays import Array
from streamnorm.boxes import Cut, Sizes, boxes_of
from streamnorm.dtypes import Precision, Summed
from streamnorm.kernels.machine import LINE
from streamnorm.layout import Layout

__all__ = ["FEWEST_BOXES", "cut_of", "memory_of", "native"]

FEWEST_BOXES = 4
"""Below this many boxes handing work to other threads costs more than it saves."""


def cut_of(
    arranged: Array,
    mask: Array | None,
    layout: Layout,
    precision: Precision,
    sizes: Sizes | None = None,
) -> Cut | None:
    """Cut an array into boxes that a kernel can read where they lie, or None."""
    size = arranged.itemsize
    if not arranged.flags.aligned or not arranged.dtype.isnative:
        return None
    if mask is not None and tuple(s * size for s in mask.strides) != arranged.strides:
        return None
    key = precision.name, sizes
    if key not in layout.cuts:
        steps = tuple(stride // size for stride in arranged.strides)
        lanes = LINE // precision.bits.itemsize
        layout.cuts[key] = (
            None
            if precision.summed is Summed.CENTRED
            else boxes_of(arranged.shape, steps, layout.outer, layout.kept, lanes, sizes)
        )
    return layout.cuts[key]


def native(piece: Array) -> Array:
    """Copy a piece of an array, contiguous and in native byte order."""
    return np.ascontiguousarray(piece, piece.dtype.newbyteorder("="))


def memory_of(array: Array, precision: Precision) -> Array:
    """View the memory from an array's first value to its last as one flat, read-only array."""
    if array.flags.c_contiguous:
        flat = array.reshape(array.size)
    else:
        last = sum((n - 1) * step for n, step in zip(array.shape, array.strides, strict=True))
        flat = as_strided(array, (last // array.itemsize + 1,), (array.itemsize,))
    if flat.dtype != precision.bits:
        flat = flat.view(precision.bits)
    # Kernels are compiled once, for read-only arrays: any array can be viewed as one.
    flat.flags.writeable = False
    return flat
