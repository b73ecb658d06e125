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


def exact_sums(values) -> tuple[int, Fraction, Fraction]:
    """Return how many values are finite, their sum, and that of their squares."""
    numbers = [x for x in np.asarray(values).ravel().tolist() if math.isfinite(x)]
    scaled = [_scaled(x) for x in numbers]
    return (
        len(scaled),
        Fraction(sum(scaled), 1 << UNIT),
        Fraction(sum(x * x for x in scaled), 1 << 2 * UNIT),
    )


def nearest(number: Fraction) -> float:
    """Return the nearest float64, half to even, by comparing with its neighbours only."""
    try:
        guess = float(number)
    except OverflowError:
        guess = math.copysign(math.inf, 1 if number > 0 else -1)
    candidates = [guess, math.nextafter(guess, math.inf), math.nextafter(guess, -math.inf)]
    # An infinity stands for 2**1024 here, whose last bit is 0.
    places = {
        x: Fraction(2**1024) * (1 if x > 0 else -1) if math.isinf(x) else Fraction(x)
        for x in candidates
    }
    return min(candidates, key=lambda x: (abs(places[x] - number), _last_bit(x)))


def _last_bit(x: float) -> int:
    return 0 if math.isinf(x) else int(np.float64(x).view(np.int64)) & 1


def nearest_root(number: Fraction) -> float:
    """Return the float64 nearest to the root, by comparing squares with its neighbours."""
    if number == 0:
        return 0.0
    low, high = 0.0, 1.7976931348623157e308
    bits = [int(np.float64(x).view(np.int64)) for x in (low, high)]
    while bits[1] - bits[0] > 1:
        middle = sum(bits) // 2
        value = Fraction(float(np.int64(middle).view(np.float64)))
        bits[value * value > number] = middle
    low, high = (Fraction(float(np.int64(b).view(np.float64))) for b in bits)
    half = (low + high) / 2
    if half * half == number:
        return float(low if bits[0] % 2 == 0 else high)
    return float(low if half * half > number else high)


def _scaled(x) -> int:
    numerator, denominator = x.as_integer_ratio()
    return (numerator << UNIT) // denominator


def mean_error(got: float, truth: Exact) -> float:
    """Return the error of a mean, in units of the bound 3.2e-15 max|x|.

    Among denormals every part and every merge is rounded to a whole one: 1.3 were seen.
    """
    allowed = Fraction(3.2e-15) * Fraction(truth.largest) + 2 * Fraction(TINY)
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
