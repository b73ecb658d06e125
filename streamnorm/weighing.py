"""One array and its weights -> one value."""

from typing import Any

import numpy as np

from streamnorm import weights
from streamnorm.arrays import Array, as_array, broadcast_mask, shape_of
from streamnorm.layout import ChannelAxis
from streamnorm.measure import NanPolicy, check_nan_policy, meta_of, refuse_nan
from streamnorm.weighted import WeightedMoments

__all__ = ["measure_weighted"]


def measure_weighted(
    batch: Any,
    *,
    aweights: Any = None,
    fweights: Any = None,
    channel_axis: ChannelAxis = 1,
    nan_policy: NanPolicy = "propagate",
    mask: Any = None,
) -> WeightedMoments:
    """Measure one array whose values do not all count the same.

    Corrected two-pass algorithm over pieces, merged pairwise [1]_. Parts of one data set are
    merged with ``+`` or `merge`, whatever their weights.

    Parameters
    ----------
    batch, channel_axis, nan_policy, mask
        As for `measure`.
    aweights : array-like of float, optional
        How much a value counts, at least 0: the area of a cell of a grid, one over the variance
        of a measurement. Of as many axes as the batch, and broadcast to it: ``w[:, None]`` for
        rows.
    fweights : array-like of int, optional
        How often a value was seen, at least 0, likewise.

    Returns
    -------
    WeightedMoments
        Values of weight 0 are counted as omitted. An empty batch gives empty channels: count 0,
        mean NaN.

    Raises
    ------
    TypeError
        If the batch or the weights hold no real numbers, or fweights no whole ones.
    ValueError
        If the weights do not fit, one is negative or not finite, or a NaN meets
        ``nan_policy="raise"``.
    OverflowError
        If the weights, or their squares, add up to more than float64 holds.

    References
    ----------
    .. [1] Chan, Golub & LeVeque (1983), The American Statistician 37(3), eq. 1.7 and 2.1.

    Examples
    --------
    The mean of a grid of latitudes and longitudes, each cell by its area:

    >>> import numpy as np, streamnorm as sn
    >>> temperature = np.array([[270.0, 272.0], [300.0, 302.0]])
    >>> area = np.cos(np.radians([[60.0], [0.0]]))
    >>> sn.measure_weighted(temperature, aweights=area, channel_axis=None).mean.round(9).tolist()
    [291.0]
    """
    check_nan_policy(nan_policy)
    array, precision, valid = as_array(batch)
    if precision.name == "bfloat16":
        msg = "bfloat16 cannot be weighed; convert the batch to float32 first"
        raise TypeError(msg)
    if mask is not None:
        given = broadcast_mask(mask, array.shape)
        valid = given if valid is None else valid & given
    a = None if aweights is None else _weights("aweights", aweights, array.shape)
    f = None if fweights is None else _weights("fweights", fweights, array.shape)
    rows, shape = weights.measure_array(array, channel_axis, a, f, valid, omit=nan_policy == "omit")
    if nan_policy == "raise":
        refuse_nan(rows, exact=False)
    return WeightedMoments.of_rows(rows, meta_of(shape))


def _weights(name: str, given: Any, shape: tuple[int, ...]) -> Array:
    """Return weights in the shape of the batch, of the same memory."""
    array, precision, _ = as_array(given)
    if name == "fweights" and (precision.is_float or precision.name == "bool"):
        msg = f"fweights say how often, so they must be whole numbers, got {precision.name}"
        raise TypeError(msg)
    if array.ndim not in (0, len(shape)):
        msg = (
            f"{name} of shape {array.shape} must have as many axes as the batch of shape {shape}: "
            f"add axes of size 1, for example {name}[:, None]"
        )
        raise ValueError(msg)
    if array.size and not (np.isfinite(array).all() and (array >= 0).all()):
        msg = f"{name} must be finite and at least 0, got {array.min()} to {array.max()}"
        raise ValueError(msg)
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        msg = f"{name} of shape {shape_of(given)} cannot be broadcast to the batch {shape}"
        raise ValueError(msg) from None
