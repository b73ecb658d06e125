"""Compiled kernel of exact sums: boxes of 8- and 16-bit integers, summed as integers anyway."""

import numpy as np

from streamnorm.arrays import Array
from streamnorm.kernels import walk
from streamnorm.kernels.compiled import jit
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
from streamnorm.kernels.integers import sums_of_lanes
from streamnorm.kernels.machine import LINE, NEXT, atomic_add, bits_of, pointer
from streamnorm.kernels.records import (
    COUNT,
    EXPONENT,
    LIMBS,
    NARROW_FORM,
    SUM_LIMBS,
    WORDS,
    add_integer,
    carry_records,
    close_records,
    note_extremes,
    open_records,
)

__all__ = ["measure_boxes", "serve"]

_read = walk.reader(add_rows, add_narrow_rows)


@jit
def measure_boxes(
    x: Array, mask: Array | None, boxes: Array, owners: Array, turn: Array, flip: int,
    omit: None, rows: Array, desk: Array, worker: int,
) -> None:  # fmt: skip
    """Add boxes to the worker's row of records, and at last all rows to the first.

    As `streamnorm.kernels.exact_boxes.measure_boxes` does; `x` and `flip` are as for
    `streamnorm.kernels.integers.measure_boxes`.
    """
    offer(desk, (x, mask, boxes, owners, turn, rows), flip)
    lanes = LINE // x.itemsize
    top = 256**x.itemsize - 1
    words = NARROW_FORM[WORDS]
    unit = -NARROW_FORM[EXPONENT]
    open_records(pointer(rows[worker]), rows.shape[1] // words, NARROW_FORM)
    b = atomic_add(turn, NEXT, 1)
    while b < len(boxes):
        box = boxes[b]
        b = atomic_add(turn, NEXT, 1)
        panels = box["panels"]
        channels = box["channels"]
        acc = np.empty((panels * FIELDS, lanes), np.int64)
        begin(pointer(x), pointer(acc), panels)
        _read(
            box, 0, box["lines"], lanes, x.itemsize, x.size, pointer(x), flip, pointer(mask), None,
            pointer(acc),
        )  # fmt: skip
        finish(pointer(x), pointer(acc), panels)
        own = owners[box["owners"] : box["owners"] + panels * lanes]
        sums = sums_of_lanes(acc, own, channels, top)
        here = pointer(rows[worker, box["first"] * words :])
        for c in range(channels):
            n, s, q = sums[VALID, c], sums[SUM, c], sums[SQUARES, c]
            if n > 0:
                at = c * words
                here[at + COUNT] += n
                low, high = np.float64(sums[LOW, c] - flip), np.float64(sums[HIGH, c] - flip)
                note_extremes(here, at, bits_of(low), bits_of(high))
                # With little more than 2**20 values below 2**16, all of this stays below 2**53.
                add_integer(here, at + LIMBS, s - n * flip, unit)
                squares = q - flip * (2 * s - n * flip)
                add_integer(here, at + LIMBS + NARROW_FORM[SUM_LIMBS], squares, 2 * unit)
        carry_records(here, 0, channels, NARROW_FORM)
    if worker == 0:
        clear(desk)
        close_records(rows, NARROW_FORM)


serve = serve_by(measure_boxes, "exact_integers")
