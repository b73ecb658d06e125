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
    f = 1 if fweights is None else fweights
    a = 1.0 if aweights is None else aweights
    w = np.broadcast_to(np.asarray(f * a, np.float64), x.shape)
    keep = w > 0
    keep &= True if valid is None else valid
    keep &= (x == x) if omit else True
    finite = np.isfinite(x)
    some = keep & finite
    base = np.take_along_axis(x, some.argmax(0)[None], 0)[0]
    out = empty(x.shape[1])
    out["count"] = (keep * f).sum(0)
    out["omitted"] = (~keep * np.maximum(f, 1)).sum(0)
    with np.errstate(all="ignore"):
        counted = w * keep
        out["weight"] = counted.sum(0)
        out["weight_squared"] = (counted * a).sum(0)
        # What does not count has weight 0, and must be a number.
        w = counted if finite.all() else w * some
        d, scale = _deviations(x if some.all() else np.where(some, x, base), base)
        weight = w.sum(0)
        from_base = (w * d).sum(0) / weight
        mean = base / scale + from_base
        d = d - from_base
        wd = w * d
        m2 = (wd * d).sum(0) - wd.sum(0) ** 2 / weight
        x = x.astype(np.float64)
        low = x.min(0, initial=np.inf, where=keep)
        high = x.max(0, initial=-np.inf, where=keep)
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


def _deviations(x: Any, base: Any) -> tuple[Any, Any]:
    """Return values less the first one of their channel, and by what they were divided before.

    Integers of 64 bits are subtracted as such, in two halves; floats where their squares would
    leave float64 are divided by a power of two first.
    """
    if x.dtype.kind in "iu" and x.dtype.itemsize == 8:
        half, mask = x.dtype.type(32), x.dtype.type(0xFFFFFFFF)
        high, low = _differ(x >> half, base >> half), _differ(x & mask, base & mask)
        return high * 2.0**32 + low, 1.0
    x, base = x.astype(np.float64), base.astype(np.float64)
    largest = np.abs(x).max(0, initial=0)
    scale = 2.0 ** (600.0 * ((largest > 2.0**500) * 1.0 - (largest < 2.0**-500)))
    return x / scale - base / scale, scale


def _differ(one: Any, other: Any) -> Any:
    return one.astype(np.float64) - other.astype(np.float64)


def _check(rows: Weighted) -> None:
    if (rows["count"] < 0).any() or (rows["omitted"] < 0).any():
        msg = "a count would exceed 2**63 - 1, the most that int64 holds"
        raise OverflowError(msg)
    if not (np.isfinite(rows["weight"]).all() and np.isfinite(rows["weight_squared"]).all()):
        msg = "the weights, or their squares, add up to more than float64 holds; scale them down"
        raise OverflowError(msg)
    if ((rows["weight"] > 0) & (rows["weight_squared"] == 0)).any():
        msg = "the squares of the weights are less than float64 holds; scale them up"
        raise OverflowError(msg)
