"""Compiled kernel for boxes of floats and of 32-bit integers, which float64 holds exactly.

Values are first taken to be finite. From the first stage of a box on in which one is NaN or
infinite, or a square overflows, they are read with counting, and that stage once more. Where
squares overflow (float64 beyond 1e154), the sums do too: the channel is reported, and measured
again by the caller, scaled.
"""

from typing import Any

import numpy as np

from streamnorm.arrays import Array
from streamnorm.kernels import stages, walk
from streamnorm.kernels.compiled import jit, jit_inner, merge_tree
from streamnorm.kernels.desk import clear, leave, offer, taken, watch
from streamnorm.kernels.float_rows import (
    FIELDS,
    add_narrow_rows,
    add_rows,
    add_rows_where,
    largest,
)
from streamnorm.kernels.machine import LINE, atomic_add, pointer
from streamnorm.kernels.walk import EDGE
from streamnorm.partial import Partial

__all__ = ["measure_boxes", "serve"]

FIRST_LINES = 128


@jit_inner
def _visit(context: Any, lanes: int, strip: Any) -> None:
    """Add a strip in the quickest way that is right for it."""
    x, truth, acc, wary = context
    panel, at, step, rows, width, fetch, plain, begin, stride = strip
    if plain and not wary:
        add_rows(x, at, step, rows, fetch, acc, panel)
    elif width < lanes:
        add_narrow_rows(x, at, step, rows, width, fetch, truth, begin, stride, acc, panel)
    else:
        add_rows_where(x, at, step, rows, width, fetch, truth, begin, stride, acc, panel)


_read = walk.reader(_visit)


@jit
def measure_boxes(
    x: Array, mask: Array, boxes: Array, owners: Array, turn: Array, omit: bool, rows: Partial,
    desk: Array, helping: bool,
) -> None:  # fmt: skip
    """Measure boxes, and merge their rows of results into the first.

    Parameters
    ----------
    x : array, shape (n,)
        float32, float64, int32, uint32, or the bits of float16 (as int16) or bfloat16 (as uint16).
    mask : array of bool, shape (n,) or (0,)
        What to count; size 0 for everything.
    boxes : array of BOX, shape (B,)
    owners : array of int64
        The channel of every lane of a box, from its field `owners` on; -1 where it has none.
    turn : array of int64, shape (2,)
        The next box that nobody has taken, shared by the threads at work; then 1 if the squares of
        some channel overflowed: its mean or m2 is not finite although its extremes are.
    omit : bool
        Leave NaN out (and count them) instead of letting them spread.
    rows : array of PARTIAL, shape (R, C)
        Where results go; what stood there is overwritten.
    desk : array of int64, shape (DESK,) or (0,)
        Where to offer the job to helpers; size 0 to do it alone, or to help.
    helping : bool
        Only measure boxes that nobody has taken yet; to merge is for whom the job belongs to.
    """
    offer(desk, (x, mask, boxes, owners, turn, rows), int(omit))
    masked = mask.size > 0
    truth = pointer(mask) if masked else pointer(EDGE)
    lanes = LINE // x.itemsize
    b = atomic_add(turn, 0, 1)
    while b < len(boxes):
        box = boxes[b]
        channels = box["channels"]
        lane_owners = owners[box["owners"] :]
        # All of one kind, so that Numba compiles one way to make them.
        acc = np.empty((box["panels"] * FIELDS, lanes))
        stage = np.empty((FIELDS, channels))
        state = np.empty((stages.STATES, channels))
        shift = np.zeros((1, channels))
        stages.empty(state)
        # Not literals, of which Numba would compile versions of their own.
        start: Any = np.int64(0)
        wary: Any = np.bool_(masked)
        lines = box["lines"]
        stop = box["tile"] if box["tile"] > FIRST_LINES else FIRST_LINES
        while start < lines:
            stop = stop if stop < lines else lines
            # Read again at most twice: with counting, and around its own mean.
            for _ in range(3):
                stages.set_shift(acc, lane_owners, shift)
                context = (pointer(x), truth, pointer(acc), wary)
                _read(box, start, stop, lanes, x.itemsize, masked, context)
                stages.fold(acc, lane_owners, shift, stage)
                if not wary and stages.not_finite(stage, largest(x)):
                    wary = np.bool_(True)
                elif not stages.cancelled(stage, state, shift):
                    break
            stages.close(stage, state, shift)
            start = stop
            stop = stages.GROWTH * stop
        first = box["first"]
        here = rows[box["row"], first : first + channels]
        if stages.write(state, box["each"], omit, here):
            turn[1] = 1
        b = atomic_add(turn, 0, 1)
    if not helping:
        clear(desk)
        merge_tree(rows)


@jit
def serve(
    x: Array, mask: Array, boxes: Array, owners: Array, turn: Array, rows: Partial,
    desk: Array, kind: int, helper: int, seen: int,
) -> int:  # fmt: skip
    """Help with jobs on a desk until none has come for a while; gives the state of the last one.

    Parameters
    ----------
    x, mask, boxes, owners, turn, rows : array
        Of the types that `measure_boxes` takes; their values are not looked at.
    desk, kind, helper, seen
        As for `streamnorm.kernels.desk.watch`.
    """
    # Not a literal, of which Numba would compile a version of its own.
    helping: Any = np.bool_(True)
    job = watch(desk, kind, helper, seen)
    while job != 0:
        arrays, how = taken(desk, (x, mask, boxes, owners, turn, rows))
        job_x, job_mask, job_boxes, job_owners, job_turn, job_rows = arrays
        measure_boxes(
            job_x,
            job_mask,
            job_boxes,
            job_owners,
            job_turn,
            how != 0,
            job_rows,
            desk[:0],
            helping,
        )
        leave(desk, helper)
        seen = job
        job = watch(desk, kind, helper, seen)
    return seen
