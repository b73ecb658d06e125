"""Fields of moments that come from outside: their types, shapes and what no data could have."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from operator import index
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamnorm.labels import labels_of
from streamnorm.meta import Meta
from streamnorm.partial import MAX_COUNT, Partial

__all__ = [
    "MAX_COUNT",
    "Bools",
    "Counts",
    "Floats",
    "canonical",
    "channels_where",
    "check",
    "checked_meta",
    "checked_names",
    "filled",
    "floats",
    "integers",
    "sized",
]

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Bools = NDArray[np.bool_]


def integers(name: str, values: ArrayLike) -> Counts:
    """Return counts, int64, shape (C,); the message of an error names the field."""
    array = np.atleast_1d(np.asarray(values))
    if array.ndim != 1 or array.dtype.kind not in "iu":
        msg = f"{name} must be integers of shape (C,), got {array.dtype} of shape {array.shape}"
        raise ValueError(msg)
    if array.size and (int(array.max()) > MAX_COUNT or int(array.min()) < 0):
        msg = f"{name} must lie between 0 and 2**63 - 1, got {array.tolist()}"
        raise ValueError(msg)
    return array.astype(np.int64)


def floats(name: str, values: ArrayLike, channels: int) -> Floats:
    """Return numbers, float64, shape (C,); a scalar serves all channels."""
    array = np.asarray(values, np.float64)
    return sized(name, np.broadcast_to(array, channels) if array.ndim == 0 else array, channels)


def sized(name: str, array: NDArray[Any], channels: int) -> NDArray[Any]:
    """Return `array` if it has one number per channel."""
    if array.shape != (channels,):
        msg = f"{name} must have one number per channel, shape ({channels},), got {array.shape}"
        raise ValueError(msg)
    return array


def filled(
    empty: Callable[[int], NDArray[Any]],
    count: ArrayLike,
    given: Mapping[str, ArrayLike | None],
    omitted: ArrayLike | None,
) -> NDArray[Any]:
    """Return records, empty ones of as many channels, with the fields that were given."""
    counts = integers("count", count)
    rows = empty(counts.size)
    rows["count"] = counts
    for name, values in given.items():
        if values is not None:
            rows[name] = floats(name, values, counts.size)
    if omitted is not None:
        rows["omitted"] = sized("omitted", integers("omitted", omitted), counts.size)
    return rows


def canonical(rows: Partial) -> Partial:
    """Give empty channels their one form, and zeros a plus sign."""
    nothing = rows["count"] == 0
    for name in ("mean", "minimum", "maximum"):
        rows[name] = np.where(nothing, np.nan, rows[name] + 0.0)
    rows["m2"] = np.where(nothing, 0.0, rows["m2"] + 0.0)
    return rows


def check(rows: Partial) -> None:
    """Refuse fields that no data could have."""
    count, mean, m2 = rows["count"], rows["mean"], rows["m2"]
    low, high = rows["minimum"], rows["maximum"]
    some = count > 0
    undefined = some & np.isnan(m2)
    wrong = {
        "m2 is negative": some & (m2 < 0),
        "mean is not finite although m2 is": some & ~np.isfinite(mean) & ~undefined,
        "m2 is NaN although mean is finite": undefined & np.isfinite(mean),
        "m2 is not 0 although count is 0": ~some & (m2 != 0),
        "extremes differ although count is 1": (count == 1) & (low < high),
        "m2 is not 0 although count is 1": (count == 1) & (m2 != 0) & ~undefined,
        "an extreme is infinite although m2 is not NaN": some & _infinite(low, high) & ~undefined,
        "minimum is above the mean": some & (low > mean),
        "maximum is below the mean": some & (high < mean),
        "minimum is above the maximum": some & (low > high),
    }
    for what, channels in wrong.items():
        if channels.any():
            msg = f"these are no moments of any data: {what}, channel(s) {channels_where(channels)}"
            raise ValueError(msg)


def _infinite(low: Floats, high: Floats) -> NDArray[np.bool_]:
    return np.isinf(low) | np.isinf(high)


def channels_where(flags: Bools) -> str:
    """Name the channels of which something is true, for a message."""
    found = np.flatnonzero(flags).tolist()
    return ", ".join(map(str, found[:10])) + (", …" if len(found) > 10 else "")


def checked_names(given: Any, channels: int, of: str = "") -> tuple[str, ...]:
    """Return names of so many channels as a tuple; `of` says of what, in messages.

    Raises
    ------
    ValueError
        If they are none, or not one for each channel.
    """
    # Callers who check no types pass a word, or a number.
    word = isinstance(given, str) or not isinstance(given, Iterable)
    names = () if word else tuple(given)
    if word or not all(isinstance(name, str) for name in names):
        msg = f"channel names must be a sequence of strings, got {given!r}"
        raise ValueError(msg)
    if len(names) != channels:
        msg = f"expected {channels} channel names{of}, one per channel, got {len(names)}"
        raise ValueError(msg)
    return names


def checked_meta(meta: Meta, channels: int) -> Meta:
    """Return `meta`, its names, shape and labels as tuples, if they are for so many channels."""
    names, shape = meta.names, meta.channel_shape
    if names is not None:
        names = checked_names(names, channels)
    if shape is not None:
        shape = tuple(index(size) for size in shape)
        if min(shape, default=0) < 0 or math.prod(shape) != channels:
            msg = f"channel_shape {shape} does not hold {channels} channels"
            raise ValueError(msg)
    return replace(meta, names=names, channel_shape=shape, labels=labels_of(meta.labels))
