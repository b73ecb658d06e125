"""One tensor on a device -> what a kernel there will have written, without waiting for it.

The contract is that of `kernels.cpu`: an array and its layout in, a partial result out. Tensors are
cut by size alone. On CUDA, where Triton is there, its kernels read most dtypes; all else is plain
torch. A device without float64 is read by the host, piece by piece.
"""

import importlib.util
import math
from collections.abc import Callable, Iterable
from functools import cache, lru_cache, partial
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from streamnorm import limbs
from streamnorm.arrays import Array, as_array
from streamnorm.dtypes import Precision
from streamnorm.kernels import raw, torch_exact, torch_rounded
from streamnorm.layout import ChannelAxis, Layout, named_axes, pieces_of
from streamnorm.partial import empty, merge_tree
from streamnorm.pending import Pending, current_stream

__all__ = ["Kernels", "measure_tensor", "plain", "triton_kernels"]


Shape = tuple[int, int, int]
Plan = Callable[[Tensor, Tensor | None], Tensor]
"""Starts measuring: what lies in memory as one piece, and where it counts."""


class Kernels(Protocol):
    """What measures pieces of shape (O, C, I) on a device."""

    most_values: int
    """In a piece, if that is not one value of each channel."""

    def plan(
        self, shape: Shape, precision: Precision, *, masked: bool, exact: bool, omit: bool
    ) -> Plan | None:
        """Say how pieces of this shape are measured; None if that is not for these kernels."""

    def __hash__(self) -> int:
        """Of the object itself."""


class _Plain:
    most_values = 1 << 22

    @staticmethod
    def plan(
        shape: Shape, precision: Precision, *, masked: bool, exact: bool, omit: bool
    ) -> Plan | None:
        del masked
        measure = _plain_kernel(precision, exact, omit)
        steps = shape[1] * shape[2], shape[2], 1
        return lambda x, valid: measure(x.as_strided(shape, steps), valid, precision)


def _plain_kernel(precision: Precision, exact: bool, omit: bool) -> Callable[..., Tensor]:
    if not precision.is_float and (exact or precision.bits.itemsize <= 2):
        return torch_rounded.sum_integers
    if exact:
        return torch_exact.sum_floats
    return partial(torch_rounded.measure_moments, omit=omit)


plain: Kernels = _Plain()


@cache
def triton_kernels() -> Kernels | None:
    """Return Triton's kernels where Triton is installed."""
    if importlib.util.find_spec("triton") is None:
        return None
    from streamnorm.kernels import triton_launch

    return triton_launch.launch


def measure_tensor(
    tensor: Tensor,
    channel_axis: ChannelAxis,
    precision: Precision,
    valid: Tensor | None,
    *,
    exact: bool,
    omit: bool,
) -> tuple[Pending | Array, Layout]:
    """Measure a dense tensor; `valid` is of its shape.

    Returns
    -------
    Pending or array of shape (C,)
        The latter where nothing has to be waited for: an empty tensor, a device without float64.
    Layout
    """
    if tensor.requires_grad or tensor.is_neg():
        tensor = tensor.detach().resolve_neg()
    channel_axis = named_axes(channel_axis)
    kernels = _kernels_for(tensor.device)
    course = _course_of(
        tensor.shape, tensor.stride(), channel_axis, precision, exact=exact, omit=omit,
        kernels=kernels,
    )  # fmt: skip
    layout = course.layout
    if valid is None and course.plan is not None:
        numbers = course.plan(tensor, None)
    elif tensor.numel() == 0:
        return (limbs.empty if exact else empty)(layout.channels), layout
    else:
        arranged = tensor.permute(layout.axes)
        mask = None if valid is None else valid.permute(layout.axes)
        if kernels is None:
            return _by_the_host(arranged, mask, layout, exact=exact, omit=omit), layout
        numbers = _measured(kernels, arranged, mask, layout, precision, exact=exact, omit=omit)
    stream = current_stream(tensor.device.index) if tensor.is_cuda else None
    return Pending(numbers, layout.channels, course.decode, stream), layout


class _Course(NamedTuple):
    """What is the same for all tensors of one shape, strides and dtype.

    Attributes
    ----------
    layout : Layout
    decode : callable
        Makes rows of what kernels have written.
    plan : callable or None
        Measures a tensor that lies in memory as one piece.
    """

    layout: Layout
    decode: Callable[[Array], Array]
    plan: Plan | None


# Typed: True equals 1, but is no axis.
@lru_cache(maxsize=1024, typed=True)
def _course_of(
    shape: tuple[int, ...], strides: tuple[int, ...], channel_axis: ChannelAxis,
    precision: Precision, *, exact: bool, omit: bool, kernels: Kernels | None,
) -> _Course:  # fmt: skip
    layout = Layout.of_strides(tuple(shape), strides, channel_axis)
    size = math.prod(shape)
    decode = raw.decoder(precision.name, size // max(layout.channels, 1), exact, omit)
    lying = torch.empty_strided(shape, strides, device="meta").permute(layout.axes)
    plan = None
    if kernels is not None and size and lying.is_contiguous():
        flat = layout.flat_shape(tuple(lying.shape))
        plan = _plan_of_all(kernels, flat, precision, exact=exact, omit=omit)
    return _Course(layout, decode, plan)


def _plan_of_all(
    kernels: Kernels, shape: Shape, precision: Precision, *, exact: bool, omit: bool
) -> Plan | None:
    """Say how to measure a tensor in one piece; None if it is too large for that."""
    for chosen in (kernels, plain):
        if math.prod(shape) > chosen.most_values:
            return None
        plan = chosen.plan(shape, precision, masked=False, exact=exact, omit=omit)
        if plan is not None:
            return plan
    return None


def _kernels_for(device: torch.device) -> Kernels | None:
    """Choose; None where float64 does not exist."""
    if device.type == "cuda":
        # On ROCm, which calls itself CUDA, the Triton kernels have never been run.
        return (triton_kernels() if torch.version.hip is None else None) or plain
    return plain if _has_float64(device.type) else None


@cache
def _has_float64(kind: str) -> bool:
    try:
        torch.zeros(1, dtype=torch.float64, device=kind)
    except (TypeError, RuntimeError, NotImplementedError):
        return False
    return True


def _measured(
    kernels: Kernels, arranged: Tensor, mask: Tensor | None, layout: Layout,
    precision: Precision, *, exact: bool, omit: bool,
) -> Tensor:  # fmt: skip
    taken: list[Tensor] = []
    for x, valid in _blocks(arranged, mask, layout, kernels.most_values):
        shape = x.shape[0], x.shape[1], x.shape[2]
        plan = kernels.plan(shape, precision, masked=mask is not None, exact=exact, omit=omit)
        if plan is None:
            return _measured(plain, arranged, mask, layout, precision, exact=exact, omit=omit)
        taken.append(plan(x, valid))
    return taken[0] if len(taken) == 1 else torch.cat(taken)


def _blocks(
    arranged: Tensor, mask: Tensor | None, layout: Layout, most: int
) -> Iterable[tuple[Tensor, Tensor | None]]:
    """Cut into contiguous pieces of shape (O, C, I), copied only where they do not lie so."""
    if arranged.numel() <= most:
        return ((_flat(arranged, layout), None if mask is None else _flat(mask, layout)),)
    pieces = pieces_of(tuple(arranged.shape), layout.outer, layout.kept, most)
    return (
        (_flat(arranged[piece], layout), None if mask is None else _flat(mask[piece], layout))
        for piece in pieces
    )


def _flat(block: Tensor, layout: Layout) -> Tensor:
    lying = block if block.is_contiguous() else block.contiguous()
    return lying.view(layout.flat_shape(tuple(block.shape)))


def _by_the_host(
    arranged: Tensor, mask: Tensor | None, layout: Layout, *, exact: bool, omit: bool
) -> Array:
    """Copy piece by piece to the host and measure there, as accurately as anywhere."""
    from streamnorm.kernels.cpu import measure_array
    from streamnorm.kernels.exact_cpu import measure_array_exactly

    rows: list[Array] = []
    for x, kept in _blocks(arranged, mask, layout, _Plain.most_values):
        array, precision, _ = as_array(x.cpu())
        valid = None if kept is None else kept.cpu().numpy()
        here = Layout.of(array, 1)
        if exact:
            rows.append(measure_array_exactly(array, here, precision, valid, 1))
        else:
            rows.append(measure_array(array, here, precision, valid, omit, 1))
    if not exact:
        return merge_tree(np.stack(rows))
    total = limbs.add_up(rows)
    if omit:
        limbs.omit_nan(total)
    return total
