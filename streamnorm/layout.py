"""Any array with a channel axis -> (outer, channel, inner), without copying it whole.

Moments do not depend on the order of the values, so the reduced axes may be taken in the order in
which they lie in memory: NCHW is (N, C, HW), NHWC is (NHW, C, 1), a transposed or channels_last
array is whatever its strides say. Where no such view exists (crops, steps, two kept axes with a
reduced one between), pieces of bounded size are cut out and copied one at a time.
"""

import math
from dataclasses import dataclass, field
from functools import lru_cache
from operator import index
from typing import Any

import numpy as np

from streamnorm.arrays import Array
from streamnorm.boxes import Cut, Sizes

__all__ = ["ChannelAxis", "Layout", "Piece", "kept_axes", "pieces_of"]

ChannelAxis = int | tuple[int, ...] | None
Piece = tuple[slice, ...]

_PIECE_VALUES = 1 << 18
"""Values in a piece. Fixed, so that its partial depends on the data alone: not on threads."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How one array is read.

    Attributes
    ----------
    axes : tuple of int
        All axes of the array: the outer reduced ones, the kept ones, the inner reduced ones.
    flipped : tuple of slice
        An index that makes every reduced axis run forward in memory; empty if all do.
    outer, kept : int
        How many of `axes` are outer, and how many kept.
    channel_shape : tuple of int
        The sizes of the kept axes, in the order in which they were asked for.
    channels : int
        Number of channels: the product of `channel_shape`.
    in_order : bool
        Whether `axes` are those of the array as they come.
    cuts : dict
        For every dtype measured so, and size of tiles, how the array is cut into boxes; filled by
        the kernels.
    """

    axes: tuple[int, ...]
    flipped: tuple[slice, ...]
    outer: int
    kept: int
    channel_shape: tuple[int, ...]
    channels: int
    in_order: bool
    cuts: dict[tuple[str, Sizes | None], Cut | None] = field(
        default_factory=dict, compare=False, repr=False
    )

    @classmethod
    def of(cls, array: Array, channel_axis: ChannelAxis) -> "Layout":
        """Choose the order of the axes of `array`; remembered, for streams of equal batches.

        Raises
        ------
        ValueError
            If an axis does not exist or is named twice.
        TypeError
            If `channel_axis` is neither an int, a tuple of ints nor None.
        """
        return cls.of_strides(array.shape, array.strides, channel_axis)

    @classmethod
    def of_strides(
        cls, shape: tuple[int, ...], strides: tuple[int, ...], channel_axis: ChannelAxis
    ) -> "Layout":
        """Choose for anything of this shape and these strides, in whatever units; see `of`."""
        return _layout_of(shape, strides, named_axes(channel_axis))

    def arrange(self, array: Array) -> Array:
        """View `array` with its axes in this layout's order."""
        if self.flipped:
            forward: Any = (*self.flipped, ...)
            array = array[forward]
        return array if self.in_order else array.transpose(self.axes)

    def flat(self, arranged: Array) -> Array | None:
        """View an arranged array as (outer, channel, inner), or None where that needs a copy."""
        if not arranged.flags.c_contiguous:
            return None
        return arranged.reshape(self.flat_shape(arranged.shape))

    def flatten(self, block: Array) -> Array:
        """Reshape a contiguous box to (outer, channel, inner)."""
        return block.reshape(self.flat_shape(block.shape))

    def flat_shape(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Return (outer, channel, inner) of an arranged array of this shape, or of a piece."""
        return _flat_shape(shape, self.outer, self.kept, self.channels)


@lru_cache(maxsize=1024)
def _flat_shape(
    shape: tuple[int, ...], axes: int, kept: int, channels: int
) -> tuple[int, int, int]:
    outer = math.prod(shape[:axes])
    inner = math.prod(shape[axes + kept :])
    # One channel is one long run, whichever side of it the values lie.
    return (1, 1, outer * inner) if channels == 1 else (outer, channels, inner)


@lru_cache(maxsize=256)
def pieces_of(
    shape: tuple[int, ...], outer: int, kept: int, values: int = _PIECE_VALUES
) -> tuple[Piece, ...]:
    """Cut an array of `outer` reduced, `kept` kept and some inner axes into pieces, in C order.

    A piece holds at most so many values, or 64 of each channel where there are very many: its
    partial result has 48 bytes a channel and must stay small beside it.
    """
    steps = list(shape)
    size = math.prod(shape[outer : outer + kept])
    most = max(values, 64 * size)
    for axis in reversed([*range(outer), *range(outer + kept, len(shape))]):
        steps[axis] = max(1, min(shape[axis], most // max(size, 1)))
        size *= steps[axis]
    counts = [-(-length // max(step, 1)) for length, step in zip(shape, steps, strict=True)]
    return tuple(
        tuple(
            slice(i * step, min((i + 1) * step, length))
            for i, step, length in zip(at, steps, shape, strict=True)
        )
        for at in np.ndindex(*counts)
    )


# Typed: True equals 1, but is no axis.
@lru_cache(maxsize=256, typed=True)
def _layout_of(
    shape: tuple[int, ...], strides: tuple[int, ...], channel_axis: ChannelAxis
) -> Layout:
    ndim = len(shape)
    kept = kept_axes(ndim, channel_axis)
    # Stable: axes of equal strides (size 1, broadcast) stay in their written order.
    reduced = sorted((a for a in range(ndim) if a not in kept), key=lambda a: -abs(strides[a]))
    finest = min((abs(strides[a]) for a in kept if shape[a] > 1), default=0)
    inner = [a for a in reduced if abs(strides[a]) < finest]
    outer = [a for a in reduced if a not in inner]
    backward = [strides[a] < 0 and a not in kept for a in range(ndim)]
    flipped = tuple(slice(None, None, -1 if b else 1) for b in backward if any(backward))
    channel_shape = tuple(shape[a] for a in kept)
    channels = math.prod(channel_shape)
    axes = (*outer, *kept, *inner)
    in_order = axes == tuple(range(ndim))
    return Layout(axes, flipped, len(outer), len(kept), channel_shape, channels, in_order)


def named_axes(channel_axis: Any) -> ChannelAxis:
    """Return `channel_axis` in a form to remember things by.

    Raises
    ------
    TypeError
        If it is a tuple or list with something that is no int: True equals 1, but is no axis.
    """
    if type(channel_axis) is int or channel_axis is None:
        return channel_axis
    if isinstance(channel_axis, tuple | list):
        if any(isinstance(axis, bool) for axis in channel_axis):
            raise TypeError(_no_axis(channel_axis))
        return tuple(channel_axis)
    return channel_axis  # type: ignore[no-any-return]


def _no_axis(channel_axis: Any) -> str:
    return f"channel_axis must be an int, a tuple of ints or None, not {channel_axis!r}"


def kept_axes(ndim: int, channel_axis: ChannelAxis) -> tuple[int, ...]:
    """Return the axes that `channel_axis` keeps, counted from 0, in the order asked for.

    Raises
    ------
    ValueError
        If an axis does not exist or is named twice.
    TypeError
        If `channel_axis` is neither an int, a tuple of ints nor None.
    """
    if channel_axis is None:
        return ()
    asked = channel_axis if isinstance(channel_axis, tuple) else (channel_axis,)
    kept = []
    for axis in asked:
        try:
            number = index(str(axis) if isinstance(axis, bool) else axis)  # type: ignore[arg-type]
        except TypeError:
            raise TypeError(_no_axis(channel_axis)) from None
        if not -ndim <= number < ndim:
            msg = (
                f"channel_axis {number} does not exist in an array of {ndim} dimension(s); pass an "
                f"axis from {-ndim} to {ndim - 1}, or None for one channel over everything"
                if ndim
                else "a single number has no channel axis; pass channel_axis=None"
            )
            raise ValueError(msg)
        kept.append(number % ndim)
    if len(set(kept)) != len(kept):
        msg = f"channel_axis {channel_axis} names an axis twice"
        raise ValueError(msg)
    return tuple(kept)
