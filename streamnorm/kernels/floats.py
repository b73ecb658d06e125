"""Compiled kernel for boxes of floats and of 32-bit integers, which float64 holds exactly.

A box is read in stages, each seven times as long as all before it. Within a stage every channel's
deviations are from one shift: its mean over the stages before. When a stage is closed, s1**2/n
cancels in m2 = s2 - s1**2/n (Chan, Golub & LeVeque 1983, eq. 1.7), and the merge with the m values
before adds s1**2/n * m/(m + n): with n <= 7 m what cancels is at most eight times that, and the
error stays relative to the box's m2. Where it is more (the first stage, whose shift is 0; a channel
with few valid values before), the stage is read once more around its own mean. Nothing is carried
from box to box.

Rows are first taken to be finite. From the first NaN, infinity or overflowing square in a box on,
they are read with counting.
"""

from typing import Any

import numpy as np

from streamnorm.arrays import Array
from streamnorm.kernels import walk
from streamnorm.kernels.compiled import jit, jit_inner, merge_one
from streamnorm.kernels.float_rows import (
    FIELDS,
    HIGH,
    INFINITE,
    LOW,
    NANS,
    NUMBERS,
    S1,
    S2,
    SHIFT,
    add_rows,
    add_rows_where,
)
from streamnorm.kernels.machine import LINE, claim, item, pointer, view
from streamnorm.partial import Partial

__all__ = ["measure_boxes"]

GROWTH = 8
FIRST_LINES = 64
# Beyond 2**500 squares could overflow: such values are scaled by a power of two.
HUGE = 2.0**500
DOWN = 2.0**-600
UP = 2.0**600

# An unsigned index cannot be negative, so it needs no test and loops vectorise.
Index = np.uint64

COUNT, MEAN, M2, LEAST, MOST, INFINITIES, MISSING = range(7)
"""Fields of a box's state, per channel: count, mean and m2 of finite values; extremes; how many
are infinite, how many NaN."""

WARY, OVERFLOWED = range(2)

# notation: n count, s1 sum of deviations, s2 of squared deviations, lo and hi extremes, g group,
# r row, j place in a row


@jit
def _add_warily(context: Any, lanes: int, strip: Any) -> bool:
    """Add a strip that is masked, narrow, or not finite; False if squares overflow."""
    x, mask, masked, acc, _, _, _, _ = context
    panel, at, step, rows, width, fetch, spare = strip
    if width < lanes and (masked or not spare):
        values, valid = walk.gathered(x, mask, masked, lanes, strip)
        copy = pointer(values)
        truth = pointer(valid)
        return bool(add_rows_where(copy, 0, lanes, rows, 0, truth, 0, lanes, acc, panel))
    if masked:
        return bool(add_rows_where(x, at, step, rows, fetch, mask, at, step, acc, panel))
    edge = pointer(walk.EDGE)
    before = lanes - width
    begin = LINE - before
    return bool(add_rows_where(x, at - before, step, rows, fetch, edge, begin, 0, acc, panel))


@jit
def _empty(state: Array) -> None:
    state[:] = 0.0
    state[MEAN] = np.nan
    state[LEAST] = np.inf
    state[MOST] = -np.inf


@jit
def _add_moments(state: Array, n: Array, mean: Array, m2: Array, lo: Array, hi: Array) -> None:
    """Merge finite values, having put right what rounding may have moved outside."""
    counts = state[COUNT]
    means = state[MEAN]
    m2s = state[M2]
    least = state[LEAST]
    most = state[MOST]
    for c in range(Index(counts.size)):
        inside = lo[c] if mean[c] < lo[c] else mean[c]
        inside = hi[c] if inside > hi[c] else inside
        constant = lo[c] == hi[c]
        merged = merge_one(
            counts[c], means[c], m2s[c], 0.0, 0.0, 0.0,
            n[c], lo[c] if constant else inside, 0.0 if constant or m2[c] < 0.0 else m2[c],
            0.0, 0.0, 0.0,
        )  # fmt: skip
        counts[c] = merged[0]
        means[c] = merged[1]
        m2s[c] = merged[2]
        least[c] = lo[c] if lo[c] < least[c] else least[c]
        most[c] = hi[c] if hi[c] > most[c] else most[c]


@jit
def _scaled_moments(values: Array, n: int) -> Any:
    """Mean and m2 of finite values whose squares overflow: two passes over them, scaled down."""
    s = 0.0
    for i in range(n):
        s += values[i] * DOWN
    mean = s / n
    s1 = 0.0
    s2 = 0.0
    for i in range(n):
        d = values[i] * DOWN - mean
        s1 += d
        s2 += d * d
    return (mean + s1 / n) * UP, (s2 - s1 * s1 / n) * UP * UP


@jit
def _add_huge(
    x: Any, mask: Any, masked: bool, at: int, step: int, rows: int, width: int, owners: Array,
    aside: Array,
) -> None:  # fmt: skip
    """Merge rows whose squares overflow, which only those of float64 do, lane by lane."""
    values = np.empty(rows)
    for j in range(width):
        c = owners[j]
        if c < 0:
            continue
        n = 0
        for r in range(rows):
            i = at + r * step + j
            if not masked or item(mask, i):
                v = np.float64(item(x, i))
                if v != v:
                    aside[MISSING, c] += 1.0
                elif v - v == 0.0:
                    values[n] = v
                    n += 1
                else:
                    aside[INFINITIES, c] += 1.0
                    aside[LEAST, c] = min(aside[LEAST, c], v)
                    aside[MOST, c] = max(aside[MOST, c], v)
        if n > 0:
            mean, m2 = _scaled_moments(values, n)
            one = aside[:, c : c + 1]
            _add_moments(
                one, np.full(1, np.float64(n)), np.full(1, mean), np.full(1, m2),
                values[:n].min() * np.ones(1), values[:n].max() * np.ones(1),
            )  # fmt: skip


@jit
def _put_aside(context: Any, lanes: int, strip: Any) -> None:
    """Gather the values of a strip whose squares overflow apart from all others."""
    x, mask, masked, _, flags, owners, aside, channels = context
    panel, at, step, rows, width, _, _ = strip
    gathered = view(aside, (7, channels))
    if not item(flags, OVERFLOWED):
        _empty(gathered)
    view(flags, 2)[OVERFLOWED] = True
    here = view(owners, ((panel + 1) * lanes,))[panel * lanes :]
    _add_huge(x, mask, masked, at, step, rows, width, here, gathered)


@jit_inner
def _visit(context: Any, lanes: int, strip: Any) -> None:
    """Add a strip to `acc`, or put it aside if squares overflow."""
    x, _, masked, acc, flags, _, _, _ = context
    panel, at, step, rows, width, fetch, _ = strip
    quick = width == lanes and not masked and not item(flags, WARY)
    if not (quick and add_rows(x, at, step, rows, fetch, acc, panel)):
        if quick:
            view(flags, 2)[WARY] = True
        if not _add_warily(context, lanes, strip):
            _put_aside(context, lanes, strip)


_read = walk.reader(_visit)


@jit
def _in_a_row(owners: Array, panel: int) -> bool:
    """Whether a panel's lanes are neighbouring channels, as in wide tables."""
    first = owners[panel, 0]
    last = owners.shape[1] - 1
    return bool(first >= 0 and owners[panel, last] == first + last)


@jit
def _fold(acc: Array, owners: Array, stage: Array) -> None:
    """Add up the lanes of each channel, all around the same shift."""
    stage[:] = 0.0
    stage[LOW] = np.inf
    stage[HIGH] = -np.inf
    for panel in range(owners.shape[0]):
        if _in_a_row(owners, panel):
            first = owners[panel, 0]
            for field in (S1, S2, NUMBERS, INFINITE, NANS):
                for lane in range(owners.shape[1]):
                    stage[field, first + lane] += acc[panel, field, lane]
            for lane in range(owners.shape[1]):
                c = first + lane
                stage[SHIFT, c] = acc[panel, SHIFT, lane]
                stage[LOW, c] = min(stage[LOW, c], acc[panel, LOW, lane])
                stage[HIGH, c] = max(stage[HIGH, c], acc[panel, HIGH, lane])
        else:
            for lane in range(owners.shape[1]):
                c = owners[panel, lane]
                if c >= 0:
                    stage[SHIFT, c] = acc[panel, SHIFT, lane]
                    stage[LOW, c] = min(stage[LOW, c], acc[panel, LOW, lane])
                    stage[HIGH, c] = max(stage[HIGH, c], acc[panel, HIGH, lane])
                    for field in (S1, S2, NUMBERS, INFINITE, NANS):
                        stage[field, c] += acc[panel, field, lane]


@jit
def _shift(acc: Array, owners: Array, shift: Array) -> None:
    """Give every lane its channel's shift and clear its sums."""
    acc[:] = 0.0
    for panel in range(owners.shape[0]):
        acc[panel, LOW] = np.inf
        acc[panel, HIGH] = -np.inf
        for lane in range(owners.shape[1]):
            c = owners[panel, lane]
            if c >= 0:
                acc[panel, SHIFT, lane] = shift[c]


@jit
def _moments_of(stage: Array, moments: Array) -> None:
    """Mean and m2 of a stage from its sums, and how much cancelled in m2."""
    shift, s1, s2, n = stage[SHIFT], stage[S1], stage[S2], stage[NUMBERS]
    mean, m2, lost = moments[0], moments[1], moments[2]
    for c in range(Index(n.size)):
        away = s1[c] / n[c]
        mean[c] = shift[c] + away
        lost[c] = s1[c] * away
        m2[c] = s2[c] - lost[c]


@jit
def _cancelled(stage: Array, moments: Array, state: Array) -> bool:
    """Whether more has cancelled in some channel's m2 than its merge will make up for."""
    shift, n, lo, hi = stage[SHIFT], stage[NUMBERS], stage[LOW], stage[HIGH]
    m2, lost, counts, means = moments[1], moments[2], state[COUNT], state[MEAN]
    bad = False
    for c in range(Index(n.size)):
        before = counts[c] if means[c] == shift[c] else 0.0
        left = (0.0 if m2[c] < 0.0 else m2[c]) + lost[c] * (before / (before + n[c]))
        bad |= (lost[c] > GROWTH * left) & (lo[c] != hi[c])
    return bad


@jit
def _close(stage: Array, moments: Array, aside: Array, overflowed: bool, state: Array) -> None:
    """Merge a stage into the state."""
    _add_moments(state, stage[NUMBERS], moments[0], moments[1], stage[LOW], stage[HIGH])
    state[INFINITIES] += stage[INFINITE]
    state[MISSING] += stage[NANS]
    if overflowed:
        _add_moments(state, aside[COUNT], aside[MEAN], aside[M2], aside[LEAST], aside[MOST])
        state[INFINITIES] += aside[INFINITIES]
        state[MISSING] += aside[MISSING]


@jit
def _take_shift(means: Array, shift: Array) -> None:
    """Shift by `means` from now on, where they are plain numbers."""
    for c in range(Index(means.size)):
        shift[c] = means[c] if abs(means[c]) <= HUGE else shift[c]


@jit
def _finish(state: Array, total: int, omit: bool, rows: Partial) -> None:
    """Write the state of a box to its rows; what NaN and infinities do is decided here."""
    for c in range(rows.size):
        row = rows[c]
        lo = state[LEAST, c]
        hi = state[MOST, c]
        mean = state[MEAN, c]
        m2 = state[M2, c]
        count = np.int64(state[COUNT, c] + state[INFINITIES, c])
        if lo == -np.inf or hi == np.inf:
            # One infinity is the mean, both make it NaN.
            mean = (lo if lo == -np.inf else 0.0) + (hi if hi == np.inf else 0.0)
            m2 = np.nan
        if not omit and state[MISSING, c] > 0.0:
            count += np.int64(state[MISSING, c])
            mean = m2 = lo = hi = np.nan
        if count == 0:
            mean = lo = hi = np.nan
            m2 = 0.0
        row["count"] = count
        row["mean"] = mean + 0.0
        row["m2"] = m2
        row["minimum"] = lo + 0.0
        row["maximum"] = hi + 0.0
        row["omitted"] = total - count


@jit
def _measure_box(x: Array, mask: Array, box: Any, omit: bool, rows: Partial) -> None:
    channels = box["channels"]
    lanes = LINE // x.itemsize
    owners = walk.owners_of(box, lanes)
    acc = np.empty((owners.shape[0], FIELDS, lanes))
    stage = np.empty((FIELDS, channels))
    moments = np.empty((3, channels))
    state = np.empty((7, channels))
    aside = np.empty((7, channels))
    shift = np.zeros(channels)
    flags = np.zeros(2, np.bool_)
    _empty(state)
    total = walk.lines_of(box)
    context = (
        pointer(x), pointer(mask), mask.size > 0, pointer(acc), pointer(flags), pointer(owners),
        pointer(aside), channels,
    )  # fmt: skip
    start = 0
    stop = min(max(walk.tile_rows(box, lanes, x.itemsize), FIRST_LINES), total)
    while start < total:
        for _ in range(2):
            _shift(acc, owners, shift)
            flags[OVERFLOWED] = False
            _read(box, start, stop, lanes, x.itemsize, context)
            _fold(acc, owners, stage)
            _moments_of(stage, moments)
            if not _cancelled(stage, moments, state):
                break
            _take_shift(moments[0], shift)
        _close(stage, moments, aside, flags[OVERFLOWED], state)
        _take_shift(state[MEAN], shift)
        start = stop
        stop = min(GROWTH * stop, total)
    _finish(state, box["each"], omit, rows)


@jit
def measure_boxes(
    x: Array, mask: Array, boxes: Array, turn: Array, omit: bool, rows: Partial
) -> None:
    """Measure boxes that nobody has taken yet.

    Parameters
    ----------
    x : array, shape (n,)
        float32, float64, int32, uint32, or the bits of float16 (as int16) or bfloat16 (as uint16).
    mask : array of bool, shape (n,) or (0,)
        What to count; size 0 for everything.
    boxes : array of BOX, shape (B,)
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
        _measure_box(x, mask, box, omit, rows[box["row"], first : first + box["channels"]])
        b = claim(turn)
