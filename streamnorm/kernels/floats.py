"""Compiled kernel for boxes of floats and of 32-bit integers, which float64 holds exactly.

Values are first taken to be finite. A box in which one is NaN or infinite, or a square overflows,
is left open and read again with counting, which is another kernel (the same source, for another
`omit`): who never needs it never waits for its compilation. Where squares overflow (float64 beyond
1e154), the sums do too: the channel is reported, and measured again by the caller, scaled.
"""

from typing import Any

import numpy as np

from streamnorm.arrays import Array
from streamnorm.kernels import stages, walk
from streamnorm.kernels.compiled import jit, merge_tree
from streamnorm.kernels.desk import clear, offer
from streamnorm.kernels.float_rows import (
    FIELDS,
    add_narrow_rows,
    add_rows,
    begin,
    finish,
)
from streamnorm.kernels.helping import serve_by
from streamnorm.kernels.machine import (
    LINE,
    NEXT,
    OPEN,
    OVERFLOWED,
    atomic_add,
    keep,
    plain_floats,
    pointer,
    set_floats,
)
from streamnorm.partial import Partial

__all__ = ["measure_boxes", "serve"]

FIRST_LINES = 128


_read = walk.reader(add_rows, add_narrow_rows)


@jit
def measure_boxes(
    x: Array, mask: Array | None, boxes: Array, owners: Array, turn: Array, flip: int,
    omit: bool | None, rows: Partial, desk: Array, worker: int,
) -> None:  # fmt: skip
    """Measure boxes, and merge their rows of results into the first.

    Parameters
    ----------
    x : array, shape (n,)
        float32, float64, int32, uint32, or the bits of float16 (as int16) or bfloat16 (as uint16).
    mask : array of bool, shape (n,), or None
        Where values count; None if all do.
    boxes : array of BOX, shape (B,)
    owners : array of int64
        Tables of the channel of every lane; -1 for lanes without one.
    turn : array of int64, shape (TURN,)
        The number of the next box that nobody has taken, shared by the threads at work; then 1 if
        the squares of some channel overflowed: its mean or m2 is not finite although its extremes
        are; then 1 if boxes were left open.
    flip : int
        For integers only.
    omit : bool or None
        Leave NaN out (and count them) instead of letting them spread. None: take all values to be
        finite, and leave a box open, with a count of -1, where they are not; then nothing is
        merged. The next call measures those that are open.
    rows : array of PARTIAL, shape (R, C)
        Where results go; what stood there is overwritten.
    desk : array of int64, shape (DESK,) or (0,)
        Where to offer the job to helpers; size 0 to do it alone, or to help.
    worker : int
        0 for whom the job belongs to, who merges; others only help.
    """
    offer(desk, (x, mask, boxes, owners, turn, rows), 0 if omit is None else int(omit))
    mode = plain_floats()
    lanes = LINE // x.itemsize
    b = atomic_add(turn, NEXT, 1)
    while b < len(boxes):
        box = boxes[b]
        b = atomic_add(turn, NEXT, 1)
        channels = box["channels"]
        first = box["first"]
        here = rows[box["row"], first : first + channels]
        if omit is not None and here[0]["count"] >= 0:
            continue
        lane_owners = pointer(owners[box["owners"] :])
        panels = box["panels"]
        width = (channels + stages.LANES - 1) // stages.LANES * stages.LANES
        # All of one kind, so that Numba compiles one way to make them.
        acc = np.empty((panels * FIELDS, lanes))
        book = np.empty((stages.BOOK, width))
        stages.open_book(pointer(book), width)
        # Not a literal, of which Numba would compile a version of its own.
        start: Any = np.int64(0)
        flags: Any = np.int64(0)
        lines = box["lines"]
        stop = box["tile"] if box["tile"] > FIRST_LINES else FIRST_LINES
        while start < lines:
            stop = stop if stop < lines else lines
            # Read again at most once, around its own mean.
            for _ in range(2):
                stages.set_shift(pointer(acc), panels, lanes, lane_owners, pointer(book), width)
                begin(pointer(x), pointer(acc), panels)
                _read(
                    box, start, stop, lanes, x.itemsize, x.size, pointer(x), flip, pointer(mask),
                    omit, pointer(acc),
                )  # fmt: skip
                finish(pointer(x), pointer(acc), panels)
                stages.begin_stage(pointer(book), width)
                stages.fold(pointer(acc), panels, lanes, lane_owners, pointer(book), width)
                flags = stages.judge(pointer(book), width)
                if (omit is None and flags & stages.NOT_FINITE) or not flags & stages.CANCELLED:
                    break
                stages.recentre(pointer(book), width)
            if omit is None and flags & stages.NOT_FINITE:
                break
            stages.close(pointer(book), width)
            start = stop
            stop = stages.GROWTH * stop
        if start < lines:
            here[0]["count"] = -1
            turn[OPEN] = 1
        else:
            given = np.float64(box["each"])
            if omit is not None and omit:
                given = -given
            if stages.sum_up(pointer(book), width, given, pointer(here), channels):
                turn[OVERFLOWED] = 1
        keep(acc)
        keep(book)
    set_floats(mode)
    if worker == 0:
        clear(desk)
        if omit is not None or turn[OPEN] == 0:
            merge_tree(pointer(rows), *rows.shape)


serve = serve_by(measure_boxes, "floats")
