"""Exact sums that come from outside: their records, and what no data could have."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from streamnorm import limbs
from streamnorm.fields import channels_where
from streamnorm.limbs import NARROW, WIDE, Exact, Grid
from streamnorm.rationals import nearest
from streamnorm.readers import extremes_of, sums_of

__all__ = ["check_possible", "put_extremes", "rows_of", "subtracted"]

_MIN, _MAX = -(1 << 63), (1 << 64) - 1
_SMALLEST = 1074
"""Every float64 is a whole multiple of 2**-1074."""

Known = Sequence[Fraction | None]


def rows_of(counts: Sequence[Any], sums: Sequence[Fraction], squares: Sequence[Fraction]) -> Exact:
    """Return the records of channels whose extremes are unknown.

    Parameters
    ----------
    counts : sequence of arrays, shape (C,)
        In the order of `limbs.COUNTS`.
    sums, squares : sequence of Fraction
        Of finite values and of their squares.

    Raises
    ------
    ValueError
        If no float64 data have such sums.
    """
    for what, numbers, digits in (("sum", sums, 1), ("sum of squares", squares, 2)):
        finest = 1 << digits * _SMALLEST
        odd = [c for c, number in enumerate(numbers) if finest % number.denominator]
        if odd:
            msg = (
                f"the {what} of channel {odd[0]} is no whole multiple of 2**{-digits * _SMALLEST}, "
                f"as those of all float64 are; give Fractions, not rounded numbers"
            )
            raise ValueError(msg)
    for counted in zip(*(np.asarray(values).tolist() for values in counts), strict=True):
        # As Python's integers: those of NumPy could wrap.
        count, _, *special = counted
        if sum(special) > count:
            msg = f"no moments of any data: {sum(special)} of {count} values are NaN or infinite"
            raise ValueError(msg)
    rows = limbs.empty(len(sums))
    for name, values in zip(limbs.COUNTS, counts, strict=True):
        rows[name] = values
    fits = [
        _fits(NARROW, *channel)
        for channel in zip(limbs.finite(rows).tolist(), sums, squares, strict=True)
    ]
    if not all(fits):
        rows = limbs.widened(rows)
    grid = limbs.grid_of(rows)
    _put(rows, grid, sums, squares)
    return rows


def _fits(grid: Grid, count: int, total: Fraction, squares: Fraction) -> bool:
    """Whether sums lie on a grid, and are no larger than those of values that do.

    The second part stays true of whatever is added later, so that no sum leaves its grid.
    """
    whole = (1 << -grid.exponent) % total.denominator == 0
    whole_squares = (1 << -2 * grid.exponent) % squares.denominator == 0
    return whole and whole_squares and _bounded(grid, count, total, squares)


def _bounded(grid: Grid, count: int, total: Fraction, squares: Fraction) -> bool:
    within = abs(total) < count << grid.bits and squares < count << 2 * grid.bits
    return within or total == squares == 0


def _put(rows: Exact, grid: Grid, sums: Sequence[Fraction], squares: Sequence[Fraction]) -> None:
    for name, numbers, size, exponent in (
        ("sum", sums, grid.limbs, grid.exponent),
        ("squares", squares, grid.square_limbs, 2 * grid.exponent),
    ):
        unit = 1 << -exponent
        top = 1 << limbs.LIMB_BITS * size - 1
        whole = [int(number * unit) for number in numbers]
        if any(not -top <= number < top for number in whole):
            msg = f"the {name} is beyond what 2**63 - 1 values of float64 add up to"
            raise ValueError(msg)
        rows[name] = limbs.of_integers(whole, size)


def put_extremes(rows: Exact, minimum: Known, maximum: Known) -> None:
    """Write extremes into records, None where they are not known.

    Raises
    ------
    ValueError
        If one is neither a float64 nor an integer of at most 64 bits.
    """
    for name, numbers in (("minimum", minimum), ("maximum", maximum)):
        for row, number in zip(rows, numbers, strict=True):
            if number is None:
                continue
            value = nearest(number.numerator, number.denominator)
            rest = number - Fraction(value) if np.isfinite(value) else None
            if rest is None or (rest and (number.denominator > 1 or not _MIN <= number <= _MAX)):
                msg = f"the {name} {number} is neither a float64 nor an integer of 64 bits"
                raise ValueError(msg)
            row[name] = value + 0.0
            row[f"{name}_rest"] = int(rest)


def check_possible(rows: Exact, within: Exact | None = None) -> None:
    r"""Refuse numbers that no data could have.

    For values between a and b, :math:`\sum (x - a)(b - x) \ge 0` bounds the sum of squares from
    above; from below it is bounded by Cauchy and Schwarz, :math:`n \sum x^2 \ge (\sum x)^2`.

    Parameters
    ----------
    rows : records
    within : records, optional
        Whose extremes bound the values; default `rows`.

    Raises
    ------
    ValueError
        With the reason and the channels.
    """
    bounds = rows if within is None else within
    ends = (extremes_of(bounds, "minimum"), extremes_of(bounds, "maximum"))
    reasons = [
        _impossible(*numbers, low, high, borrowed=within is not None)
        for numbers, low, high in zip(sums_of(rows), *ends, strict=True)
    ]
    for reason in filter(None, reasons):
        where = channels_where(np.array([reason == other for other in reasons]))
        msg = f"these are no moments of any data: {reason}, channel(s) {where}"
        raise ValueError(msg)


def _impossible(
    n: int, s: Fraction, q: Fraction, low: Fraction | None, high: Fraction | None,
    *, borrowed: bool,
) -> str | None:  # fmt: skip
    """Return what is wrong with n values of sum s and sum of squares q, None if nothing is.

    Extremes that are `borrowed` are those of more values.
    """
    a, b = (s if end is None else n * end for end in (low, high))
    wrong = {
        "a sum is not 0 although no finite value was counted": n == 0 and (s or q),
        "an extreme is known although no finite value was counted": n == 0
        and (low is not None or high is not None)
        and not borrowed,
        "the sum of squares is not the square although one value was counted": n == 1
        and q != s * s,
        "the sum of squares is too small for the sum": n > 0 and n * q < s * s,
        "the sums are beyond those of so many values": not _bounded(WIDE, n, s, q),
        "the mean is below the minimum": n > 0 and s < a,
        "the mean is above the maximum": n > 0 and s > b,
        "the extremes are not those of so few values": not borrowed
        and not _few_values_fit(n, s, q, low, high),
        "the sum of squares is too large for the extremes": n > 0
        and low is not None
        and high is not None
        and q > (low + high) * s - n * low * high,
    }
    return next((what for what, holds in wrong.items() if holds), None)


def _few_values_fit(
    n: int, s: Fraction, q: Fraction, low: Fraction | None, high: Fraction | None
) -> bool:
    """Whether one or two values are those that their extremes say they are."""
    if n == 1:
        return all(end in (None, s) for end in (low, high))
    known = n == 2 and low is not None and high is not None
    return not known or (s == low + high and q == low * low + high * high)  # type: ignore[operator]


def subtracted(rows: Exact, part: Exact) -> Exact:
    """Take a part out of the whole, both of shape (C,).

    Raises
    ------
    ValueError
        If no data could have what is left, or the part has values that the whole cannot have.
    """
    rows, part = limbs.alike(rows, part)
    rest = limbs.empty(rows.shape, limbs.grid_of(rows))
    for name in limbs.COUNTS:
        rest[name] = rows[name] - part[name]
        if (rest[name] < 0).any():
            what = name.replace("_", " ")
            where = channels_where(rest[name] < 0)
            msg = f"this was never added: the part has a larger {what}, channel(s) {where}"
            raise ValueError(msg)
    for name in ("sum", "squares"):
        difference = rows[name] - part[name]
        limbs.carry(difference)
        rest[name] = difference
    _keep_extremes(rest, rows, part)
    try:
        check_possible(rest, within=rows)
        check_possible(rest)
    except ValueError as error:
        msg = f"this was never added: {error}"
        raise ValueError(msg) from error
    # What is added later must stay on the grid too.
    grid = limbs.grid_of(rest)
    return rest if all(_bounded(grid, *sums) for sums in sums_of(rest)) else limbs.widened(rest)


def _keep_extremes(rest: Exact, rows: Exact, part: Exact) -> None:
    """Keep the extremes that are proved to be those of the rest."""
    left, taken = limbs.finite(rest) > 0, limbs.finite(part) > 0
    for name, sign in (("minimum", 1), ("maximum", -1)):
        whole, of_part = (extremes_of(records, name) for records in (rows, part))
        for c, (mine, theirs) in enumerate(zip(whole, of_part, strict=True)):
            if mine is None or not left[c]:
                continue
            if theirs is not None and sign * theirs < sign * mine:
                msg = f"this was never added: the part's {name} is beyond the whole's, channel {c}"
                raise ValueError(msg)
            if not taken[c] or (theirs is not None and theirs != mine):
                rest[name][c] = rows[name][c]
                rest[f"{name}_rest"][c] = rows[f"{name}_rest"][c]
