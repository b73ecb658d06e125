"""The laws of a value, as functions that any implementation can be given to.

A `Kit` says how one implementation measures; the laws then hold for what it gives.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import streamnorm as sn
from streamnorm import partial
from streamnorm.kernels import reference
from streamnorm.layout import Layout
from streamnorm.moments import Moments


@dataclass(frozen=True)
class Kit:
    """One kernel behind one way to measure."""

    name: str
    measure: Callable[..., Any]


def _measure_by_reference(array, *, channel_axis=1, nan_policy="propagate", mask=None):
    array = np.asarray(array)
    layout = Layout.of(array, channel_axis)
    arranged = layout.arrange(array)
    block = layout.flatten(np.ascontiguousarray(arranged))
    valid = None if mask is None else np.broadcast_to(mask, array.shape)
    if valid is not None:
        valid = layout.flatten(np.ascontiguousarray(layout.arrange(valid)))
    if block.size == 0:
        return Moments.of_rows(partial.empty(layout.channels))
    return Moments.of_rows(reference.measure_block(block, valid, nan_policy == "omit"))


def _measure_seen_once(array, **options):
    """Weights that change nothing: what holds for moments holds for weighted ones."""
    return sn.measure_weighted(array, fweights=1, **options)


KITS = (
    Kit("numba", sn.measure),
    Kit("reference", _measure_by_reference),
    Kit("weighted", _measure_seen_once),
)


def identity(value) -> None:
    """Empty changes nothing, on either side, in no bit."""
    nothing = type(value).empty(value.channels)
    assert nothing + value == value
    assert value + nothing == value


def commutes(a, b) -> None:
    """The order of two makes no difference, in no bit."""
    assert a + b == b + a


def agree(a, b, largest: float, kappa: float = 1e16) -> None:
    """Two ways to the same data agree: discrete fields exactly, others within twice the bound."""
    assert np.array_equal(a.count, b.count)
    assert np.array_equal(a.omitted, b.omitted)
    assert np.array_equal(a.minimum, b.minimum, equal_nan=True)
    assert np.array_equal(a.maximum, b.maximum, equal_nan=True)
    np.testing.assert_allclose(a.mean, b.mean, rtol=0, atol=6.4e-15 * largest + 1e-323)
    spread = np.fmax(np.abs(a.minimum), np.abs(a.maximum))
    with np.errstate(all="ignore"):
        conditions = np.sqrt(1 + (spread / a.std()) ** 2)
        allowed = (2e-13 + 4e-15 * np.fmin(conditions, kappa)) * a.variance() + 1e-322
        differ = np.abs(a.variance() - b.variance())
    same = (a.variance() == b.variance()) | np.isnan(a.variance()) & np.isnan(b.variance())
    # The sum of squares may overflow on one way and just not on the other.
    near_top = (np.isinf(a.variance()) | np.isinf(b.variance())) & (spread > 1e150)
    assert (same | near_top | (differ <= allowed)).all()
