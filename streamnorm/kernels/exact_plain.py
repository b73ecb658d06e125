"""What the loops of `exact_rows` do, in plain Python: their specification."""

from fractions import Fraction

import numpy as np

from streamnorm.arrays import Array
from streamnorm.kernels.exact_panels import (
    FIELDS,
    HIGH,
    LARGEST,
    LOW,
    MINUS,
    NAN,
    OTHERS,
    PLUS,
    ROWS,
    SQUARES,
    SUMS,
    TOP,
)  # fmt: skip
from streamnorm.kernels.numbers import floats_of
from streamnorm.kernels.windows import NOWHERE, format_of

__all__ = ["add_window", "survey", "try_all"]


def _magnitudes(raw: Array) -> Array:
    bits = raw.view(f"i{raw.itemsize}").astype(np.int64)
    return bits & ((1 << 8 * raw.itemsize - 1) - 1)


def _windows(raw: Array, place: Array) -> tuple[Array, Array]:
    """Return which values lie in the windows of their lanes, and which below."""
    form = format_of(raw.dtype)
    if not form.fraction:
        return np.ones(raw.shape, np.bool_), np.zeros(raw.shape, np.bool_)
    sizes, tops = np.abs(floats_of(raw)), place[TOP]
    nowhere = tops == NOWHERE
    tops = np.where(nowhere, form.most_top, tops)
    with np.errstate(over="ignore", invalid="ignore"):
        least = np.where(tops == form.least_top, 0.0, np.ldexp(1.0, tops - form.depth))
        inside = (sizes == 0) | (sizes >= least)
        inside &= sizes < np.ldexp(1.0, tops)
        return inside | nowhere, (sizes < least) & (sizes > 0)


def _add_units(raw: Array, where: Array, place: Array) -> None:
    """Add values, as integers in units of the last rungs; what is too much, to rungs above."""
    scheme = format_of(raw.dtype).scheme
    values = floats_of(raw)
    for lane in np.flatnonzero(place[TOP] != NOWHERE):
        unit = Fraction(2) ** (int(place[TOP, lane]) - scheme.span)
        some = where[:, lane] & (values[:, lane] != 0)
        numbers = [Fraction(x) / unit for x in values[some, lane].tolist()]
        for first, rungs, power in ((SUMS, scheme.sums, 1), (SQUARES, scheme.squares, 2)):
            rest = int(sum(number**power for number in numbers))
            for rung, exponent in enumerate(rungs):
                units, rest = divmod(rest, 1 << exponent - rungs[-1])
                place[first + rung, lane] += units


def _put_extremes(values: Array, where: Array, place: Array) -> None:
    ends = place.view(np.float64)
    low = np.where(where, values, np.inf).min(0, initial=np.inf)
    high = np.where(where, values, -np.inf).max(0, initial=-np.inf)
    ends[LOW] = np.minimum(ends[LOW], low)
    ends[HIGH] = np.maximum(ends[HIGH], high)


def try_all(raw: Array, valid: Array, place: Array) -> bool:
    """Add values if all lie in the windows of their lanes; tells whether they do."""
    inside, _ = _windows(raw, place)
    if not inside[valid].all():
        return False
    _put_extremes(floats_of(raw), valid, place)
    place[OTHERS] += (~valid).sum(0)
    place[ROWS, 0] += len(raw)
    _add_units(raw, valid, place)
    return True


def survey(raw: Array, valid: Array, place: Array) -> None:
    """Replace what the panel held by everything but the sums."""
    values = floats_of(raw)
    finite = valid & np.isfinite(values)
    place.view(np.float64)[[LOW, HIGH]] = [[np.inf], [-np.inf]]
    _put_extremes(values, finite, place)
    for field, special in ((NAN, np.isnan(values)), (PLUS, values > 0), (MINUS, values < 0)):
        place[field] = (valid & ~finite & special).sum(0)
    place[OTHERS] = (~valid).sum(0)
    place[ROWS, 0] = len(raw)
    place[LARGEST] = np.where(finite, _magnitudes(raw), 0).max(0)


def add_window(raw: Array, valid: Array, place: Array) -> None:
    """Replace the sums by those of the values in the windows of their lanes."""
    inside, below = _windows(raw, place)
    place[LARGEST] = np.where(below & valid, _magnitudes(raw), 0).max(0)
    place[SUMS:FIELDS] = 0
    _add_units(raw, inside & valid, place)
