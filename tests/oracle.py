"""What the answer is: exact rational arithmetic over the very bits that were measured."""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

# Every float64 is a whole multiple of 2**-1074, so sums of them are sums of integers.
UNIT = 1074
TINY = 2.0**-1074


@dataclass(frozen=True)
class Exact:
    """Exact moments of finite values."""

    count: int
    mean: Fraction
    variance: Fraction
    largest: float

    @property
    def condition(self) -> float:
        """κ = sqrt(1 + mean² / variance): how much a variance suffers from rounding of the data."""
        if self.variance == 0:
            return math.inf
        ratio = self.mean**2 / self.variance
        return math.sqrt(1 + ratio) if ratio < 2**1000 else 2.0**500


def exact(values) -> Exact:
    """Return the exact moments of a flat sequence of finite numbers."""
    numbers = np.asarray(values).ravel().tolist()
    scaled = [_scaled(x) for x in numbers]
    n, total, squares = len(scaled), sum(scaled), sum(x * x for x in scaled)
    mean = Fraction(total, n << UNIT)
    variance = Fraction(n * squares - total * total, (n * n) << (2 * UNIT))
    return Exact(n, mean, variance, max(abs(float(x)) for x in numbers))


def _scaled(x) -> int:
    numerator, denominator = x.as_integer_ratio()
    return (numerator << UNIT) // denominator


def mean_error(got: float, truth: Exact) -> float:
    """Return the error of a mean, in units of the bound 3.2e-15 max|x|."""
    allowed = Fraction(3.2e-15) * Fraction(truth.largest) + Fraction(TINY)
    return float(abs(Fraction(got) - truth.mean) / allowed)


def variance_error(got: float, truth: Exact) -> float:
    """Return the error of a variance, in units of the bound: relative 1e-13 + 2e-15 κ.

    A variance that float64 cannot hold must be infinite; one so small that its squares are
    denormal is allowed the rounding of denormals.
    """
    if truth.variance == 0:
        return 0.0 if got == 0 else math.inf
    if math.isinf(got):
        # The sum of squares overflows before the variance does.
        return 0.0 if truth.variance * truth.count > Fraction(2) ** 1023 else math.inf
    allowed = truth.variance * Fraction(1e-13 + 2e-15 * truth.condition) + 4 * Fraction(TINY)
    return float(abs(Fraction(got) - truth.variance) / allowed)


def assert_accurate(moments, columns) -> None:
    """Assert that every channel of `moments` is within the bound of its column of finite values."""
    assert moments.channels == len(columns)
    for c, values in enumerate(columns):
        column = np.asarray(values).ravel()
        assert moments.count[c] == column.size
        if column.size == 0:
            assert np.isnan(moments.mean[c])
            continue
        truth = exact(column)
        assert mean_error(float(moments.mean[c]), truth) <= 1
        assert variance_error(float(moments.variance()[c]), truth) <= 1
        assert moments.minimum[c] == float(column.min())
        assert moments.maximum[c] == float(column.max())
