"""Records of exact sums -> answers, each rounded once to the nearest float64."""

import hashlib
from collections.abc import Callable, Sequence
from fractions import Fraction
from math import isfinite

import numpy as np

from streamnorm import limbs, partial
from streamnorm.fields import Bools, Floats, canonical
from streamnorm.limbs import COUNTS, Exact
from streamnorm.partial import Partial
from streamnorm.rationals import nearest

__all__ = [
    "DIGEST_VERSION",
    "affine",
    "constant",
    "digest",
    "extreme",
    "extremes_of",
    "integers_of",
    "m2",
    "mean",
    "odd_and_power",
    "spread",
    "sums_of",
    "unit_of",
]

DIGEST_VERSION = 1

# notation: n count of finite values, s their sum in units, q that of their squares in units squared


def unit_of(rows: Exact) -> int:
    """Return how many units of the sums are one."""
    return 1 << -limbs.grid_of(rows).exponent


def integers_of(rows: Exact) -> list[tuple[int, int, int]]:
    """Return of every channel n, s and q."""
    sums, squares = (limbs.as_integers(rows[name]) for name in ("sum", "squares"))
    return list(zip(limbs.finite(rows).tolist(), sums, squares, strict=True))


def sums_of(rows: Exact) -> list[tuple[int, Fraction, Fraction]]:
    """Return of every channel n, the sum, and that of squares, exactly."""
    unit = unit_of(rows)
    return [(n, Fraction(s, unit), Fraction(q, unit * unit)) for n, s, q in integers_of(rows)]


def mean(rows: Exact) -> Floats:
    """Return means; NaN if a NaN or both infinities were counted, else the infinity that was."""
    unit = unit_of(rows)
    means = [nearest(s, n * unit) if n else np.nan for n, s, _ in integers_of(rows)]
    # What rounds to zero from below is stored as 0.0 elsewhere too.
    return np.where(_all_finite(rows), means, _infinite_mean(rows)) + 0.0


def m2(rows: Exact) -> Floats:
    """Return sums of squared deviations from the mean; NaN where a value was not finite."""
    square = unit_of(rows) ** 2
    sums = [nearest(n * q - s * s, n * square) if n else 0.0 for n, s, q in integers_of(rows)]
    return np.where(_all_finite(rows), sums, np.nan)


def spread(rows: Exact, ddof: float, rounded: Callable[[int, int], float]) -> Floats:
    """Return variances, or what `rounded` gives for their numerators and denominators.

    The variance is :math:`(n q - s^2) / (n (n - d))` for a ddof of d.
    """
    if not isfinite(ddof):
        return np.full(rows.size, np.nan)
    d = Fraction(ddof.item() if isinstance(ddof, np.generic | np.ndarray) else ddof)
    square = unit_of(rows) ** 2
    spreads = []
    for n, s, q in integers_of(rows):
        degrees = n * d.denominator - d.numerator
        above = d.denominator * (n * q - s * s)
        spreads.append(rounded(above, n * degrees * square) if n and degrees > 0 else np.nan)
    return np.where(_all_finite(rows), spreads, np.nan)


def constant(rows: Exact) -> Bools:
    """Return whether all values of a channel are the same, and finite."""
    same = [n > 0 and n * q == s * s for n, s, q in integers_of(rows)]
    return np.array(same, np.bool_) & _all_finite(rows)


def extreme(rows: Exact, name: str) -> Floats:
    """Return minima or maxima of all that was counted; NaN with a NaN, or where unknown."""
    inner, outer = (-np.inf, np.inf) if name == "maximum" else (np.inf, -np.inf)
    counts = {np.inf: rows["positive_infinity"], -np.inf: rows["negative_infinity"]}
    some = limbs.finite(rows) > 0
    only_infinite = ~some & (counts[inner] > 0)
    finite = np.where(only_infinite, inner, rows[name])
    values = np.where(counts[outer] > 0, outer, finite)
    return np.where(rows["nan"] > 0, np.nan, values)


def extremes_of(rows: Exact, name: str) -> list[Fraction | None]:
    """Return the exact extremes of the finite values, None where unknown or without values."""
    pairs = zip(rows[name].tolist(), rows[f"{name}_rest"].tolist(), strict=True)
    return [None if np.isnan(value) else Fraction(value) + rest for value, rest in pairs]


def affine(rows: Exact, scale: Sequence[Fraction], shift: Sequence[Fraction]) -> Partial:
    """Return the moments of ``scale * x + shift``, every field rounded once.

    Raises
    ------
    OverflowError
        If the mean or an extreme of finite values would leave float64's range.
    """
    unit = unit_of(rows)
    out = partial.empty(rows.size)
    out["count"], out["omitted"] = rows["count"], rows["omitted"]
    lows, highs = (extremes_of(rows, name) for name in ("minimum", "maximum"))
    channels = zip(out, scale, shift, integers_of(rows), lows, highs, strict=True)
    for row, a, b, (n, s, q), low, high in channels:
        if n:
            row["mean"] = _nearest(a * Fraction(s, n * unit) + b)
            row["m2"] = _nearest(a * a * Fraction(n * q - s * s, n * unit * unit))
        ends = (low, high) if a > 0 else (high, low)
        for name, end in zip(("minimum", "maximum"), ends, strict=True):
            row[name] = np.nan if end is None else _nearest(a * end + b)
    if any(np.isinf(out[name]).any() for name in ("mean", "minimum", "maximum")):
        msg = f"scale {list(map(str, scale[:9]))} takes a mean or an extreme beyond float64"
        raise OverflowError(msg)
    _spoil(out, rows, np.array([1.0 if a > 0 else -1.0 for a in scale]))
    return canonical(out)


def _spoil(out: Partial, rows: Exact, sign: Floats) -> None:
    """Let NaN and infinities of `rows` do to the moments of the finite values what they do."""
    spoiled = ~_all_finite(rows)
    turned = sign < 0
    lowest, highest = extreme(rows, "minimum"), extreme(rows, "maximum")
    for name, ends in (("minimum", (lowest, highest)), ("maximum", (highest, lowest))):
        end = sign * np.where(turned, ends[1], ends[0])
        out[name] = np.where(np.isinf(end) | (rows["nan"] > 0), end, out[name])
    out["mean"] = np.where(spoiled, sign * _infinite_mean(rows), out["mean"])
    out["m2"] = np.where(spoiled, np.nan, out["m2"])


def digest(rows: Exact) -> str:
    """Return a SHA-256 of counts and sums, each sum as an odd integer and a power of two."""
    lines = [f"streamnorm exact moments, digest {DIGEST_VERSION}"]
    counts = zip(*(rows[name].tolist() for name in COUNTS), strict=True)
    for numbers, (_, *sums) in zip(counts, sums_of(rows), strict=True):
        powers = (f"{odd:x}*2^{exponent}" for odd, exponent in map(odd_and_power, sums))
        lines.append(" ".join((*map(str, numbers), *powers)))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def odd_and_power(number: Fraction) -> tuple[int, int]:
    """Return the odd integer and the exponent of two that make a sum; both 0 of zero."""
    if not number:
        return 0, 0
    zeros = (number.numerator & -number.numerator).bit_length() - 1
    return number.numerator >> zeros, zeros - (number.denominator.bit_length() - 1)


def _all_finite(rows: Exact) -> Bools:
    return np.asarray(limbs.finite(rows) == rows["count"])


def _infinite_mean(rows: Exact) -> Floats:
    up = np.where(rows["positive_infinity"] > 0, np.inf, 0.0)
    down = np.where(rows["negative_infinity"] > 0, -np.inf, 0.0)
    with np.errstate(invalid="ignore"):
        both = up + down
    return np.where(rows["nan"] > 0, np.nan, both)


def _nearest(number: Fraction) -> float:
    return nearest(number.numerator, number.denominator)
