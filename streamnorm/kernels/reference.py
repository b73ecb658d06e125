"""The specification of every kernel, in NumPy: slow, short, and what the others are tested by."""

import numpy as np
from numpy.typing import NDArray

from streamnorm import partial
from streamnorm.arrays import Array
from streamnorm.partial import Partial

__all__ = ["measure_block"]


def measure_block(block: Array, valid: NDArray[np.bool_] | None, omit: bool) -> Partial:
    """Measure one block.

    Parameters
    ----------
    block : array, shape (O, C, I)
        Real numbers of any dtype.
    valid : array of bool, shape (O, C, I), or None
        Which values to count; None for all.
    omit : bool
        Leave NaN out and count them as omitted; otherwise NaN spreads.

    Returns
    -------
    array of PARTIAL, shape (C,)
        Per channel: ``count`` of values, non-finite ones included; ``mean``, NaN if a NaN or both
        infinities are among them, else the infinity that is; ``m2``, NaN if any value is not
        finite; ``minimum`` and ``maximum``, NaN if a NaN is among them; ``omitted``. A channel
        without values is empty. Integers are centred in integers first.
    """
    keep = np.ones(block.shape, bool) if valid is None else valid
    if omit:
        keep = keep & (block == block)
    out = partial.empty(block.shape[1])
    for c, row in enumerate(out):
        values = block[:, c][keep[:, c]]
        row["omitted"] = block[:, c].size - values.size
        if values.size:
            row["count"] = values.size
            row["mean"], row["m2"] = _mean_m2(values)
            row["minimum"] = values.min() + 0.0
            row["maximum"] = values.max() + 0.0
    return out


def _mean_m2(values: Array) -> tuple[float, float]:
    """Corrected two-pass (Chan, Golub & LeVeque 1983, eq. 1.7)."""
    if values.dtype.kind in "biu":
        center = int(values[0])
        deviations = np.array([int(v) - center for v in values.ravel()], np.float64)
        mean, m2 = _mean_m2(deviations)
        return center + mean, m2
    with np.errstate(all="ignore"):
        x = values.astype(np.float64)
        if not np.isfinite(x).all():
            return (np.nan if np.isnan(x).any() else float(x.min() + x.max())), np.nan
        # A power of two changes no digit and keeps sums and squares in range.
        scale = 2.0 ** (600 if np.abs(x).max() > 2.0**500 else 0)
        x = x / scale
        mean = x.sum() / x.size
        d = x - mean
        m2 = np.square(d).sum() - d.sum() ** 2 / x.size
        mean = float(np.clip(mean + d.sum() / x.size, x.min(), x.max()))
        return mean * scale, 0.0 if x.min() == x.max() else float(max(m2, 0.0) * scale * scale)
