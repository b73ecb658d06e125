"""The affine map on tensors: in which dtypes, and with which pieces of its constants."""

from collections.abc import Callable

import torch
from torch import Tensor

from streamnorm.arrays import type_name

__all__ = ["apply", "constants", "dtypes_of"]

_WIDE_INTEGERS = (torch.int32, torch.int64, torch.uint32, torch.uint64)


def dtypes_of(x: Tensor) -> tuple[torch.dtype, torch.dtype]:
    """Return in which dtype to compute, and which to give.

    Raises
    ------
    TypeError
        If `x` is no tensor, or complex, sparse or quantized.
    """
    if not isinstance(x, Tensor):
        msg = f"expected a torch tensor but got a {type_name(x)}; pass torch.as_tensor(x)"
        raise TypeError(msg)
    # First what most are: modules ask at every step.
    if x.layout == torch.strided and x.is_floating_point():
        return torch.float64 if x.dtype == torch.float64 else torch.float32, x.dtype
    if x.layout != torch.strided or x.is_quantized:
        what = "a quantized" if x.is_quantized else f"layout {x.layout} of a"
        msg = f"expected a dense tensor but got {what} tensor; pass x.to_dense() or x.dequantize()"
        raise TypeError(msg)
    if x.is_complex():
        msg = f"expected real numbers but got a tensor of {x.dtype}; pass x.real or x.abs()"
        raise TypeError(msg)
    # 32- and 64-bit integers have more digits than float32: they are centred in float64, where
    # that exists.
    wide = x.dtype in _WIDE_INTEGERS and x.device.type != "mps"
    return torch.float64 if wide else torch.float32, torch.float32


def constants(
    mean: Tensor, std: Tensor, work: torch.dtype, device: torch.device
) -> tuple[Tensor, ...]:
    """Return the mean, what is left of it, and the std, in a dtype and on a device."""
    head = mean.to(work)
    found = (head, (mean - head).to(work), std.to(work))
    return found if mean.device == device else tuple(v.to(device) for v in found)


def apply(
    formula: Callable[..., Tensor],
    x: Tensor,
    values: tuple[Tensor, ...],
    work: torch.dtype,
    result: torch.dtype,
) -> Tensor:
    """Compute the map; autocast has no say in it."""
    y = formula(x if x.dtype is work else x.to(work), *values)
    return y if result is work else y.to(result)
