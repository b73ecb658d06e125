"""What counts: masks that users give, and stored values that mean "nothing here"."""

import sys
from numbers import Real
from typing import Any

import numpy as np

from streamnorm.arrays import Array, as_array, broadcast_mask, pick, shape_of
from streamnorm.layout import ChannelAxis
from streamnorm.normalize import shaped
from streamnorm.sources.items import Packing, Reading
from streamnorm.tensors import on_device

__all__ = [
    "batch_mask",
    "both",
    "checked_mask",
    "checked_nodata",
    "mask_of",
    "unpacked",
    "where_not",
    "whole_mask",
]


def both(one: Any, other: Any) -> Any:
    """Return where two masks are True; None is one that is True everywhere."""
    if one is None or other is None:
        return other if one is None else one
    return one & other


def mask_of(given: Any, reading: Reading) -> Any:
    """Return the mask of what was read: called for, picked from its batch, or as it was given."""
    if given is None:
        return None
    batch = reading.array if reading.batch is None else reading.batch
    if not callable(given) and not isinstance(given, int | str):
        return given
    found = given(batch) if callable(given) else pick(batch, given)
    if len(shape_of(found)) == 1 < len(shape_of(reading.array)):
        # Of a square batch it would fit, and mask columns.
        msg = (
            f"a mask with one value a sample, of shape {shape_of(found)}, for a batch of shape "
            f"{shape_of(reading.array)}: give it as many axes, such as mask[:, None]"
        )
        raise ValueError(msg)
    return found


def checked_mask(given: Any) -> Any:
    """Return a mask, if it is none that is given as an array, or a boolean one.

    Raises
    ------
    TypeError
        If it is of another dtype.
    """
    if given is not None and not callable(given) and not isinstance(given, int | str):
        # What is on a device, or in a file, is not to be read for that.
        array = given if hasattr(given, "dtype") else np.asarray(given)
        dtype = str(array.dtype).removeprefix("torch.")
        if dtype != "bool":
            msg = f"mask must be boolean, True where a value counts, got dtype {dtype}"
            raise TypeError(msg)
    return given


def checked_nodata(given: Any) -> Any:
    """Return what means "nothing here", if it is "auto", None, a number, or a sequence of them.

    Raises
    ------
    TypeError
        If it is something else.
    """
    if given is None or isinstance(given, Real) or _are_numbers(given):
        return given
    if isinstance(given, str) and given == "auto":
        return given
    msg = f"nodata must be 'auto', None, a number, or one (or None) a channel; got {given!r}"
    raise TypeError(msg)


def _are_numbers(values: Any) -> bool:
    """Whether these are numbers in an order, which can be looked at more than once."""
    if isinstance(values, str | bytes) or not hasattr(values, "__getitem__"):
        return False
    return all(value is None or isinstance(value, Real) for value in values)


def batch_mask(given: Any) -> Any:
    """Return what is left to take from every batch, where arrays are sliced with their data."""
    return given if callable(given) or isinstance(given, int | str) else None


def whole_mask(given: Any, shape: tuple[int, ...]) -> Array | None:
    """Return a mask that was given as an array, in the shape of the whole that it is for.

    Raises
    ------
    TypeError, ValueError
        If it is not boolean, or does not fit.
    """
    if given is None or callable(given) or isinstance(given, int | str):
        return None
    return broadcast_mask(given, shape)


def where_not(array: Any, nodata: Any, axis: ChannelAxis) -> Any:
    """Return where an array is not the value that means "nothing here", in the array's own dtype.

    Parameters
    ----------
    array : array-like
        As it is stored.
    nodata : float, or sequence of float or None
        For all channels, or one for each; None where a channel has none.
    axis : int, tuple of int or None
        Where the channels are.

    Raises
    ------
    TypeError
        If the array is bfloat16, which has no such values.
    ValueError
        If there is not one for each channel.
    """
    if "bfloat16" in str(getattr(array, "dtype", "")):
        msg = "nodata= cannot be compared with bfloat16; pass a mask="
        raise TypeError(msg)
    stored = array if on_device(array) else as_array(array)[0]
    if isinstance(nodata, Real):
        there = _stored(nodata, stored)
        return None if there is None else _differs(stored, there)
    each = [None if value is None else _stored(value, stored) for value in nodata]
    try:
        asked = shaped(np.array([value is not None for value in each]), shape_of(array), axis)
    except ValueError:
        msg = (
            f"nodata= has {len(each)} values, but an array of shape {shape_of(array)} with the "
            f"channel axis {axis} has another number of channels; pass one for each, or a number"
        )
        raise ValueError(msg) from None
    if not asked.any():
        return None
    dtype = _dtype_of(stored)
    values = np.array([0 if value is None else value for value in each], dtype)
    differs = stored != _like(shaped(values, shape_of(array), axis), stored)
    if np.isnan(values).any():
        nan = _like(shaped(np.isnan(values), shape_of(array), axis), stored)
        differs &= ~nan | (stored == stored)  # noqa: PLR0124 - NaN
    return differs | _like(~asked, stored)


def unpacked(stored: Any, packing: Packing) -> Any:
    """Return what packed numbers stand for, in float64."""
    scale, offset = packing
    return np.asarray(stored, np.float64) * scale + offset


def _stored(value: Any, array: Any) -> Any:
    """Return a number as an array of this dtype holds it; None if it cannot."""
    dtype = _dtype_of(array)
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return dtype.type(value)
    if not float(value).is_integer():
        return None
    info = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return dtype.type(int(value)) if info[0] <= value <= info[1] else None


def _differs(array: Any, value: Any) -> Any:
    return array == array if value != value else array != value.item()  # noqa: PLR0124 - NaN


def _dtype_of(array: Any) -> np.dtype[Any]:
    return np.dtype(str(array.dtype).removeprefix("torch."))


def _like(values: Any, array: Any) -> Any:
    """Return values as a tensor beside a tensor, of their own dtype."""
    if not on_device(array):
        return values
    return array.new_tensor(values, dtype=getattr(sys.modules["torch"], values.dtype.name))
