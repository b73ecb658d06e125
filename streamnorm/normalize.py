"""Normalize: the affine map that gives every channel mean 0 and standard deviation 1."""

import math
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from streamnorm.arrays import Array, as_array, type_name
from streamnorm.fields import Floats
from streamnorm.layout import ChannelAxis, kept_axes
from streamnorm.value import Value, checked_value

__all__ = [
    "Normalize",
    "ZeroVariance",
    "check_constants",
    "constants",
    "denormalized",
    "mean_and_scale",
    "normalized",
    "shaped",
    "unit_where_constant",
    "without_spread",
]

ZeroVariance = Literal["unit", "error"] | float


def normalized(x: Any, mean: Any, mean_rest: Any, std: Any, out: Any = None) -> Any:
    """Return ``(x - mean) / std``, the mean in two pieces so that none of its digits is lost.

    In float32 a mean of 1e4 alone is off by 5e-4: with std 1 that would be an error in the fourth
    digit of every result. The same source serves NumPy and torch. What is new memory is gone on
    with: memory for every step would take longer than the steps. NumPy may be given that memory.
    """
    y = x - mean if out is None else np.subtract(x, mean, out=out)
    y -= mean_rest
    y /= std
    return y


def denormalized(y: Any, mean: Any, mean_rest: Any, std: Any, out: Any = None) -> Any:
    """Undo `normalized`."""
    x = y * std if out is None else np.multiply(y, std, out=out)
    x += mean_rest
    x += mean
    return x


def constants(mean: Floats, std: Floats, dtype: Any) -> tuple[Array, Array, Array]:
    """Return mean, what is left of it, and std as arrays of a dtype; see `normalized`."""
    head = mean.astype(dtype)
    return head, (mean - head).astype(dtype), std.astype(dtype)


def mean_and_scale(
    moments: Value, ddof: float, zero_variance: ZeroVariance
) -> tuple[Floats, Floats]:
    """Decide what to subtract and what to divide by.

    Parameters
    ----------
    moments : Moments
        Of the training data.
    ddof : float
        See `Moments.variance`.
    zero_variance : {"unit", "error"} or float
        For constant channels: divide by 1, or raise. A number is a floor under every std.

    Returns
    -------
    mean, scale : numpy.ndarray
        float64, shape (C,).

    Raises
    ------
    ValueError
        If a std is undefined (too few values, or a non-finite value was seen), or a channel is
        constant under "error"; the message names the channels.
    """
    std = checked_value(moments).std(ddof)
    undefined = ~np.isfinite(std) | ~np.isfinite(moments.mean)
    if undefined.any():
        msg = (
            f"the std of channel(s) {_named(moments, undefined)} is undefined: they hold no more "
            f"than {ddof} value(s), or NaN or infinities, or spread beyond float64; measure with "
            f"nan_policy='omit', or drop the channels"
        )
        raise ValueError(msg)
    if isinstance(zero_variance, str):
        constant = without_spread(moments, std)
        if zero_variance == "error" and constant.any():
            msg = (
                f"channel(s) {_named(moments, constant)} are constant, so their std is 0; drop "
                f"them, or pass zero_variance='unit' to divide them by 1"
            )
            raise ValueError(msg)
        if zero_variance not in ("unit", "error"):
            msg = f"zero_variance must be 'unit', 'error' or a number, got {zero_variance!r}"
            raise ValueError(msg)
        return moments.mean, np.where(constant, 1.0, std)
    floor = float(zero_variance)
    if not (np.isfinite(floor) and floor > 0):
        msg = f"zero_variance as a floor for std must be a finite number above 0, got {floor}"
        raise ValueError(msg)
    return moments.mean, np.maximum(std, floor)


def without_spread(moments: Value, std: Floats) -> NDArray[np.bool_]:
    """Return which channels cannot be scaled; a std may round to 0 although the values differ."""
    return np.asarray(moments.constant | (std == 0))


def unit_where_constant(moments: Value) -> Floats:
    """Return what scikit-learn divides by: the std, 1 where it is none, NaN where nothing is."""
    std = moments.std()
    return np.where(without_spread(moments, std) & (moments.count > 0), 1.0, std)


def shaped(values: Any, shape: tuple[int, ...], channel_axis: ChannelAxis) -> Any:
    """Reshape one value per channel, (C,), to broadcast against an array of `shape`.

    Raises
    ------
    ValueError
        If the array has another number of channels on that axis.
    """
    ndim = len(shape)
    if type(channel_axis) is int and -ndim <= channel_axis < ndim:
        # Most often; modules ask at every step.
        axis = channel_axis % ndim
        if shape[axis] == len(values):
            return values.reshape(-1, *[1] * (ndim - 1 - axis))
    kept = kept_axes(ndim, channel_axis)
    sizes = tuple(shape[axis] for axis in kept)
    if math.prod(sizes) != len(values):
        msg = (
            f"expected {len(values)} channels on axis {channel_axis} but the array has {sizes} "
            f"there (shape {shape}); pass another channel_axis, or use the moments of this data"
        )
        raise ValueError(msg)
    # Kept axes come in the order asked for; in the array they stand in theirs.
    order = sorted(range(len(kept)), key=lambda i: kept[i])
    values = values.reshape(sizes)
    values = values.transpose(order) if isinstance(values, np.ndarray) else values.permute(order)
    return values.reshape([shape[a] if a in kept else 1 for a in range(ndim)])


def check_constants(mean: Floats, std: Floats) -> None:
    """Refuse what cannot be subtracted or divided by.

    Raises
    ------
    ValueError
        Unless both have one finite number per channel and every std is above 0.
    """
    if mean.ndim != 1 or mean.shape != std.shape:
        msg = (
            f"mean and std must have one number per channel, shape (C,), got {mean.shape} and "
            f"{std.shape}"
        )
        raise ValueError(msg)
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        msg = "mean must be finite and std finite and above 0; 1 leaves a constant channel as it is"
        raise ValueError(msg)


@dataclass(frozen=True, eq=False)
class Normalize:
    """``(x - mean) / std`` per channel, and its inverse.

    Parameters
    ----------
    mean, std : array-like of float, shape (C,)
        What is subtracted, and what is divided by (above 0); kept as float64.
    channel_axis : int, tuple of int or None
        Where the channels are in the arrays to come.

    Examples
    --------
    >>> import numpy as np, streamnorm as sn
    >>> x = np.array([[1.0, 10.0], [3.0, 30.0]], np.float32)
    >>> norm = sn.Normalize.from_moments(sn.measure(x))
    >>> norm(x).tolist()
    [[-1.0, -1.0], [1.0, 1.0]]
    >>> norm.inverse(norm(x)).tolist() == x.tolist()
    True
    """

    mean: Floats
    std: Floats
    channel_axis: ChannelAxis = 1

    @classmethod
    def from_moments(
        cls,
        moments: Value,
        *,
        ddof: float = 0,
        zero_variance: ZeroVariance = "unit",
        channel_axis: ChannelAxis = 1,
    ) -> Self:
        """Build the map from the moments of the training data; see `mean_and_scale`.

        Parameters
        ----------
        moments : Moments
            Of the training data.
        ddof : float
            Divides the variance by ``count - ddof``.
        zero_variance : {"unit", "error"} or float
            For constant channels: divide by 1, or raise. A number is a floor under every std.
        channel_axis : int, tuple of int or None
            Where the channels are in the arrays to come.

        Raises
        ------
        ValueError
            If a std is undefined, or a channel is constant under "error".
        """
        mean, std = mean_and_scale(moments, ddof, zero_variance)
        return cls(mean, std, channel_axis)

    @classmethod
    def from_batch_norm(cls, layer: Any, *, channel_axis: ChannelAxis = 1) -> Self:
        """Build the map that a trained BatchNorm layer applies in eval mode.

        Its weight and bias are left to the layers behind it. As statistics of data its buffers
        cannot be taken over: the running variance averages variances of batches.

        Parameters
        ----------
        layer : torch.nn.BatchNorm1d, BatchNorm2d or BatchNorm3d
            With running statistics.
        channel_axis : int, tuple of int or None
            Where the channels are in the arrays to come.

        Raises
        ------
        TypeError
            If it has no running statistics.

        Examples
        --------
        >>> from types import SimpleNamespace
        >>> import streamnorm as sn
        >>> layer = SimpleNamespace(running_mean=[0.5], running_var=[4.0], eps=0.0)
        >>> sn.Normalize.from_batch_norm(layer).std.tolist()
        [2.0]
        """
        if getattr(layer, "running_mean", None) is None or layer.running_var is None:
            msg = f"expected a BatchNorm layer with running statistics, got a {type_name(layer)}"
            raise TypeError(msg)
        mean, variance = (
            np.asarray(buffer.detach().cpu() if hasattr(buffer, "detach") else buffer, np.float64)
            for buffer in (layer.running_mean, layer.running_var)
        )
        return cls(mean, np.sqrt(variance + layer.eps), channel_axis)

    def __call__(self, x: Any) -> NDArray[np.floating[Any]]:
        """Normalize an array.

        Floats keep their dtype, integers give float32; the arithmetic is at least float32.

        Raises
        ------
        ValueError
            If `x` has another number of channels.
        """
        array, result = self._float(x)
        return np.asarray(normalized(array, *self._constants(array))).astype(result, copy=False)

    def inverse(self, y: Any) -> NDArray[np.floating[Any]]:
        """Undo the map: ``y * std + mean``, dtypes as in a call."""
        array, result = self._float(y)
        return np.asarray(denormalized(array, *self._constants(array))).astype(result, copy=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", np.atleast_1d(np.asarray(self.mean, np.float64)))
        object.__setattr__(self, "std", np.atleast_1d(np.asarray(self.std, np.float64)))
        check_constants(self.mean, self.std)

    def _float(self, x: Any) -> tuple[Array, np.dtype[Any]]:
        array, precision, _ = as_array(x)
        if precision.name == "bfloat16":
            msg = "bfloat16 arrays cannot be normalized in NumPy; use streamnorm.nn.Normalize"
            raise TypeError(msg)
        result = array.dtype if precision.is_float else np.dtype(np.float32)
        # 32- and 64-bit integers have more digits than float32: they are centred in float64.
        return array.astype(np.promote_types(array.dtype, np.float32), copy=False), result

    def _constants(self, array: Array) -> tuple[Array, Array, Array]:
        mean, std = (shaped(v, array.shape, self.channel_axis) for v in (self.mean, self.std))
        return constants(mean, std, array.dtype)


def _named(moments: Value, flags: NDArray[np.bool_]) -> str:
    found = [moments.channel_names[i] for i in np.flatnonzero(flags)]
    return ", ".join(found[:10]) + (", …" if len(found) > 10 else "")
