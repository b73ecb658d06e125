"""Arrays in memory and memory maps, in slices."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from streamnorm.arrays import shape_of, sliceable
from streamnorm.layout import ChannelAxis, kept_axes
from streamnorm.sources.items import (
    DEVICE_ITEM_VALUES,
    ITEM_VALUES,
    Choice,
    Inputs,
    Item,
    Reading,
    Source,
    auto_axis,
    describe,
    rows_per_item,
)
from streamnorm.tensors import on_device

__all__ = [
    "checked_indices",
    "from_array",
    "slice_count",
    "sliced_axis",
    "slices",
    "with_checked_indices",
]


def from_array(array: Any, channel_axis: ChannelAxis | str, choice: Choice) -> Source:
    """Read an array in memory, or a memory map, slice by slice."""
    choice.refuse("an array", "include", "exclude", "mode", "select")
    array = sliceable(array)
    shape = shape_of(array)
    axis = sliced_axis(shape, channel_axis)
    choice = with_checked_indices(choice, shape, axis)
    values = DEVICE_ITEM_VALUES if on_device(array) else ITEM_VALUES
    items = slices(array, shape, axis, choice, values)
    total = slice_count(shape, axis, choice, values)
    # Items of another size, as on another device, would not go on where these were.
    inputs = partial(_as_input, f"{describe(array)}, in items of {values:,} values", array)
    return Source(describe(array), "array", items, total, auto_axis, inputs=inputs)


def _as_input(name: str, array: Any) -> Inputs:
    # Items of another order in memory are summed in another order. That of one place is none.
    strides = array.strides if hasattr(array, "strides") else array.stride()
    order = [step for step, length in zip(strides, array.shape, strict=True) if length > 1]
    return Inputs([(f"{name}, {array.dtype}", int(array.nbytes))], ways=[("strides", str(order))])


def slices(
    array: Any, shape: tuple[int, ...], axis: int | None, choice: Choice, values: int = ITEM_VALUES
) -> Iterator[Item]:
    """Yield an array in slices along `axis` of about so many values, or whole."""
    if axis is None:
        yield Item("the array", partial(Reading, array))
        return
    step = rows_per_item(shape, axis, choice, values)
    if choice.indices is not None:
        chosen = list(choice.indices)
        for start in range(0, len(chosen), step):
            rows = chosen[start : start + step]
            yield Item(f"rows {rows[0]} …", partial(_take, array, rows))
        return
    for start in range(0, shape[axis], step):
        stop = min(start + step, shape[axis])
        yield Item(f"rows {start} to {stop}", partial(_slice, array, axis, start, stop))


def _take(array: Any, rows: list[int]) -> Reading:
    return Reading(array[rows])


def _slice(array: Any, axis: int, start: int, stop: int) -> Reading:
    return Reading(array[(slice(None),) * axis + (slice(start, stop),)])


def sliced_axis(shape: tuple[int, ...], channel_axis: ChannelAxis | str) -> int | None:
    """Return the first axis that is not kept: slices along it hold every channel."""
    kept = (
        kept_axes(len(shape), auto_axis(shape) if channel_axis == "auto" else channel_axis)  # type: ignore[arg-type]
    )
    return next((axis for axis in range(len(shape)) if axis not in kept), None)


def with_checked_indices(choice: Choice, shape: tuple[int, ...], axis: int | None) -> Choice:
    """Return `choice` with its indices as positions along axis 0.

    Raises
    ------
    ValueError
        If `axis`, along which slices are cut, is another, or they are no positions.
    """
    if choice.indices is None:
        return choice
    if axis != 0:
        msg = "indices= choose along axis 0, so that axis cannot be the channel axis"
        raise ValueError(msg)
    return replace(choice, indices=checked_indices(choice.indices, shape[0]))


def checked_indices(indices: Any, length: int) -> list[int]:
    """Return `indices` as a list of positions below `length`.

    Raises
    ------
    ValueError
        If one is out of range or given twice: it would be counted twice.
    """
    given = np.asarray(indices)
    if given.dtype == np.bool_:
        if given.shape != (length,):
            msg = f"a boolean mask as indices must have length {length}, got shape {given.shape}"
            raise ValueError(msg)
        given = np.flatnonzero(given)
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
        msg = f"indices must be a sequence of whole numbers, got {indices!r}"
        raise ValueError(msg)
    chosen: list[int] = given.tolist()
    if any(not 0 <= i < length for i in chosen):
        wrong = next(i for i in chosen if not 0 <= i < length)
        msg = f"indices must lie between 0 and {length - 1}, got {wrong}"
        raise ValueError(msg)
    if len(set(chosen)) != len(chosen):
        msg = "indices must not repeat: an item given twice would be counted twice"
        raise ValueError(msg)
    return chosen


def slice_count(
    shape: tuple[int, ...], axis: int | None, choice: Choice, values: int = ITEM_VALUES
) -> int:
    """Return how many slices there are."""
    if axis is None:
        return 1
    length = shape[axis] if choice.indices is None else len(choice.indices)
    step = rows_per_item(shape, axis, choice, values)
    return -(-length // step)
