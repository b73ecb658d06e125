"""Compiled: what the lanes of a stage have gathered -> the moments of a box.

A box is read in stages, each three times as long as all before it. Within a stage every channel's
deviations are from one shift: its mean over the stages before. When a stage is closed, s1**2/n
cancels in m2 = s2 - s1**2/n (Chan, Golub & LeVeque 1983, eq. 1.7), and the merge with the m values
before adds s1**2/n * m/(m + n): with n <= 3 m what cancels is at most four times that, and the
error stays relative to the box's m2. Where it is more (the first stage, whose shift is 0; a channel
with few valid values before), the stage is read again around its own mean. Nothing is carried
from box to box.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from streamnorm.kernels.float_rows import (
    FIELDS,
    HIGH,
    LOW,
    NANS,
    NUMBERS,
    ROWS,
    S1,
    S2,
    SHIFT,
)
from streamnorm.kernels.loops import LANES, into_records, over_channels, over_lanes
from streamnorm.partial import PARTIAL, mean_formula

__all__ = [
    "BOOK",
    "CANCELLED",
    "GROWTH",
    "LANES",
    "NOT_FINITE",
    "begin_stage",
    "close",
    "fold",
    "judge",
    "open_book",
    "recentre",
    "set_shift",
    "sum_up",
]

GROWTH = 4
COUNT, MEAN, M2, LEAST, MOST, MISSING, CENTRE = range(ROWS, ROWS + 7)
BOOK = ROWS + 7
"""Fields of a box's book, per channel. First what the lanes of a stage have gathered, folded; then
what is known of all stages before: count, mean, m2 and extremes of the numbers; how many values are
NaN; and the shift for the next stage. Where an extreme is infinite, mean and m2 mean nothing."""
NOT_FINITE, CANCELLED = 1, 2
# Beyond 2**500 squares could overflow: no shift is taken there.
HUGE = 2.0**500

# notation: n count, s1 sum of deviations, s2 of squared deviations, lo and hi extremes, c channel
Select = Callable[[Any, Any, Any], Any]
Get = Callable[[int], Any]
Changes = tuple[dict[int, Any], list[Any]]
Exchange = tuple[dict[int, Any], dict[int, Any]]


def _open_book(select: Select, get: Get) -> Changes:
    """No values so far, and 0 as the first shift."""
    state: dict[int, Any] = dict.fromkeys((COUNT, M2, MISSING, CENTRE), 0.0)
    return state | {MEAN: np.nan, LEAST: np.inf, MOST: -np.inf}, []


def _judge(select: Select, get: Get) -> Changes:
    """Whether a stage is not finite, or more has cancelled in m2 than its merge will make up for.

    A stage that was read as finite is not if it met something else, or a square overflowed. Of a
    channel with an infinity before nobody wants to know.
    """
    n, s1, s2, lo, hi = (get(field) for field in (NUMBERS, S1, S2, LOW, HIGH))
    lost = s1 * (s1 / n)
    left = s2 - lost
    left = select(left > 0.0, left, 0.0)
    before = select(get(MEAN) == get(SHIFT), get(COUNT), 0.0)
    most = (left + lost * (before / (before + n))) * float(GROWTH)
    infinite = (lo == -np.inf) | (hi == np.inf)
    known = (lo != hi) & (get(LEAST) != -np.inf) & (get(MOST) != np.inf)
    cancelled = (n > 0.0) & known & (lost > most)
    return {}, [(s2 - s2 != 0.0) | infinite, cancelled]


def _recentre(select: Select, get: Get) -> Changes:
    """Shift by the stage's own mean."""
    n = get(NUMBERS)
    return {CENTRE: select(n > 0.0, get(SHIFT) + get(S1) / n, get(CENTRE))}, []


def _close(select: Select, get: Get) -> Changes:
    """Merge a stage into what was before, and shift by the means so far from now on.

    What rounding may have moved outside of the stage's range is put right first.
    """
    n, s1, lo, hi = (get(field) for field in (NUMBERS, S1, LOW, HIGH))
    away = s1 / n
    mean = get(SHIFT) + away
    mean = select(mean < lo, lo, mean)
    mean = select(mean > hi, hi, mean)
    mean = select(lo == hi, lo, mean)
    m2 = get(S2) - s1 * away
    m2 = select((lo == hi) | (m2 < 0.0), 0.0, m2)
    merge_two = mean_formula(select)
    mean, m2 = merge_two(get(COUNT), get(MEAN), get(M2), n, mean, m2)
    return {
        COUNT: get(COUNT) + n,
        MEAN: mean,
        M2: m2,
        LEAST: select(lo < get(LEAST), lo, get(LEAST)),
        MOST: select(hi > get(MOST), hi, get(MOST)),
        MISSING: get(MISSING) + get(NANS),
        CENTRE: select((mean <= HUGE) & (mean >= -HUGE), mean, get(CENTRE)),
    }, []


def _sum_up(select: Select, get: Get, given: Any) -> tuple[list[Any], list[Any]]:
    """Decide what NaN and infinities do to the result, and whether squares overflowed.

    `given` is how many values of each channel there are; negative if NaN are to be left out.
    """
    count, lo, hi, mean, m2 = (get(field) for field in (COUNT, LEAST, MOST, MEAN, M2))
    infinite = (lo == -np.inf) | (hi == np.inf)
    # One infinity is the mean, both make it NaN.
    both = select(lo == -np.inf, lo, 0.0) + select(hi == np.inf, hi, 0.0)
    mean = select(infinite, both, mean)
    m2 = select(infinite, np.nan, m2)
    nan = (get(MISSING) > 0.0) & (given > 0.0)
    count = select(nan, count + get(MISSING), count)
    unknown = nan | (count == 0.0)
    mean, lo, hi = (select(unknown, np.nan, value) for value in (mean, lo, hi))
    m2 = select(nan, np.nan, select(count == 0.0, 0.0, m2))
    # A mean that cannot stand in for an infinity of another box; m2 tells that it is wrong.
    overflowed = (lo - lo == 0.0) & (hi - hi == 0.0) & (m2 - m2 != 0.0)
    mean = select(overflowed, lo, mean)
    omitted = select(given > 0.0, given, given * -1.0) - count
    # -0.0 is stored as 0.0.
    return [count, mean + 0.0, m2, lo + 0.0, hi + 0.0, omitted], [overflowed]


def _set_shift(select: Select, lane: Get, channel: Get) -> Exchange:
    """Give every lane its channel's shift."""
    return {SHIFT: channel(CENTRE)}, {}


def _begin_stage(select: Select, get: Get) -> Changes:
    """Nothing gathered so far, around the shift that the lanes have."""
    sums: dict[int, Any] = dict.fromkeys(range(S1, ROWS), 0.0)
    return sums | {SHIFT: get(CENTRE), LOW: np.inf, HIGH: -np.inf}, []


def _fold(select: Select, lane: Get, channel: Get) -> Exchange:
    """Add up the lanes of each channel, all around the same shift."""
    lo, hi = lane(LOW), lane(HIGH)
    folded = {field: channel(field) + lane(field) for field in range(S1, ROWS)}
    low = select(lo < channel(LOW), lo, channel(LOW))
    return {}, folded | {LOW: low, HIGH: select(hi > channel(HIGH), hi, channel(HIGH))}


open_book = over_channels(_open_book)
set_shift = over_lanes(_set_shift, FIELDS)
begin_stage = over_channels(_begin_stage)
fold = over_lanes(_fold, FIELDS)
judge = over_channels(_judge)
recentre = over_channels(_recentre)
close = over_channels(_close)
sum_up = into_records(_sum_up, PARTIAL)
