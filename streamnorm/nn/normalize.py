"""Normalization as the first line of a network's forward."""

from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from streamnorm.layout import ChannelAxis
from streamnorm.normalize import (
    ZeroVariance,
    check_constants,
    denormalized,
    mean_and_scale,
    normalized,
    shaped,
)
from streamnorm.value import Value

__all__ = ["Normalize"]

_WIDE_INTEGERS = (torch.int32, torch.int64, torch.uint32, torch.uint64)


class Normalize(nn.Module):
    """``(x - mean) / std`` per channel, as a module without parameters.

    Mean and std are float64 buffers: they move with the module and are saved in its
    ``state_dict``, but ``.half()``, ``.bfloat16()`` and ``.to(dtype)`` leave their precision alone
    (bfloat16 would keep 8 bits of a mean).

    Parameters
    ----------
    mean, std : array-like of float, shape (C,)
        What is subtracted, and what is divided by.
    channel_axis : int, tuple of int or None
        Where the channels are in the tensors to come.

    Examples
    --------
    >>> import torch, streamnorm as sn
    >>> from streamnorm.nn import Normalize
    >>> images = torch.arange(96, dtype=torch.uint8).reshape(2, 3, 4, 4)
    >>> norm = Normalize.from_moments(sn.measure(images))
    >>> network = torch.nn.Sequential(norm, torch.nn.Flatten(), torch.nn.Linear(48, 10))
    >>> network(images).shape
    torch.Size([2, 10])
    >>> round(norm(images).std(correction=0).item(), 4)
    1.0
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Any, std: Any, channel_axis: ChannelAxis = 1) -> None:
        super().__init__()
        self.channel_axis = channel_axis
        constants = [np.array(values, np.float64, ndmin=1) for values in (mean, std)]
        check_constants(*constants)
        self.register_buffer("mean", torch.from_numpy(constants[0]))
        self.register_buffer("std", torch.from_numpy(constants[1]))

    @classmethod
    def from_moments(
        cls,
        moments: Value,
        *,
        ddof: float = 0,
        zero_variance: ZeroVariance = "unit",
        channel_axis: ChannelAxis = 1,
    ) -> Self:
        """Build the module from the moments of the training data.

        Parameters
        ----------
        moments, ddof, zero_variance, channel_axis
            As for `streamnorm.Normalize.from_moments`.

        Raises
        ------
        ValueError
            If a std is undefined, or a channel is constant under "error".
        """
        mean, scale = mean_and_scale(moments, ddof, zero_variance)
        return cls(mean, scale, channel_axis)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize a tensor.

        Floats keep their dtype, integers give float32; the arithmetic is at least float32.

        Raises
        ------
        ValueError
            If `x` has another number of channels.
        """
        return self._mapped(x, normalized)

    def inverse(self, y: Tensor) -> Tensor:
        """Undo the map: ``y * std + mean``, dtypes as in `forward`."""
        return self._mapped(y, denormalized)

    def _mapped(self, x: Tensor, formula: Callable[..., Any]) -> Tensor:
        if x.is_complex():
            msg = f"expected real numbers but got a tensor of {x.dtype}; pass x.real or x.abs()"
            raise TypeError(msg)
        result = x.dtype if x.is_floating_point() else torch.float32
        # 32- and 64-bit integers have more digits than float32: they are centred in float64.
        wide = x.dtype in _WIDE_INTEGERS
        work = torch.float64 if wide else torch.promote_types(result, torch.float32)
        mean, std = (shaped(v, tuple(x.shape), self.channel_axis) for v in (self.mean, self.std))
        head = mean.to(work)
        mapped: Tensor = formula(x.to(work), head, (mean - head).to(work), std.to(work))
        return mapped.to(result)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        held = {name: getattr(self, name) for name in ("mean", "std")}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, before in held.items():
            after = getattr(self, name)
            if after.dtype != torch.float64:
                setattr(self, name, before.to(after.device))
        return self

    def extra_repr(self) -> str:
        """Say how many channels, and where."""
        return f"{self.mean.numel()} channels, channel_axis={self.channel_axis}"
