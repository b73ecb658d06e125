"""Normalization computed by the layer behind it: in its weights and its bias."""

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from streamnorm.layout import ChannelAxis

__all__ = ["PadWithMeans", "folded"]

_CONVOLUTIONS = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}


class PadWithMeans(nn.Module):
    """Pads every channel with a number of its own, as normalized zeros are its mean.

    Parameters
    ----------
    means : tensor, shape (C,)
    pads : sequence of int
        As for `torch.nn.functional.pad`.
    """

    means: Tensor

    def __init__(self, means: Tensor, pads: tuple[int, ...]) -> None:
        super().__init__()
        self.pads = pads
        self.register_buffer("means", means)

    def forward(self, x: Tensor) -> Tensor:
        """Pad a tensor whose channels stand before the axes that are padded."""
        axes = len(self.pads) // 2
        border = 1 - functional.pad(torch.ones_like(x.narrow(-1 - axes, 0, 1)), self.pads)
        means = self.means.to(x.dtype).reshape(-1, *[1] * axes)
        return functional.pad(x, self.pads) + border * means


def folded(
    mean: Tensor, std: Tensor, channel_axis: ChannelAxis, layer: Any,
    *, strict: bool, tol: float,
) -> nn.Module:  # fmt: skip
    """Return what does ``layer((x - mean) / std)``; see `Normalize.fold_into`."""
    axes = _axes_of(layer)
    _check_fits(layer, axes, mean.numel(), channel_axis)
    weight, bias = layer.weight, layer.bias
    _check_precision(mean, std, weight.dtype, tol)
    zeros = axes > 0 and layer.padding_mode == "zeros" and any(_pads(layer, axes))
    if zeros and strict:
        msg = (
            "the layer pads with zeros, which behind the folding would be zeros of the input, not "
            "of what was normalized; pass strict=False to have the input padded with the means"
        )
        raise ValueError(msg)
    mean, std = (values.detach().to(weight.device) for values in (mean, std))
    made: Any = copy.deepcopy(layer)
    with torch.no_grad():
        groups = getattr(layer, "groups", 1)
        # Of every group of outputs, the channels that it reads.
        shape = (groups, 1, -1, *[1] * axes)
        wide = weight.to(torch.float64).reshape(groups, -1, *weight.shape[1:])
        scaled = wide / std.reshape(shape)
        shift = (scaled * mean.reshape(shape)).sum(tuple(range(2, scaled.ndim))).reshape(-1)
        made.weight.copy_(scaled.reshape(weight.shape))
        moved = -shift if bias is None else bias.to(torch.float64) - shift
        made.bias = nn.Parameter(moved.to(weight.dtype), requires_grad=weight.requires_grad)
    if not zeros:
        folded_layer: nn.Module = made
        return folded_layer
    pads = _pads(layer, axes)
    made.padding = (0,) * axes
    # What its constructor makes of the padding.
    made._reversed_padding_repeated_twice = [0] * (2 * axes)  # noqa: SLF001
    return nn.Sequential(PadWithMeans(mean.to(weight.dtype), pads), made)


def _axes_of(layer: Any) -> int:
    """Return over how many axes a layer convolves, 0 if it is linear.

    Raises
    ------
    TypeError
        If it is another layer, or its weights are computed anew for each call.
    """
    axes = next((n for kind, n in _CONVOLUTIONS.items() if isinstance(layer, kind)), 0)
    if not axes and not isinstance(layer, nn.Linear):
        msg = (
            f"can be folded into Conv1d, Conv2d, Conv3d and Linear, got {type(layer).__name__}; "
            f"keep the Normalize in front of it"
        )
        raise TypeError(msg)
    lazy = isinstance(layer.weight, nn.UninitializedParameter)
    if lazy or parametrize.is_parametrized(layer):
        what = "has no weights yet: call it once" if lazy else "is parametrized: remove that"
        msg = f"the {type(layer).__name__} {what} before folding"
        raise TypeError(msg)
    kind = next((kind for kind in _CONVOLUTIONS if isinstance(layer, kind)), nn.Linear)
    hooked = layer._forward_pre_hooks or layer._forward_hooks  # noqa: SLF001
    if type(layer).forward is not kind.forward or hooked or type(layer.weight) is Tensor:
        msg = (
            f"the {type(layer).__name__} does more than its weights and its bias say (a forward of "
            f"its own, hooks, or weights that are computed); keep the Normalize in front of it"
        )
        raise TypeError(msg)
    return axes


def _check_fits(layer: Any, axes: int, channels: int, channel_axis: ChannelAxis) -> None:
    inputs = layer.in_channels if axes else layer.in_features
    if inputs != channels:
        msg = f"the layer has {inputs} inputs but {channels} channels are normalized"
        raise ValueError(msg)
    fitting = (1, -1 - axes) if axes else (1, -1)
    if channel_axis not in fitting:
        msg = (
            f"the layer's channels are on axis {fitting[1]} but those of the Normalize on axis "
            f"{channel_axis}; build it with channel_axis={fitting[1]}"
        )
        raise ValueError(msg)


def _check_precision(mean: Tensor, std: Tensor, dtype: torch.dtype, tol: float) -> None:
    condition = math.sqrt(1 + float((mean / std).square().max())) if mean.numel() else 1.0
    error = condition * torch.finfo(dtype).eps
    if not error <= tol:
        msg = (
            f"folded into {dtype} the result could be wrong by {error:.1g} (sqrt(1 + mean²/std²) "
            f"is {condition:.3g}), more than tol={tol}; keep the Normalize, which subtracts the "
            f"mean first, fold into a layer in a wider dtype, or accept it with a larger tol="
        )
        raise ValueError(msg)


def _pads(layer: Any, axes: int) -> tuple[int, ...]:
    """Return how much a convolution pads, as `torch.nn.functional.pad` takes it."""
    pads: list[int] = []
    for axis in reversed(range(axes)):
        padding = layer.padding
        if padding == "same":
            total = layer.dilation[axis] * (layer.kernel_size[axis] - 1)
            pads += [total // 2, total - total // 2]
        elif padding != "valid":
            pads += [padding[axis]] * 2
    return tuple(pads)
