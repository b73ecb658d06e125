"""One array -> one value: the only place where arrays become moments."""

from collections.abc import Callable
from functools import cache
from typing import Any, Literal, NamedTuple, get_args, overload

import numpy as np

from streamnorm import limbs
from streamnorm import threads as _threads
from streamnorm.arrays import as_array, broadcast_mask
from streamnorm.exact import ExactMoments
from streamnorm.fields import channels_where
from streamnorm.layout import ChannelAxis, Layout
from streamnorm.limbs import Exact
from streamnorm.meta import NO_META, Meta
from streamnorm.moments import Moments
from streamnorm.partial import Partial
from streamnorm.pending import Pending, rows_of
from streamnorm.tensors import check_dense, check_mask, on_device, precision_of_tensor

__all__ = [
    "Measured",
    "NanPolicy",
    "check_nan_policy",
    "measure",
    "measure_partial",
    "meta_of",
    "refuse_nan",
]

NanPolicy = Literal["propagate", "omit", "raise"]


@overload
def measure(
    batch: Any,
    *,
    channel_axis: ChannelAxis = 1,
    exact: Literal[False] = False,
    nan_policy: NanPolicy = "propagate",
    mask: Any = None,
    threads: int | None = None,
) -> Moments: ...
@overload
def measure(
    batch: Any,
    *,
    channel_axis: ChannelAxis = 1,
    exact: Literal[True],
    nan_policy: NanPolicy = "propagate",
    mask: Any = None,
    threads: int | None = None,
) -> ExactMoments: ...
@overload
def measure(
    batch: Any,
    *,
    channel_axis: ChannelAxis = 1,
    exact: bool = False,
    nan_policy: NanPolicy = "propagate",
    mask: Any = None,
    threads: int | None = None,
) -> Moments | ExactMoments: ...
def measure(
    batch: Any,
    *,
    channel_axis: ChannelAxis = 1,
    exact: bool = False,
    nan_policy: NanPolicy = "propagate",
    mask: Any = None,
    threads: int | None = None,
) -> Moments | ExactMoments:
    """Measure one array.

    One pass over the memory, in stages around the mean so far, merged pairwise [1]_.
    The array is neither written nor copied whole.

    Parameters
    ----------
    batch : array-like
        NumPy array of any strides and byte order, torch tensor, anything with ``__array__`` or
        DLPack. bool, integers of 8 to 64 bits, float16, bfloat16, float32, float64. Masked entries
        of a NumPy masked array are not counted. A tensor on a GPU is measured there; only the
        result comes to the host. A device without float64 (MPS) is read by the host.
    channel_axis : int, tuple of int or None
        The axis that is kept. A tuple keeps several, flattened in C order; None pools everything
        into one channel.
    exact : bool
        Add up in integers, to `ExactMoments`: the same bits however the data are split, and every
        reader correctly rounded.
    nan_policy : {"propagate", "omit", "raise"}
        NaN makes its channel's mean, variance and extremes NaN; or is left out and counted in
        `Moments.omitted`; or is refused.
    mask : array-like of bool, optional
        True where a value counts; broadcast to the batch, on whose device it must lie. The others
        are counted as omitted.
    threads : int, optional
        Default: STREAMNORM_THREADS, else the CPUs of the affinity mask. The bits do not depend on
        it.

    Returns
    -------
    Moments or ExactMoments
        One channel for each index of the kept axes. An empty batch gives empty channels: count 0,
        mean NaN. An infinity makes the mean infinite and the variance NaN.

    Raises
    ------
    TypeError
        If `batch` does not hold real numbers, or `mask` is not boolean.
    ValueError
        If the axis does not exist, the mask does not fit, or a NaN meets ``nan_policy="raise"``.

    References
    ----------
    .. [1] Chan, Golub & LeVeque (1983), The American Statistician 37(3), eq. 1.7 and 2.1.

    Examples
    --------
    >>> import numpy as np, streamnorm as sn
    >>> images = np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4)
    >>> sn.measure(images)
    Moments(C=3, n=32, mean=[31.5 47.5 63.5], std=[24.44 24.44 24.44])
    >>> sn.measure([[1.0, float("nan")], [3.0, 4.0]], nan_policy="omit").mean.tolist()
    [2.0, 4.0]
    >>> whole, half = (sn.measure(x, exact=True) for x in (images, images[:1]))
    >>> sn.measure(images[1:], exact=True).digest() == (whole - half).digest()
    True
    """
    check_nan_policy(nan_policy)
    workers = _threads.resolve(threads)
    done = measure_partial(batch, channel_axis, nan_policy, mask, workers, exact)
    meta = meta_of(done.channel_shape)
    rows = rows_of(done.rows)
    if exact:
        return ExactMoments.of_rows(rows, meta)
    # A value is kept, perhaps one of millions: not with the memory of its array's boxes.
    return Moments.of_rows(rows if rows.base is None else rows.copy(), meta)


class Measured(NamedTuple):
    """A partial result, shape (C,), with what is known of the array behind it, if it had values.

    That of a tensor on a device is pending: whoever looks at it waits for the device.
    """

    rows: Partial | Exact | Pending
    channel_shape: tuple[int, ...]
    dtype: str
    some: bool


def measure_partial(
    batch: Any,
    channel_axis: ChannelAxis,
    nan_policy: NanPolicy,
    mask: Any,
    workers: int,
    exact: bool,
) -> Measured:
    """Measure one array to a partial result, for those who merge many."""
    if on_device(batch):
        return _measure_on_device(batch, channel_axis, nan_policy, mask, exact)
    array, precision, valid = as_array(batch)
    layout = Layout.of(array, channel_axis)
    if mask is not None:
        given = broadcast_mask(mask, array.shape)
        valid = given if valid is None else valid & given
    omit = nan_policy == "omit"
    if exact:
        rows = _exact_kernel()(array, layout, precision, valid, workers)
        if omit:
            limbs.omit_nan(rows)
    else:
        rows = _kernel()(array, layout, precision, valid, omit, workers)
    if nan_policy == "raise":
        refuse_nan(rows, exact=exact)
    return Measured(rows, layout.channel_shape, precision.name, array.size > 0)


def _measure_on_device(
    tensor: Any, channel_axis: ChannelAxis, nan_policy: NanPolicy, mask: Any, exact: bool
) -> Measured:
    """Start the measuring of a tensor where it lies; wait for it only if NaN are refused."""
    check_dense(tensor)
    precision = precision_of_tensor(tensor)
    valid = None if mask is None else check_mask(mask, tensor)
    omit = nan_policy == "omit"
    rows, layout = _device_kernel()(tensor, channel_axis, precision, valid, exact=exact, omit=omit)
    if nan_policy == "raise":
        rows = rows_of(rows)
        refuse_nan(rows, exact=exact)
    return Measured(rows, layout.channel_shape, precision.name, tensor.numel() > 0)


@cache
def _kernel() -> Callable[..., Partial]:
    # Numba takes a fifth of a second to import: whoever only merges or shows never pays.
    from streamnorm.kernels.cpu import measure_array

    return measure_array


@cache
def _exact_kernel() -> Callable[..., Exact]:
    from streamnorm.kernels.exact_cpu import measure_array_exactly

    return measure_array_exactly


@cache
def _device_kernel() -> Callable[..., tuple[Pending | Partial | Exact, Layout]]:
    from streamnorm.kernels.device import measure_tensor

    return measure_tensor


def meta_of(channel_shape: tuple[int, ...]) -> Meta:
    """Return what the layout adds to a value: the shape of several kept axes."""
    return NO_META if len(channel_shape) == 1 else Meta(channel_shape=channel_shape or (1,))


def check_nan_policy(nan_policy: str) -> None:
    """Refuse a word that is no policy.

    Raises
    ------
    ValueError
        With the words that are.
    """
    if nan_policy not in get_args(NanPolicy):
        msg = f"nan_policy must be one of {', '.join(get_args(NanPolicy))}; got {nan_policy!r}"
        raise ValueError(msg)


def refuse_nan(rows: Partial | Exact, *, exact: bool) -> None:
    """Refuse what was measured of data with NaN.

    Raises
    ------
    ValueError
        Naming the channels.
    """
    # A measured channel's extremes are NaN only where a NaN was seen.
    nan = rows["nan"] > 0 if exact else (rows["count"] > 0) & np.isnan(rows["minimum"])
    if nan.any():
        msg = (
            f"NaN in channel(s) {channels_where(nan)} under nan_policy='raise'; clean the data, or "
            f"pass nan_policy='omit' to leave NaN out and count them"
        )
        raise ValueError(msg)
