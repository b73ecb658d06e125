"""The problem bank: hard cases with exact answers, their condition, and where others fail.

Each case is finite data; the exact answer is computed from its bits. `tags` are from `TAGS`.
`LEDGER` names the cases that a rejected method is known to fail, with the cause.
"""

from dataclasses import dataclass

import numpy as np

TAGS = {"cancellation", "overflow", "underflow", "constant", "order", "images", "integers"}


@dataclass(frozen=True)
class Problem:
    name: str
    tags: frozenset
    values: object

    def column(self):
        return np.asarray(self.values())[:, None]


def _problem(name, tags, values):
    return Problem(name, frozenset(tags.split()), values)


def _rng():
    return np.random.default_rng(42)


PROBLEMS = (
    _problem("wikipedia", "cancellation", lambda: 1e9 + np.array([4.0, 7.0, 13.0, 16.0])),
    _problem("1e8 + N(0,1)", "cancellation", lambda: 1e8 + _rng().normal(size=3000)),
    _problem(
        "long stream", "cancellation order", lambda: np.sort(1e4 + _rng().normal(size=200_000))
    ),
    _problem("1e15 + N(0,1)", "cancellation", lambda: 1e15 + _rng().normal(size=3000)),
    _problem(
        "float32 300 + N(0,1)", "cancellation", lambda: _rng().normal(300, 1, 5000).astype("f4")
    ),
    _problem("lerobot 10000..10002", "cancellation", lambda: np.array([10000, 10001, 10002], "f4")),
    _problem("sorted ramp", "order", lambda: np.arange(1e6, 1e6 + 5000)),
    _problem("two far groups", "order", lambda: np.r_[np.zeros(3000), np.full(3000, 1e12)] + 0.1),
    _problem("one outlier last", "order", lambda: np.r_[np.ones(4097), 1e15]),
    _problem("one outlier first", "order", lambda: np.r_[1e15, np.ones(4097)]),
    _problem("constant 0.1", "constant", lambda: np.full(10_001, 0.1)),
    _problem("nearly constant", "constant cancellation", lambda: np.r_[np.ones(6), 1 + 1e-14]),
    _problem("near overflow", "overflow", lambda: np.array([1.7e308, -1.7e308, 1.6e308])),
    _problem("squares overflow", "overflow", lambda: 1e200 * _rng().normal(size=200)),
    _problem("denormal", "underflow", lambda: 5e-324 * _rng().integers(0, 9, 500)),
    _problem("squares underflow", "underflow", lambda: 1e-170 * _rng().normal(size=200)),
    _problem(
        "uint8 image", "images integers", lambda: _rng().integers(0, 256, 20_000).astype("u1")
    ),
    _problem("all 255", "images integers constant", lambda: np.full(70_000, 255, "u1")),
    _problem("int16 extremes", "integers", lambda: np.array([-32768, 32767] * 9000, "i2")),
    _problem(
        "almost constant int16",
        "integers cancellation",
        lambda: np.r_[np.full(9999, 32767), 32766].astype("i2"),
    ),
    _problem("int64 beyond 2**53", "integers cancellation", lambda: 2**62 + np.arange(100)),
    _problem("uint64 top", "integers", lambda: np.array([0, 2**64 - 1] * 50, "u8")),
)


def textbook(x):
    """E[x²] − E[x]², in the data's own float type; gives mean and variance."""
    x = x.astype(x.dtype if x.dtype.kind == "f" else "f8")
    with np.errstate(all="ignore"):
        mean = x.mean(dtype=x.dtype)
        return float(mean), float((x * x).mean(dtype=x.dtype) - mean**2)


def chain(x):
    """Welford's update, one value after the other."""
    mean = m2 = 0.0
    for n, v in enumerate(x.astype("f8").tolist(), 1):
        delta = v - mean
        mean += delta / n
        m2 += delta * (v - mean)
    return mean, m2 / len(x)


def float32(x):
    """Two passes, everything in float32."""
    x = x.astype("f4")
    with np.errstate(all="ignore"):
        mean = x.mean(dtype="f4")
        return float(mean), float(np.square(x - mean).mean(dtype="f4"))


LEDGER = {
    textbook: {
        "wikipedia": "mean² and mean of squares share all digits",
        "1e8 + N(0,1)": "the same, with 1e16 against 1",
        "lerobot 10000..10002": "the same in float32: gives 0",
        "squares overflow": "inf - inf",
    },
    chain: {
        "long stream": "200,000 roundings of the mean add up: 3 and 5 times the bound",
        "near overflow": "the difference of two values overflows, then inf - inf",
    },
    float32: {
        "1e8 + N(0,1)": "the values round to multiples of 8",
        "two far groups": "rounding at 1e12 is coarser than the bound",
    },
}
