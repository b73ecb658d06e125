"""Compiled kernel for boxes of floats and of 32-bit integers, which float64 holds exactly.

Rows are first taken to be finite. From the first NaN, infinity or overflowing square in a box on,
they are read with counting. Squares can only overflow in float64, whose kernel has a slow path for
values beyond 2**500: they are scaled by a power of two and kept aside until a stage is closed.
"""

from typing import Any

import numpy as np

from streamnorm.arrays import Array
from streamnorm.kernels import stages, walk
from streamnorm.kernels.compiled import jit, jit_inner, jit_part
from streamnorm.kernels.float_rows import FIELDS, add_narrow_rows, add_rows, add_rows_where
from streamnorm.kernels.machine import LINE, claim, item, pointer, view
from streamnorm.partial import Partial

__all__ = ["measure_boxes", "measure_huge_boxes"]

FIRST_LINES = 64
DOWN = 2.0**-600
UP = 2.0**600
WARY, OVERFLOWED = range(2)

# notation: n count, s1 sum of deviations, s2 of squared deviations, lo and hi extremes, r row,
# j lane, c channel


@jit_part
def _add_warily(context: Any, lanes: int, strip: Any) -> bool:
    """Add a strip that is masked, narrow, or not finite; False if squares overflow."""
    x, mask, masked, acc, _, _ = context
    panel, at, step, rows, width, fetch, spare = strip
    truth, begin, stride = walk.mask_of(mask, masked, lanes, strip)
    if width < lanes and (masked or not spare):
        return bool(
            add_narrow_rows(x, at, step, rows, width, fetch, truth, begin, stride, acc, panel)
        )
    at -= lanes - width
    return bool(add_rows_where(x, at, step, rows, lanes, fetch, truth, begin, stride, acc, panel))


@jit_inner
def _visit(context: Any, lanes: int, strip: Any) -> None:
    """Add a strip to `acc`."""
    x, _, masked, acc, flags, _ = context
    panel, at, step, rows, width, fetch, _ = strip
    quick = width == lanes and not masked and item(flags, WARY) == 0.0
    if not (quick and add_rows(x, at, step, rows, fetch, acc, panel)):
        if quick:
            view(flags, (2,))[WARY] = 1.0
        _add_warily(context, lanes, strip)


@jit_inner
def _visit_or_put_aside(context: Any, lanes: int, strip: Any) -> None:
    """Add a strip to `acc`, or put it aside if squares overflow."""
    x, _, masked, acc, flags, _ = context
    panel, at, step, rows, width, fetch, _ = strip
    quick = width == lanes and not masked and item(flags, WARY) == 0.0
    if not (quick and add_rows(x, at, step, rows, fetch, acc, panel)):
        if quick:
            view(flags, (2,))[WARY] = 1.0
        if not _add_warily(context, lanes, strip):
            _put_aside(context, lanes, strip)


@jit_part
def _put_aside(context: Any, lanes: int, strip: Any) -> None:
    """Merge the values of a strip lane by lane, apart from all others."""
    x, mask, masked, _, flags, (owned, kept, panels, channels) = context
    panel, at, step, rows, width, _, _ = strip
    owners = view(owned, (panels * lanes,))
    aside = view(kept, (stages.STATES, channels))
    if item(flags, OVERFLOWED) == 0.0:
        stages.empty(aside)
    view(flags, (2,))[OVERFLOWED] = 1.0
    values = np.empty(rows)
    for j in range(width):
        n = 0
        for r in range(rows):
            i = at + r * step + j
            if not masked or item(mask, i):
                values[n] = item(x, i)
                n += 1
        c = owners[panel * lanes + j]
        if n > 0 and c >= 0:
            _add_scaled(values, n, aside, c)


@jit_part
def _add_scaled(values: Array, n: int, aside: Array, c: int) -> None:
    """Merge values whose squares overflow: two passes over them, scaled down."""
    finite = 0
    infinities = 0.0
    lo = np.inf
    hi = -np.inf
    s = 0.0
    for i in range(n):
        v = values[i]
        if v == v:
            lo = min(lo, v)
            hi = max(hi, v)
        if v - v == 0.0:
            values[finite] = v
            finite += 1
            s += v * DOWN
        elif v == v:
            infinities += 1.0
    mean = s / finite
    s1 = 0.0
    s2 = 0.0
    for i in range(finite):
        d = values[i] * DOWN - mean
        s1 += d
        s2 += d * d
    away = s1 / finite
    nans = n - finite - infinities
    stages.add_state(
        aside, c, np.float64(finite), (mean + away) * UP, (s2 - s1 * away) * UP * UP, lo, hi,
        infinities, nans,
    )  # fmt: skip


@jit_part
def _add_aside(aside: Array, state: Array) -> None:
    for c in range(state.shape[1]):
        stages.add_state(
            state, c, aside[stages.COUNT, c], aside[stages.MEAN, c], aside[stages.M2, c],
            aside[stages.LEAST, c], aside[stages.MOST, c], aside[stages.INFINITIES, c],
            aside[stages.MISSING, c],
        )  # fmt: skip


_read = walk.reader(_visit)
_read_or_put_aside = walk.reader(_visit_or_put_aside)


@jit_inner
def _measure_box(
    read: Any, huge: bool, x: Array, mask: Array, box: Any, every_owner: Array, omit: bool,
    rows: Partial,
) -> None:  # fmt: skip
    lanes = LINE // x.itemsize
    panels = walk.panels_of(box, lanes)
    owners = every_owner[box["owners"] :]
    # All of one kind, so that Numba compiles one way to make them.
    acc = np.empty((panels * FIELDS, lanes))
    stage = np.empty((FIELDS, rows.size))
    state = np.empty((stages.STATES, rows.size))
    aside = np.empty((stages.STATES, rows.size))
    shift = np.empty((1, rows.size))
    flags = np.empty((1, 2))
    flags[0, WARY] = 0.0
    for c in range(rows.size):
        shift[0, c] = 0.0
    stages.empty(state)
    total = walk.lines_of(box)
    apart = (pointer(owners), pointer(aside), panels, rows.size)
    context = (pointer(x), pointer(mask), mask.size > 0, pointer(acc), pointer(flags), apart)
    start = 0
    stop = min(max(walk.tile_rows(box, lanes, x.itemsize), FIRST_LINES), total)
    while start < total:
        for _ in range(2):
            stages.set_shift(acc, owners, shift)
            flags[0, OVERFLOWED] = 0.0
            read(box, start, stop, lanes, x.itemsize, context)
            stages.fold(acc, owners, shift, stage)
            if not stages.cancelled(stage, state, shift):
                break
        if huge and flags[0, OVERFLOWED] > 0.0:
            _add_aside(aside, state)
        stages.close(stage, state, shift)
        start = stop
        stop = min(stages.GROWTH * stop, total)
    stages.write(state, box["each"], omit, rows)


@jit
def measure_boxes(
    x: Array, mask: Array, boxes: Array, owners: Array, turn: Array, omit: bool, rows: Partial
) -> None:
    """Measure boxes that nobody has taken yet.

    Parameters
    ----------
    x : array, shape (n,)
        float32, int32, uint32, or the bits of float16 (as int16) or bfloat16 (as uint16).
    mask : array of bool, shape (n,) or (0,)
        What to count; size 0 for everything.
    boxes : array of BOX, shape (B,)
    owners : array of int64
        The channel of every lane of a box, from its field `owners` on; -1 where it has none.
    turn : array of int64, shape (1,)
        The next box that nobody has taken; shared by the threads at work.
    omit : bool
        Leave NaN out (and count them) instead of letting them spread.
    rows : array of PARTIAL, shape (R, C)
        Where results go; what stood there is overwritten.
    """
    b = claim(turn)
    while b < len(boxes):
        box = boxes[b]
        first = box["first"]
        here = rows[box["row"], first : first + box["channels"]]
        _measure_box(_read, False, x, mask, box, owners, omit, here)
        b = claim(turn)


@jit
def measure_huge_boxes(
    x: Array, mask: Array, boxes: Array, owners: Array, turn: Array, omit: bool, rows: Partial
) -> None:
    """Measure boxes as `measure_boxes` does, of float64, whose squares may overflow."""
    b = claim(turn)
    while b < len(boxes):
        box = boxes[b]
        first = box["first"]
        here = rows[box["row"], first : first + box["channels"]]
        _measure_box(_read_or_put_aside, True, x, mask, box, owners, omit, here)
        b = claim(turn)
