"""Normalization as the first line of a network's forward."""

import os
from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from streamnorm.layout import ChannelAxis
from streamnorm.nn.buffers import KeepsFloat64
from streamnorm.nn.folding import folded
from streamnorm.nn.mapping import apply, constants, dtypes_of
from streamnorm.normalize import Normalize as HostNormalize
from streamnorm.normalize import (
    ZeroVariance,
    check_constants,
    denormalized,
    mean_and_scale,
    normalized,
    shaped,
)
from streamnorm.state import load
from streamnorm.value import Value

__all__ = ["Normalize"]


class Normalize(KeepsFloat64):
    """``(x - mean) / std`` per channel, as a module without parameters.

    Mean and std are float64 buffers: they move with the module and are saved in its
    ``state_dict``, but ``.half()``, ``.bfloat16()`` and ``.to(dtype)`` leave their precision alone
    (bfloat16 would keep 8 bits of a mean). The arithmetic is at least float32, under autocast too.
    Integers give float32, so a network in half precision takes ``x.half()``.
    On a device without float64 (MPS) they stay on the host and are sent along rounded.

    Parameters
    ----------
    mean, std : array-like of float, shape (C,)
        What is subtracted, and what is divided by.
    channel_axis : int, tuple of int or None
        Where the channels are in the tensors to come. -3 serves images with and without a batch.
    scale : float
        How many times larger the inputs are than what `mean` and `std` are of: 255 for bytes, where
        they are of values from 0 to 1.

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
    >>> Normalize([0.5], [0.25], scale=255)(torch.tensor([[0], [255]], dtype=torch.uint8)).tolist()
    [[-2.0], [2.0]]
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, mean: Any, std: Any, channel_axis: ChannelAxis = 1, *, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.channel_axis = channel_axis
        if not (np.isfinite(scale) and scale > 0):
            msg = f"scale must be a finite number above 0, got {scale}"
            raise ValueError(msg)
        given = [np.array(values, np.float64, ndmin=1) * scale for values in (mean, std)]
        check_constants(*given)
        for name, values in zip(("mean", "std"), given, strict=True):
            self.keep(name, torch.from_numpy(values))

    @classmethod
    def from_moments(
        cls,
        moments: Value,
        *,
        ddof: float = 0,
        zero_variance: ZeroVariance = "unit",
        channel_axis: ChannelAxis = 1,
        scale: float = 1.0,
    ) -> Self:
        """Build the module from the moments of the training data.

        Parameters
        ----------
        moments, ddof, zero_variance, channel_axis
            As for `streamnorm.Normalize.from_moments`.
        scale : float
            As for `Normalize`.

        Raises
        ------
        ValueError
            If a std is undefined, or a channel is constant under "error".
        """
        mean, std = mean_and_scale(moments, ddof, zero_variance)
        return cls(mean, std, channel_axis, scale=scale)

    @classmethod
    def from_file(
        cls, path: str | os.PathLike[str], *, select: str | None = None, **options: Any
    ) -> Self:
        """Build the module from a state file.

        Parameters
        ----------
        path : path-like
        select : str, optional
            Which array, where the file holds several.
        **options
            As for `from_moments`.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        StateFileError
            If it is damaged or not a state file.
        ValueError
            If it holds several arrays and none of them is selected.
        """
        held = load(path)
        if isinstance(held, Mapping):
            if select not in held:
                msg = f"{path} holds the arrays {list(held)}; pass select= one of them"
                raise ValueError(msg)
            held = held[select]
        return cls.from_moments(held, **options)

    @classmethod
    def from_batch_norm(cls, layer: Any, *, channel_axis: ChannelAxis = 1) -> Self:
        """Build the module that a trained BatchNorm layer is in eval mode, but its weight and bias.

        See `streamnorm.Normalize.from_batch_norm`.
        """
        norm = HostNormalize.from_batch_norm(layer, channel_axis=channel_axis)
        return cls(norm.mean, norm.std, channel_axis)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize a tensor.

        Floats keep their dtype, integers give float32; the arithmetic is at least float32.

        Raises
        ------
        ValueError
            If `x` has another number of channels.
        TypeError
            If `x` is complex.
        """
        return self._mapped(x, normalized)

    def inverse(self, y: Tensor) -> Tensor:
        """Undo the map: ``y * std + mean``, dtypes as in `forward`."""
        return self._mapped(y, denormalized)

    def fold_into(self, layer: nn.Module, *, strict: bool = False, tol: float = 1e-3) -> nn.Module:
        r"""Return one module that does what this and then `layer` do, for inputs of its dtype.

        A convolution or linear layer of weights :math:`w` and bias :math:`b` becomes one of
        :math:`w_c / \sigma_c` and :math:`b - \sum w_c \mu_c / \sigma_c`, computed in float64. The
        layer given stays as it is.

        Parameters
        ----------
        layer : Conv1d, Conv2d, Conv3d or Linear
            The first layer behind this; with as many input channels. For a Linear layer inputs
            are (…, C): with ``channel_axis=1`` only (N, C).
        strict : bool
            Refuse a convolution that pads with zeros. Those are the means of what it then reads,
            so by default the result is a `Sequential` that pads with the means first.
        tol : float
            The largest relative error to accept: the input itself, in the layer's dtype, is known
            to its epsilon times ``sqrt(1 + mean**2 / std**2)`` only.

        Raises
        ------
        ValueError
            If the error could exceed `tol`, the channels do not fit, or zeros are padded under
            `strict`.
        TypeError
            If it is another layer, or one with hooks, a forward of its own or computed weights.

        Examples
        --------
        >>> import torch
        >>> from streamnorm.nn import Normalize
        >>> norm, layer = Normalize([2.0], [4.0]), torch.nn.Conv2d(1, 8, 3)
        >>> folded, x = norm.fold_into(layer), torch.randn(1, 1, 9, 9)
        >>> torch.allclose(folded(x), layer(norm(x)), atol=1e-6)
        True
        """
        mean, std = self.kept("mean"), self.kept("std")
        return folded(mean, std, self.channel_axis, layer, strict=strict, tol=tol)

    def _mapped(self, x: Tensor, formula: Callable[..., Tensor]) -> Tensor:
        work, result = dtypes_of(x)
        values = self.made(x, self.channel_axis, work, self._shaped)
        return apply(formula, x, values, work, result)

    def _shaped(
        self, shape: tuple[int, ...], work: torch.dtype, device: torch.device
    ) -> tuple[Tensor, ...]:
        mean, std = (shaped(self.kept(v), shape, self.channel_axis) for v in ("mean", "std"))
        return constants(mean, std, work, device)

    def extra_repr(self) -> str:
        """Say how many channels, and where."""
        return f"{self.mean.numel()} channels, channel_axis={self.channel_axis}"
