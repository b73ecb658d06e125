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

from streamnorm.arrays import Array
from streamnorm.kernels.compiled import jit_part
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
from streamnorm.kernels.traced import LANES, over_channels
from streamnorm.partial import Partial, mean_formula

__all__ = [
    "BOOK",
    "CANCELLED",
    "GROWTH",
    "LANES",
    "NOT_FINITE",
    "close",
    "fold",
    "judge",
    "open_book",
    "recentre",
    "set_shift",
    "sum_up",
    "write",
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
Fields = Callable[[int], Any]
Changes = tuple[dict[int, Any], list[Any]]


def _open_book(select: Select, get: Fields, _: Any) -> Changes:
    """No values so far, and 0 as the first shift."""
    state: dict[int, Any] = dict.fromkeys((COUNT, M2, MISSING, CENTRE), 0.0)
    return state | {MEAN: np.nan, LEAST: np.inf, MOST: -np.inf}, []


def _judge(select: Select, get: Fields, _: Any) -> Changes:
    """Whether a stage is not finite, or more has cancelled in m2 than its merge will make up for.

    A stage that was read as finite is not if it met something else, or a square overflowed.
    """
    n, s1, s2, lo, hi = (get(field) for field in (NUMBERS, S1, S2, LOW, HIGH))
    lost = s1 * (s1 / n)
    left = s2 - lost
    left = select(left > 0.0, left, 0.0)
    before = select(get(MEAN) == get(SHIFT), get(COUNT), 0.0)
    most = (left + lost * (before / (before + n))) * float(GROWTH)
    cancelled = (n > 0.0) & (lo != hi) & (lost > most)
    return {}, [(s2 - s2 != 0.0) | (lo == -np.inf) | (hi == np.inf), cancelled]


def _recentre(select: Select, get: Fields, _: Any) -> Changes:
    """Shift by the stage's own mean."""
    n = get(NUMBERS)
    return {CENTRE: select(n > 0.0, get(SHIFT) + get(S1) / n, get(CENTRE))}, []


def _close(select: Select, get: Fields, _: Any) -> Changes:
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


def _sum_up(select: Select, get: Fields, omit: Any) -> Changes:
    """Decide what NaN and infinities do to the result, and whether squares overflowed."""
    count, lo, hi, mean, m2 = (get(field) for field in (COUNT, LEAST, MOST, MEAN, M2))
    infinite = (lo == -np.inf) | (hi == np.inf)
    # One infinity is the mean, both make it NaN.
    both = select(lo == -np.inf, lo, 0.0) + select(hi == np.inf, hi, 0.0)
    mean = select(infinite, both, mean)
    m2 = select(infinite, np.nan, m2)
    nan = (get(MISSING) > 0.0) & (omit == 0.0)
    count = select(nan, count + get(MISSING), count)
    unknown = nan | (count == 0.0)
    mean, lo, hi = (select(unknown, np.nan, value) for value in (mean, lo, hi))
    m2 = select(nan, np.nan, select(count == 0.0, 0.0, m2))
    # A mean that cannot stand in for an infinity of another box; m2 tells that it is wrong.
    overflowed = (lo - lo == 0.0) & (hi - hi == 0.0) & (m2 - m2 != 0.0)
    mean = select(overflowed, lo, mean)
    # -0.0 is stored as 0.0.
    return {COUNT: count, MEAN: mean + 0.0, M2: m2, LEAST: lo + 0.0, MOST: hi + 0.0}, [overflowed]


open_book = over_channels(_open_book)
judge = over_channels(_judge)
recentre = over_channels(_recentre)
close = over_channels(_close)
sum_up = over_channels(_sum_up)


@jit_part
def set_shift(acc: Array, owners: Array, book: Array) -> None:
    """Give every lane its channel's shift."""
    lanes = acc.shape[1]
    for panel in range(acc.shape[0] // FIELDS):
        for lane in range(lanes):
            c = owners[panel * lanes + lane]
            acc[panel * FIELDS + SHIFT, lane] = book[CENTRE, c] if c >= 0 else 0.0


@jit_part
def fold(acc: Array, owners: Array, book: Array) -> None:
    """Add up the lanes of each channel, all around the same shift."""
    for c in range(book.shape[1]):
        book[SHIFT, c] = book[CENTRE, c]
        book[LOW, c] = np.inf
        book[HIGH, c] = -np.inf
        for field in range(S1, ROWS):
            book[field, c] = 0.0
    lanes = acc.shape[1]
    for panel in range(acc.shape[0] // FIELDS):
        here = panel * FIELDS
        for lane in range(lanes):
            c = owners[panel * lanes + lane]
            if c >= 0:
                if acc[here + LOW, lane] < book[LOW, c]:
                    book[LOW, c] = acc[here + LOW, lane]
                if acc[here + HIGH, lane] > book[HIGH, c]:
                    book[HIGH, c] = acc[here + HIGH, lane]
                for field in range(S1, ROWS):
                    book[field, c] += acc[here + field, lane]


@jit_part
def write(book: Array, total: int, rows: Partial) -> None:
    """Write what was summed up to the rows of a box."""
    for c in range(rows.size):
        row = rows[c]
        count = np.int64(book[COUNT, c])
        row["count"] = count
        row["mean"] = book[MEAN, c]
        row["m2"] = book[M2, c]
        row["minimum"] = book[LEAST, c]
        row["maximum"] = book[MOST, c]
        row["omitted"] = total - count
