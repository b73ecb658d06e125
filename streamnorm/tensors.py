"""torch tensors that do not lie in the memory of the host: which they are, and what may be read."""

import sys
from functools import lru_cache
from typing import Any

from streamnorm.dtypes import Precision, precision_of

__all__ = ["check_dense", "check_mask", "on_device", "precision_of_tensor"]


def on_device(batch: Any) -> bool:
    """Whether `batch` is a tensor that NumPy cannot see; without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(batch, torch.Tensor) and _elsewhere(batch.device)


def _elsewhere(device: Any) -> bool:
    return bool(device.type != "cpu")


def check_dense(tensor: Any) -> None:
    """Refuse tensors whose numbers do not lie in memory one by one.

    Raises
    ------
    TypeError
        For sparse, quantized and meta tensors; the message says what to pass instead.
    """
    torch = sys.modules["torch"]
    if tensor.layout != torch.strided or tensor.is_quantized:
        msg = (
            f"expected a dense tensor but got layout {tensor.layout}"
            f"{', quantized' if tensor.is_quantized else ''}; pass tensor.to_dense() or "
            f"tensor.dequantize()"
        )
        raise TypeError(msg)
    if tensor.is_meta:
        msg = (
            f"a tensor of shape {tuple(tensor.shape)} on the meta device holds no numbers; pass "
            f"one on the CPU or another device"
        )
        raise TypeError(msg)


def precision_of_tensor(tensor: Any) -> Precision:
    """Decide how the values of a tensor are summed.

    Raises
    ------
    TypeError
        For complex and other dtypes that hold no real numbers.
    """
    return _precision(tensor.dtype)


@lru_cache
def _precision(dtype: Any) -> Precision:
    return precision_of(str(dtype).removeprefix("torch."))


def check_mask(mask: Any, tensor: Any) -> Any:
    """Return `mask` broadcast to the shape of a tensor on a device.

    Raises
    ------
    TypeError
        If it is no boolean tensor on the same device.
    ValueError
        If the shapes do not fit.
    """
    torch = sys.modules["torch"]
    is_tensor = isinstance(mask, torch.Tensor)
    if not is_tensor or mask.device != tensor.device:
        what = f"on {mask.device}" if is_tensor else f"a {type(mask).__name__}"
        msg = (
            f"the batch is on {tensor.device} but the mask is {what}; pass both as tensors on "
            f"one device"
        )
        raise TypeError(msg)
    if mask.dtype != torch.bool:
        msg = f"mask must be boolean, True where a value counts, got dtype {mask.dtype}"
        raise TypeError(msg)
    try:
        return mask.broadcast_to(tensor.shape)
    except RuntimeError:
        msg = (
            f"mask of shape {tuple(mask.shape)} cannot be broadcast to the batch of shape "
            f"{tuple(tensor.shape)}; add axes of size 1 to it, for example mask[:, None]"
        )
        raise ValueError(msg) from None
