"""Arrays in memory and memory maps, in slices."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from streamnorm.arrays import broadcast_mask, shape_of, sliceable
from streamnorm.layout import kept_axes
from streamnorm.masks import batch_mask
from streamnorm.sources.inputs import Inputs
from streamnorm.sources.items import (
    DEVICE_ITEM_VALUES,
    ITEM_VALUES,
    ONLY,
    Choice,
    Item,
    Reading,
    Source,
    auto_axis,
    describe,
    drawn,
    rows_per_item,
)
from streamnorm.tensors import check_mask, on_device

__all__ = [
    "checked_indices",
    "from_array",
    "slice_count",
    "sliced_axis",
    "slices",
    "with_checked_indices",
]


def from_array(array: Any, choice: Choice) -> Source:
    """Read an array in memory, or a memory map, slice by slice; a mask with it."""
    choice.refuse("an array", "include", "exclude", "mode", "select")
    array = sliceable(array)
    shape = shape_of(array)
    axis = sliced_axis(shape, choice)
    there = (choice.sample, shape[0]) if choice.sample is not None else None
    choice = with_checked_indices(choice, shape, axis)
    values = DEVICE_ITEM_VALUES if on_device(array) else ITEM_VALUES
    mask = None if choice.mask is None or callable(choice.mask) else _like(choice.mask, array)
    items = slices(array, shape, axis, choice, values, mask)
    total = slice_count(shape, axis, choice, values)
    # Items of another size, as on another device, would not go on where these were.
    inputs = partial(_as_input, f"{describe(array)}, in items of {values:,} values", array)
    asked = batch_mask(choice.mask)
    name = describe(array)
    return Source(
        name,
        "array",
        items,
        total,
        auto_axis,
        single=axis == 0,
        drawn=there,
        mask=asked,
        inputs=inputs,
    )


def _like(mask: Any, array: Any) -> Any:
    """Return a mask in the shape of the array, so that both are sliced alike."""
    if isinstance(mask, str | int):
        msg = f"mask={mask!r} is in no batch: an array is one; pass the mask itself"
        raise TypeError(msg)
    return check_mask(mask, array) if on_device(array) else broadcast_mask(mask, shape_of(array))


def _as_input(name: str, array: Any) -> Inputs:
    # Items of another order in memory are summed in another order. That of one place is none.
    strides = array.strides if hasattr(array, "strides") else array.stride()
    order = [step for step, length in zip(strides, array.shape, strict=True) if length > 1]
    return Inputs([(f"{name}, {array.dtype}", int(array.nbytes))], ways=[("strides", str(order))])


def slices(
    array: Any,
    shape: tuple[int, ...],
    axis: int | None,
    choice: Choice,
    values: int = ITEM_VALUES,
    mask: Any = None,
) -> Iterator[Item]:
    """Yield an array in slices along `axis` of about so many values, or whole."""
    if axis is None:
        yield Item("the array", partial(Reading, array, mask))
        return
    step = rows_per_item(shape, axis, choice, values)
    if choice.indices is not None:
        chosen = list(choice.indices)
        for start in range(0, len(chosen), step):
            rows = chosen[start : start + step]
            yield Item(f"rows {rows[0]} …", partial(_take, array, mask, rows))
        return
    for start in range(0, shape[axis], step):
        stop = min(start + step, shape[axis])
        yield Item(f"rows {start} to {stop}", partial(_slice, array, mask, axis, start, stop))


def _take(array: Any, mask: Any, rows: list[int]) -> Reading:
    return Reading(array[rows], None if mask is None else mask[rows])


def _slice(array: Any, mask: Any, axis: int, start: int, stop: int) -> Reading:
    place = (slice(None),) * axis + (slice(start, stop),)
    return Reading(array[place], None if mask is None else mask[place])


def sliced_axis(shape: tuple[int, ...], choice: Choice) -> int | None:
    """Return the first axis that is not kept: slices along it hold every channel."""
    kept = kept_axes(len(shape), choice.axis(ONLY, lambda: auto_axis(shape)))
    return next((axis for axis in range(len(shape)) if axis not in kept), None)


def with_checked_indices(choice: Choice, shape: tuple[int, ...], axis: int | None) -> Choice:
    """Return `choice` with its indices as positions along axis 0.

    Raises
    ------
    ValueError
        If `axis`, along which slices are cut, is another, or they are no positions.
    """
    if choice.indices is None and choice.sample is None:
        return choice
    if axis != 0:
        msg = "indices= and sample= choose along axis 0, so it cannot be the channel axis"
        raise ValueError(msg)
    if choice.sample is not None:
        return replace(choice, indices=drawn(shape[0], choice))
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
