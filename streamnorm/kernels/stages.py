"""Compiled: what the lanes of a stage have gathered -> the moments of a box.

A box is read in stages, each three times as long as all before it. Within a stage every channel's
deviations are from one shift: its mean over the stages before. When a stage is closed, s1**2/n
cancels in m2 = s2 - s1**2/n (Chan, Golub & LeVeque 1983, eq. 1.7), and the merge with the m values
before adds s1**2/n * m/(m + n): with n <= 3 m what cancels is at most four times that, and the
error stays relative to the box's m2. Where it is more (the first stage, whose shift is 0; a channel
with few valid values before), the stage is read again around its own mean. Nothing is carried
from box to box.
"""

import numpy as np

from streamnorm.arrays import Array
from streamnorm.kernels.compiled import jit_part, merge_two
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
)
from streamnorm.partial import Partial

__all__ = [
    "GROWTH",
    "STATES",
    "add_state",
    "cancelled",
    "close",
    "empty",
    "fold",
    "not_finite",
    "set_shift",
    "write",
]

GROWTH = 4
COUNT, MEAN, M2, LEAST, MOST, INFINITIES, MISSING = range(7)
STATES = 7
"""Fields of a box's state, per channel: count, mean and m2 of finite values; extremes; how many
are infinite, how many NaN."""
# Beyond 2**500 squares could overflow: no shift is taken there.
HUGE = 2.0**500

# notation: n count, s1 sum of deviations, s2 of squared deviations, lo and hi extremes, c channel


@jit_part
def empty(state: Array) -> None:
    """Make a state that of no values."""
    for c in range(state.shape[1]):
        state[COUNT, c] = 0.0
        state[MEAN, c] = np.nan
        state[M2, c] = 0.0
        state[LEAST, c] = np.inf
        state[MOST, c] = -np.inf
        state[INFINITIES, c] = 0.0
        state[MISSING, c] = 0.0


@jit_part
def add_state(
    state: Array, c: int, n: float, mean: float, m2: float, lo: float, hi: float, inf: float,
    nan: float,
) -> None:  # fmt: skip
    """Merge n finite values, having put right what rounding may have moved outside, and others."""
    if n > 0.0:
        if mean < lo:
            mean = lo
        if mean > hi:
            mean = hi
        if lo == hi:
            mean = lo
        if lo == hi or m2 < 0.0:
            m2 = 0.0
        state[MEAN, c], state[M2, c] = merge_two(
            state[COUNT, c], state[MEAN, c], state[M2, c], n, mean, m2
        )
        state[COUNT, c] += n
    if lo < state[LEAST, c]:
        state[LEAST, c] = lo
    if hi > state[MOST, c]:
        state[MOST, c] = hi
    state[INFINITIES, c] += inf
    state[MISSING, c] += nan


@jit_part
def set_shift(acc: Array, owners: Array, shift: Array) -> None:
    """Give every lane its channel's shift and clear its sums."""
    lanes = acc.shape[1]
    for panel in range(acc.shape[0] // FIELDS):
        here = panel * FIELDS
        for lane in range(lanes):
            c = owners[panel * lanes + lane]
            acc[here + SHIFT, lane] = shift[0, c] if c >= 0 else 0.0
            acc[here + LOW, lane] = np.inf
            acc[here + HIGH, lane] = -np.inf
            for field in range(S1, FIELDS):
                acc[here + field, lane] = 0.0


@jit_part
def fold(acc: Array, owners: Array, shift: Array, stage: Array) -> None:
    """Add up the lanes of each channel, all around the same shift."""
    for c in range(stage.shape[1]):
        stage[SHIFT, c] = shift[0, c]
        stage[LOW, c] = np.inf
        stage[HIGH, c] = -np.inf
        for field in range(S1, FIELDS):
            stage[field, c] = 0.0
    lanes = acc.shape[1]
    for panel in range(acc.shape[0] // FIELDS):
        here = panel * FIELDS
        for lane in range(lanes):
            c = owners[panel * lanes + lane]
            if c >= 0:
                if acc[here + LOW, lane] < stage[LOW, c]:
                    stage[LOW, c] = acc[here + LOW, lane]
                if acc[here + HIGH, lane] > stage[HIGH, c]:
                    stage[HIGH, c] = acc[here + HIGH, lane]
                for field in range(S1, FIELDS):
                    stage[field, c] += acc[here + field, lane]


@jit_part
def not_finite(stage: Array, largest: float) -> bool:
    """Whether a stage that was read as finite met something else, or a square overflowed."""
    found = False
    for c in range(stage.shape[1]):
        found |= stage[S2, c] - stage[S2, c] != 0.0
        found |= stage[LOW, c] < -largest or stage[HIGH, c] > largest
    return found


@jit_part
def cancelled(stage: Array, state: Array, shift: Array) -> bool:
    """Whether more has cancelled in some channel's m2 than its merge will make up for.

    If so, `shift` becomes the stage's own mean.
    """
    bad = False
    for c in range(stage.shape[1]):
        n = stage[NUMBERS, c]
        if n > 0.0 and stage[LOW, c] != stage[HIGH, c]:
            lost = stage[S1, c] * (stage[S1, c] / n)
            left = stage[S2, c] - lost
            left = left if left > 0.0 else 0.0
            before = state[COUNT, c] if state[MEAN, c] == stage[SHIFT, c] else 0.0
            bad |= lost > GROWTH * (left + lost * (before / (before + n)))
    for c in range(stage.shape[1]):
        if bad and stage[NUMBERS, c] > 0.0:
            shift[0, c] = stage[SHIFT, c] + stage[S1, c] / stage[NUMBERS, c]
    return bad


@jit_part
def close(stage: Array, state: Array, shift: Array) -> None:
    """Merge a stage into the state, and shift by the means so far from now on."""
    for c in range(state.shape[1]):
        away = stage[S1, c] / stage[NUMBERS, c]
        add_state(
            state, c, stage[NUMBERS, c], stage[SHIFT, c] + away, stage[S2, c] - stage[S1, c] * away,
            stage[LOW, c], stage[HIGH, c], stage[INFINITE, c], stage[NANS, c],
        )  # fmt: skip
        if abs(state[MEAN, c]) <= HUGE:
            shift[0, c] = state[MEAN, c]


@jit_part
def write(state: Array, total: int, omit: bool, rows: Partial) -> bool:
    """Write the state of a box to its rows; what NaN and infinities do is decided here.

    Gives whether a channel's squares overflowed.
    """
    overflowed = False
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
        if lo - lo == 0.0 and hi - hi == 0.0 and m2 - m2 != 0.0:
            # A mean that cannot stand in for an infinity of another box; m2 tells that it is wrong.
            overflowed = True
            mean = lo
        row["count"] = count
        row["mean"] = mean + 0.0
        row["m2"] = m2
        row["minimum"] = lo + 0.0
        row["maximum"] = hi + 0.0
        row["omitted"] = total - count
    return overflowed
