"""Anything that holds numbers -> a NumPy array of the same memory, never a copy of the whole."""

import sys
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamnorm.dtypes import Precision, precision_of

__all__ = ["Array", "as_array", "shape_of", "sliceable", "type_name"]

Array = NDArray[Any]


def as_array(batch: Any) -> tuple[Array, Precision, Array | None]:
    """View `batch` as a NumPy array.

    Parameters
    ----------
    batch : array-like
        A NumPy array of any strides and byte order, a torch CPU tensor, anything with
        ``__array__`` or DLPack, or nested sequences of numbers.

    Returns
    -------
    array : numpy.ndarray
        The same memory. bfloat16 comes as its uint16 bit patterns.
    precision : Precision
        What the numbers are and how they are to be summed.
    valid : numpy.ndarray or None
        For a masked array, where it is not masked.

    Raises
    ------
    TypeError
        If `batch` holds no real numbers, or lies on a device that NumPy cannot read.
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(batch, torch.Tensor):
        return _from_tensor(batch, torch)
    array = _from_any(batch)
    valid = None
    if isinstance(batch, np.ma.MaskedArray):
        valid = ~np.ma.getmaskarray(batch)
        array = batch.data
    precision = _precision(array.dtype)
    return (array.view(np.uint16) if precision.name == "bfloat16" else array), precision, valid


@lru_cache
def _precision(dtype: np.dtype[Any]) -> Precision:
    # Remembered: NumPy builds a dtype's name anew each time, for 3 µs.
    return precision_of(dtype.name)


def _from_any(batch: Any) -> Array:
    if isinstance(batch, np.ndarray):
        return batch
    if hasattr(batch, "__dlpack__") and not hasattr(batch, "__array__"):
        return np.from_dlpack(batch)
    try:
        return np.asarray(batch)
    except ValueError as error:
        msg = f"expected an array of numbers but got a {type_name(batch)} that is ragged: {error}"
        raise TypeError(msg) from error


def _from_tensor(tensor: Any, torch: Any) -> tuple[Array, Precision, None]:
    try:
        array = tensor.numpy()
    except (RuntimeError, TypeError):
        return _from_special(tensor, torch)
    return array, _precision(array.dtype), None


def _from_special(tensor: Any, torch: Any) -> tuple[Array, Precision, None]:
    """View a tensor that torch does not give to NumPy at once, or say why it cannot be."""
    if tensor.layout != torch.strided or tensor.is_quantized:
        msg = (
            f"expected a dense tensor but got layout {tensor.layout}"
            f"{', quantized' if tensor.is_quantized else ''}; pass tensor.to_dense() or "
            f"tensor.dequantize()"
        )
        raise TypeError(msg)
    if tensor.device.type != "cpu":
        msg = f"expected a CPU tensor but got one on {tensor.device}; pass tensor.cpu()"
        raise TypeError(msg)
    tensor = tensor.detach().resolve_neg()
    precision = precision_of(str(tensor.dtype).removeprefix("torch."))
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.view(torch.uint16)
    return tensor.numpy(), precision, None


def sliceable(array: Any) -> Any:
    """Return a tensor as it is and anything else as a NumPy array, so that it can be cut in pieces.

    Raises
    ------
    TypeError
        As for `as_array`.
    """
    as_array(array)
    torch = sys.modules.get("torch")
    tensor = torch is not None and isinstance(array, torch.Tensor)
    return array if tensor else _from_any(array)


def shape_of(batch: Any) -> tuple[int, ...]:
    """Return the shape of anything array-like."""
    shape = getattr(batch, "shape", None)
    return tuple(np.shape(batch)) if shape is None else tuple(int(size) for size in shape)


def type_name(value: Any) -> str:
    """Name the type of `value` for an error message, with its package where it is not built in."""
    kind = type(value)
    package = kind.__module__.partition(".")[0]
    return kind.__qualname__ if package == "builtins" else f"{package}.{kind.__qualname__}"
