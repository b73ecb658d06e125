r"""Moments that go on running: of all that was seen, of what is new, and what to normalize with.

A step is one formula over a book of fields, all float64, of which it changes some. It runs under
NumPy, compiled (`kernels.compiled.step`) and, where the book lies on a device, under torch or as
one Triton kernel written out from it (`kernels.triton_running`); tests prove equal bits.

With forgetting, the weight of a value halves with every :math:`h` values of its channel that come
after its batch: before a batch of :math:`n` values is merged, count and m2 of what was seen are
multiplied by :math:`2^{-n/h}`, so that the count is a sum of weights,
:math:`\sum w`, the mean :math:`\sum w x / \sum w` and the variance
:math:`\sum w (x - \bar x)^2 / \sum w` (West 1979, "Updating mean and variance estimates: an
improved method", Communications of the ACM 22(9), for weights; Chan, Golub & LeVeque 1983).
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from streamnorm.arrays import Array
from streamnorm.fields import Floats
from streamnorm.partial import PARTIAL, Partial, empty, mean_formula, pair_formula

__all__ = [
    "BATCH",
    "CENTER",
    "DECAY",
    "FIELDS",
    "LANES",
    "MIN_COUNT",
    "NEW",
    "TOTAL",
    "UNTIL",
    "VARIANCE",
    "advance",
    "constants",
    "rows_of_fields",
    "start",
    "to_fields",
]

_SIZE = len(PARTIAL.names or ())
TOTAL, NEW, BATCH = (slice(k * _SIZE, (k + 1) * _SIZE) for k in range(3))
DECAY, MIN_COUNT, UNTIL, CENTER, VARIANCE = range(3 * _SIZE, 3 * _SIZE + 5)
FIELDS = 3 * _SIZE + 5
"""Fields of a book: three partial results, in the order of `PARTIAL`; what the total's weights are
multiplied by; from which count on to normalize, and at which to stop; and what to subtract, and the
square of what to divide by."""
LANES = 8
"""Channels are taken so many at a time: a book's width is a multiple of that."""

Select = Callable[[Any, Any, Any], Any]
Field = Callable[[int], Any]


def advance(select: Select, field: Field) -> tuple[dict[int, Any], list[Any]]:
    """Merge a batch into what was seen and into what is new; gives the fields that change."""
    pair = pair_formula(select, mean_formula(select))
    total, new, batch = ([field(k) for k in range(s.start, s.stop)] for s in (TOTAL, NEW, BATCH))
    going_on = total[0] < field(UNTIL)
    decay = field(DECAY)
    weakened = [total[0] * decay, total[1], total[2] * decay, *total[3:]]
    changed = {}
    for before, old, place in ((total, weakened, TOTAL), (new, new, NEW)):
        merged = pair(*old, *batch)
        for k, (value, kept) in enumerate(zip(merged, before, strict=True), place.start):
            changed[k] = select(going_on, value, kept)
    count, mean, m2, low, high = (changed[k] for k in range(_SIZE - 1))
    changed[CENTER], changed[VARIANCE] = constants(
        select, count, mean, m2, low, high, field(MIN_COUNT)
    )
    return changed, []


def constants(
    select: Select, count: Any, mean: Any, m2: Any, low: Any, high: Any, min_count: Any
) -> tuple[Any, Any]:
    """Return what to subtract, and the square of what to divide by.

    That is 0 and 1 as long as too few values were seen; a constant channel is divided by 1.
    """
    ready = count >= min_count
    variance = m2 / select(ready, count, 1.0)
    varied = ready & (variance > 0.0) & (low != high)
    # NaN is no number to compare: it shall spread, not turn into 1.
    spread = select(varied | (variance != variance), variance, 1.0)  # noqa: PLR0124
    # An infinite mean leaves no number finite: NaN says so, and differs from itself in silence.
    center = select(mean - mean == 0.0, mean, np.nan)
    return select(ready, center, 0.0), select(ready, spread, 1.0)


def start(channels: int, min_count: float, until: float) -> Floats:
    """Return a book in which nothing was seen."""
    width = -(-channels // LANES) * LANES
    book = np.zeros((FIELDS, width))
    nothing = to_fields(empty(width))
    for place in (TOTAL, NEW, BATCH):
        book[place] = nothing
    book[DECAY], book[MIN_COUNT], book[UNTIL], book[VARIANCE] = 1.0, min_count, until, 1.0
    return book


def to_fields(rows: Partial) -> Floats:
    """Return the fields of a partial result as float64, (6, C); counts up to 2**53 exactly."""
    fields = rows.view(np.float64).reshape(-1, _SIZE).T.copy()
    fields[0], fields[-1] = rows["count"], rows["omitted"]
    return fields


def rows_of_fields(fields: Array) -> Partial:
    """Return fields, (6, C), as a partial result."""
    rows = empty(fields.shape[1])
    for name, values in zip(PARTIAL.names or (), fields, strict=True):
        rows[name] = values
    return rows
