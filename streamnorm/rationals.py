"""Numbers that people give -> rationals, and rationals -> the nearest float64, half to even."""

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from math import inf, isqrt
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Rational", "Rationals", "known", "nearest", "nearest_root", "rationals"]

Rational = Real | Fraction | Decimal | float
Rationals = Rational | Sequence[Rational] | NDArray[Any]
"""One number, or one a channel. A float stands for the number that it holds: 0.1 is not 1/10."""


def rationals(name: str, values: Rationals, channels: int) -> list[Fraction]:
    """Return one rational per channel; a single number serves all.

    Raises
    ------
    ValueError
        If a number is not finite, or there are more or fewer than channels.
    TypeError
        If one is no number.
    """
    listed = _listed(values, channels)
    if len(listed) != channels:
        msg = f"{name} must have one number per channel, {channels} in all, got {len(listed)}"
        raise ValueError(msg)
    return [_rational(name, value) for value in listed]


def known(name: str, values: Rationals | None, channels: int) -> list[Fraction | None]:
    """Return one rational per channel, None where it is NaN or None."""
    if values is None:
        return [None] * channels
    listed = _listed(values, channels)
    # Only NaN is not itself.
    there = [value is not None and value == value for value in listed]  # noqa: PLR0124
    numbers = [value if is_there else 0 for value, is_there in zip(listed, there, strict=True)]
    found = rationals(name, numbers, channels)
    return [number if is_there else None for number, is_there in zip(found, there, strict=True)]


def _listed(values: Any, channels: int) -> list[Any]:
    listed = values.tolist() if isinstance(values, np.ndarray) else values
    many = isinstance(listed, Sequence) and not isinstance(listed, str)
    return list(listed) if many else [listed] * channels


def _rational(name: str, value: Any) -> Fraction:
    if isinstance(value, np.generic):
        value = value.item()
    try:
        # Fractions can be made of text, but a list of texts is a mistake.
        return Fraction(None if isinstance(value, str) else value)  # type: ignore[arg-type]
    except TypeError:
        msg = f"{name} must be numbers (int, float, Fraction or Decimal), got {value!r}"
        raise TypeError(msg) from None
    except (OverflowError, ValueError):
        msg = f"{name} must be finite, got {value!r}"
        raise ValueError(msg) from None


def nearest(numerator: int, denominator: int) -> float:
    """Return the float64 nearest to ``numerator / denominator``; infinite beyond its range.

    Python's division of integers is correctly rounded, for denormal results too.

    Examples
    --------
    >>> nearest(2**53 + 1, 2**53)
    1.0
    >>> nearest(-(10**400), 1)
    -inf
    """
    try:
        return numerator / denominator
    except OverflowError:
        return inf if numerator > 0 else -inf


def nearest_root(numerator: int, denominator: int) -> float:
    r"""Return the float64 nearest to ``sqrt(numerator / denominator)``, neither below zero.

    With :math:`r = \lfloor\sqrt{\lfloor p\,4^k / q\rfloor}\rfloor` of at least 63 bits, its last
    bit set to 1 if anything was cut off (rounding to odd), rounding :math:`r / 2^k` to 53 bits or
    fewer is rounding the root itself: for at least two more bits stand behind the last one
    (Boldo & Melquiond 2008, "Emulation of FMA and correctly rounded sums: proved algorithms using
    rounding to odd", IEEE Transactions on Computers 57(4), theorem 3).

    Examples
    --------
    >>> nearest_root(2, 1)
    1.4142135623730951
    >>> nearest_root(1, 4**1074)
    5e-324
    """
    if numerator == 0:
        return 0.0
    k = (denominator.bit_length() - numerator.bit_length() + 128) // 2
    p, q = (numerator << 2 * k, denominator) if k > 0 else (numerator, denominator << -2 * k)
    square, cut_off = divmod(p, q)
    r = isqrt(square)
    if cut_off or r * r != square:
        r |= 1
    return nearest(r, 1 << k) if k > 0 else nearest(r << -k, 1)
