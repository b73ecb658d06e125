"""The partial result of weighted data: its fields, their merge, and how one array is measured."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamnorm.arrays import Array
from streamnorm.layout import ChannelAxis, kept_axes, pieces_of
from streamnorm.partial import Partial, mean_formula, pair_formula

__all__ = ["WEIGHTED", "Weighted", "empty", "measure_array", "merge", "merge_tree", "of_partial"]

WEIGHTED = np.dtype(
    [
        ("count", np.int64),
        ("weight", np.float64),
        ("weight_squared", np.float64),
        ("mean", np.float64),
        ("m2", np.float64),
        ("minimum", np.float64),
        ("maximum", np.float64),
        ("omitted", np.int64),
    ]
)
"""One channel's sufficient statistics of weighted values; a partial result has shape ``(C,)``."""

Weighted = NDArray[np.void]

_merge_means = mean_formula(np.where)
_merge_pair = pair_formula(np.where, _merge_means)


def empty(shape: int | tuple[int, ...]) -> Weighted:
    """Return identities of the merge."""
    rows = np.zeros(shape, WEIGHTED)
    for field in ("mean", "minimum", "maximum"):
        rows[field] = np.nan
    return rows


def of_partial(rows: Partial, weight: float | None) -> Weighted:
    """Give all values of each channel together one weight; None: their number."""
    out = empty(rows.shape)
    for name in ("count", "mean", "minimum", "maximum", "omitted"):
        out[name] = rows[name]
    counts = rows["count"].astype(np.float64)
    with np.errstate(all="ignore"):
        each = np.where(counts > 0, (counts if weight is None else weight) / counts, 0.0)
    out["weight"] = counts if weight is None else np.where(counts > 0, weight, 0.0)
    out["weight_squared"] = out["weight"] * each
    out["m2"] = rows["m2"] * each
    return out


def merge(a: Weighted, b: Weighted) -> Weighted:
    """Merge two partial results of the same shape, by the formula of counts with weights in it.

    Chan, Golub & LeVeque (1983), eq. 2.1, holds for weights as it does for counts (West 1979,
    "Updating mean and variance estimates: an improved method", Comm. ACM 22(9)).
    """
    out = np.empty(np.broadcast_shapes(a.shape, b.shape), WEIGHTED)
    with np.errstate(all="ignore"):
        names = ("count", "mean", "m2", "minimum", "maximum", "omitted")
        fields = _merge_pair(*(side[name] for side in (a, b) for name in names))
        for name, values in zip(names, fields, strict=True):
            out[name] = values
        means = (side[name] for side in (a, b) for name in ("weight", "mean", "m2"))
        out["mean"], out["m2"] = _merge_means(*means)
        for name in ("weight", "weight_squared"):
            out[name] = a[name] + b[name]
    _check(out)
    return out


def merge_tree(parts: Weighted) -> Weighted:
    """Merge the rows of `parts`, shape (P, C) with P >= 1, in a balanced tree in their order."""
    while len(parts) > 1:
        paired = len(parts) // 2 * 2
        merged = merge(parts[0:paired:2], parts[1:paired:2])
        parts = np.concatenate([merged, parts[paired:]])
    result: Weighted = parts[0]
    return result


def measure_array(
    array: Array,
    channel_axis: ChannelAxis,
    aweights: Array | None,
    fweights: Array | None,
    valid: Array | None,
    *,
    omit: bool,
) -> tuple[Weighted, tuple[int, ...]]:
    """Measure an array of real numbers.

    Parameters
    ----------
    array : array
    channel_axis : int, tuple of int or None
    aweights, fweights : array of its shape, or None
        How much a value counts, and how often it was seen; checked.
    valid : array of bool of its shape, or None
        Which values count at all.
    omit : bool
        Leave NaN out.

    Returns
    -------
    array of WEIGHTED, shape (C,)
        As a kernel's: see `streamnorm.kernels.reference`. Values of no weight are omitted.
    tuple of int
        Sizes of the kept axes.
    """
    kept = kept_axes(array.ndim, channel_axis)
    others = tuple(axis for axis in range(array.ndim) if axis not in kept)
    channel_shape = tuple(array.shape[axis] for axis in kept)
    channels = math.prod(channel_shape)
    order = (*others, *kept)
    given = [
        None if part is None else part.transpose(order)
        for part in (array, aweights, fweights, valid)
    ]
    arranged = tuple(array.shape[axis] for axis in order)
    rows: list[Weighted] = []
    for piece in pieces_of(arranged, len(others), len(kept)) if array.size else ():
        x, a, f, v = (None if part is None else part[piece].reshape(-1, channels) for part in given)
        rows.append(_measured(x, a, f, v, omit=omit))
    whole = merge_tree(np.stack(rows)) if rows else empty(channels)
    _check(whole)
    return whole, channel_shape


def _measured(x: Any, aweights: Any, fweights: Any, valid: Any, *, omit: bool) -> Weighted:
    """Measure a block, shape (M, C), by the corrected two-pass algorithm.

    Chan, Golub & LeVeque (1983), eq. 1.7, with weights. Values are divided by a power of two
    where their squares would leave float64, and less the first one: that of a constant is exact.
    """
    # notation: f how often, w = f * a the weight of all of them, d deviations
    f = np.ones(x.shape, np.int64) if fweights is None else fweights
    a = np.ones(x.shape) if aweights is None else aweights
    keep = (f > 0) & (a > 0)
    keep &= True if valid is None else valid
    x = x.astype(np.float64)
    keep &= (x == x) if omit else True
    finite = np.isfinite(x)
    some = keep & finite
    w = np.where(some, f * a, 0.0)
    out = empty(x.shape[1])
    out["count"] = np.where(keep, f, 0).sum(0)
    out["omitted"] = np.where(keep, 0, np.maximum(f, 1)).sum(0)
    with np.errstate(all="ignore"):
        out["weight"] = np.where(keep, f * a, 0.0).sum(0)
        out["weight_squared"] = np.where(keep, f * a * a, 0.0).sum(0)
        largest = np.abs(x[some]).max(initial=0)
        scale = 2.0 ** (600 * (int(largest > 2.0**500) - int(largest < 2.0**-500)))
        first = np.take_along_axis(x, some.argmax(0)[None], 0)[0] / scale
        d = np.where(some, x / scale - first, 0.0)
        weight = w.sum(0)
        mean = first + (w * d).sum(0) / weight
        d = np.where(some, x / scale - mean, 0.0)
        m2 = (w * d * d).sum(0) - (w * d).sum(0) ** 2 / weight
        low = np.where(keep, x, np.inf).min(0, initial=np.inf)
        high = np.where(keep, x, -np.inf).max(0, initial=-np.inf)
        there = keep.any(0)
        out["minimum"] = np.where(there, low + 0.0, np.nan)
        out["maximum"] = np.where(there, high + 0.0, np.nan)
        mean = np.minimum(np.maximum(mean * scale, low), high)
        out["mean"] = np.where(there, mean + 0.0, np.nan)
        out["m2"] = np.where(there, np.maximum(m2, 0.0) * scale * scale, 0.0)
        undefined = (keep & ~finite).any(0)
        out["mean"][undefined] = np.where(keep & ~finite, x, 0.0).sum(0)[undefined]
        out["m2"][undefined] = np.nan
    return out


def _check(rows: Weighted) -> None:
    if (rows["count"] < 0).any() or (rows["omitted"] < 0).any():
        msg = "a count would exceed 2**63 - 1, the most that int64 holds"
        raise OverflowError(msg)
    if not (np.isfinite(rows["weight"]).all() and np.isfinite(rows["weight_squared"]).all()):
        msg = "the weights, or their squares, add up to more than float64 holds; scale them down"
        raise OverflowError(msg)
