"""Anything that holds numbers -> a NumPy array of the same memory, never a copy of the whole."""

import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamnorm.dtypes import Precision, precision_of
from streamnorm.tensors import check_dense, on_device, precision_of_tensor

__all__ = [
    "Array",
    "as_array",
    "broadcast_mask",
    "holds_numbers",
    "name_of",
    "pick",
    "shape_of",
    "sliceable",
    "type_name",
]

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
    check_dense(tensor)
    if tensor.device.type != "cpu":
        msg = f"expected a CPU tensor but got one on {tensor.device}; pass tensor.cpu()"
        raise TypeError(msg)
    tensor = tensor.detach().resolve_neg()
    precision = precision_of_tensor(tensor)
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.view(torch.uint16)
    return tensor.numpy(), precision, None


def sliceable(array: Any) -> Any:
    """Return a tensor as it is and anything else as a NumPy array, so that it can be cut in pieces.

    Raises
    ------
    TypeError
        If it holds no real numbers, one by one.
    """
    if on_device(array):
        check_dense(array)
        precision_of_tensor(array)
        return array
    as_array(array)
    torch = sys.modules.get("torch")
    tensor = torch is not None and isinstance(array, torch.Tensor)
    return array if tensor else _from_any(array)


def holds_numbers(value: Any) -> bool:
    """Whether it is an array of numbers, or a list of them, of one axis at least."""
    try:
        return len(shape_of(sliceable(value))) > 0
    except TypeError:
        return False


def broadcast_mask(mask: Any, shape: tuple[int, ...]) -> Array:
    """Return a mask as a boolean array of this shape, of the same memory.

    Raises
    ------
    TypeError
        If it is not boolean.
    ValueError
        If the shapes do not fit.
    """
    given, _, _ = as_array(mask)
    if given.dtype != np.bool_:
        msg = f"mask must be boolean, True where a value counts, got dtype {given.dtype}"
        raise TypeError(msg)
    try:
        return np.broadcast_to(given, shape)
    except ValueError:
        msg = (
            f"mask of shape {given.shape} cannot be broadcast to the batch of shape {shape}; "
            f"add axes of size 1 to it, for example mask[:, None]"
        )
        raise ValueError(msg) from None


def pick(batch: Any, select: Any) -> Any:
    """Take the array out of what a loader yields.

    The first item of a tuple or list of arrays, or what `select` says: an index, a key, or a
    callable.

    Raises
    ------
    ValueError
        If `batch` is a dict and `select` is None, or `select` is not in it.
    """
    if callable(select):
        return select(batch)
    if isinstance(batch, Mapping):
        if select is None or select not in batch:
            none = "" if select is None else f", there is no {select!r}"
            msg = f"the batches are dicts with keys {list(batch)}{none}; pass select= one of them"
            raise ValueError(msg)
        return batch[select]
    if isinstance(batch, tuple | list) and batch and hasattr(batch[0], "shape"):
        if isinstance(select, str):
            msg = f"the batches are tuples, which have no {select!r}; pass a position as select="
            raise ValueError(msg)
        return batch[select or 0]
    if select is not None:
        msg = f"select={select!r} does not apply to batches of type {type(batch).__name__}"
        raise ValueError(msg)
    return batch


def shape_of(batch: Any) -> tuple[int, ...]:
    """Return the shape of anything array-like."""
    shape = getattr(batch, "shape", None)
    return tuple(np.shape(batch)) if shape is None else tuple(int(size) for size in shape)


def type_name(value: Any) -> str:
    """Name the type of `value` for an error message, with its package where it is not built in."""
    kind = type(value)
    package = kind.__module__.partition(".")[0]
    return kind.__qualname__ if package == "builtins" else f"{package}.{kind.__qualname__}"


def name_of(given: Callable[..., Any]) -> str:
    """Name a callable for provenance, by its module and qualified name, or as it describes itself.

    What stands at an address is described in another way the next time.
    """
    named: Any = given if hasattr(given, "__qualname__") else type(given)
    if named is not given and any("__repr__" in vars(kind) for kind in named.__mro__[:-1]):
        text = " ".join(repr(given).split())
        if " at 0x" not in text and len(text) <= 200:
            return text
    return f"{named.__module__}.{named.__qualname__}"
