"""Arrays in memory, memory maps, ``.npy`` files and members of ``.npz`` files, in slices."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format

from streamnorm.arrays import Array, shape_of, sliceable
from streamnorm.dtypes import precision_of
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
    inputs_of,
    rows_per_item,
)
from streamnorm.tensors import on_device

__all__ = ["from_array", "from_npy", "from_npy_files", "from_npz"]


def from_array(array: Any, channel_axis: ChannelAxis | str, choice: Choice) -> Source:
    """Read an array in memory, or a memory map, slice by slice."""
    choice.refuse("an array", "include", "exclude", "mode", "select")
    array = sliceable(array)
    shape = shape_of(array)
    axis = _sliced_axis(shape, channel_axis)
    choice = _with_checked_indices(choice, shape, axis)
    values = DEVICE_ITEM_VALUES if on_device(array) else ITEM_VALUES
    items = _slices(array, shape, axis, choice, values)
    total = _slice_count(shape, axis, choice, values)
    # Items of another size, as on another device, would not go on where these were.
    inputs = partial(_as_input, f"{describe(array)}, in items of {values:,} values", array)
    return Source(describe(array), "array", items, total, auto_axis, inputs=inputs)


def _as_input(name: str, array: Any) -> Inputs:
    # Strides: items of another order in memory are summed in another order.
    order = str(getattr(array, "strides", None) or tuple(array.stride()))
    return Inputs([(f"{name}, {array.dtype}", int(array.nbytes))], ways=[("strides", order)])


def _slices(
    array: Any, shape: tuple[int, ...], axis: int | None, choice: Choice, values: int = ITEM_VALUES
) -> Iterator[Item]:
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


def _sliced_axis(shape: tuple[int, ...], channel_axis: ChannelAxis | str) -> int | None:
    """Return the first axis that is not kept: slices along it hold every channel."""
    kept = (
        kept_axes(len(shape), auto_axis(shape) if channel_axis == "auto" else channel_axis)  # type: ignore[arg-type]
    )
    return next((axis for axis in range(len(shape)) if axis not in kept), None)


def _with_checked_indices(choice: Choice, shape: tuple[int, ...], axis: int | None) -> Choice:
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


def from_npy(path: Path, channel_axis: ChannelAxis | str, choice: Choice) -> Source:
    """Read a ``.npy`` file in slices; nothing is mapped, so memory stays flat."""
    choice.refuse("a .npy file", "include", "exclude", "mode", "select")
    mapped = _mapped(path)
    axis = _sliced_axis(mapped.shape, channel_axis)
    choice = _with_checked_indices(choice, mapped.shape, axis)
    in_file = choice.indices is None and axis == 0 and mapped.flags.c_contiguous
    items = (
        _file_slices(path, mapped, choice)
        if in_file
        else _slices(mapped, mapped.shape, axis, choice)
    )
    total = _slice_count(mapped.shape, axis, choice)
    inputs = partial(inputs_of, [str(path)])
    return Source(str(path), "NumPy file", items, total, auto_axis, inputs=inputs)


def _slice_count(
    shape: tuple[int, ...], axis: int | None, choice: Choice, values: int = ITEM_VALUES
) -> int:
    if axis is None:
        return 1
    length = shape[axis] if choice.indices is None else len(choice.indices)
    step = rows_per_item(shape, axis, choice, values)
    return -(-length // step)


def _mapped(path: Path) -> Any:
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        msg = f"{path} cannot be read as a .npy file, was it cut off? ({error})"
        raise ValueError(msg) from error
    if not isinstance(mapped, np.ndarray):
        msg = f"{path} cannot be read as a .npy file: it is an archive; rename it to .npz"
        raise ValueError(msg)  # noqa: TRY004 - the file is wrong, not the caller's type
    precision_of(mapped.dtype.name)
    return mapped


def _file_slices(path: Path, mapped: Any, choice: Choice) -> Iterator[Item]:
    step = rows_per_item(mapped.shape, 0, choice)
    for start in range(0, mapped.shape[0], step):
        shape = (min(step, mapped.shape[0] - start), *mapped.shape[1:])
        offset = mapped.offset + start * mapped.strides[0]
        read = partial(_read_rows, path, mapped.dtype, shape, offset)
        yield Item(f"{path}, rows {start} to {start + shape[0]}", read)


def _read_rows(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int) -> Reading:
    count = int(np.prod(shape, dtype=int))
    return Reading(np.fromfile(path, dtype, count, offset=offset).reshape(shape))


def from_npy_files(paths: list[str], channel_axis: ChannelAxis | str, choice: Choice) -> Source:
    """Read several ``.npy`` files one after the other."""
    choice.refuse(".npy files", "include", "exclude", "mode", "select", "indices")
    sources = [from_npy(Path(path), channel_axis, choice) for path in paths]
    items = (item for source in sources for item in source.items)
    total = sum(source.total or 0 for source in sources)
    inputs = partial(inputs_of, paths)
    name = f"{len(paths)} .npy files"
    return Source(name, "NumPy files", items, total, auto_axis, inputs=inputs)


def from_npz(path: Path, channel_axis: ChannelAxis | str, choice: Choice) -> Source:
    """Read one member of a ``.npz`` file as a stream, compressed or not."""
    choice.refuse("a .npz file", "include", "exclude", "mode", "indices")
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        msg = f"{path} cannot be read as a .npz file: {error}"
        raise ValueError(msg) from error
    members = [name.removesuffix(".npy") for name in names if name.endswith(".npy")]
    select = members[0] if choice.select is None and len(members) == 1 else choice.select
    if select not in members:
        msg = f"{path} holds the arrays {members}; pass select= one of them"
        raise ValueError(msg)
    items = _member_slices(path, select, channel_axis, choice)
    inputs = partial(inputs_of, [str(path)])
    name = f"{path}:{select}"
    return Source(name, "NumPy archive", items, None, auto_axis, inputs=inputs)


def _member_slices(
    path: Path, member: str, channel_axis: ChannelAxis | str, choice: Choice
) -> Iterator[Item]:
    name = f"{path}:{member}"
    with zipfile.ZipFile(path) as archive, archive.open(f"{member}.npy") as stream:
        with _damage_named(name):
            shape, fortran, dtype = _read_header(stream)
        axis = _sliced_axis(shape, channel_axis)
        if fortran or axis != 0 or dtype.hasobject:
            with _damage_named(name), np.load(path, allow_pickle=False) as arrays:
                whole = arrays[member]
            yield from _slices(whole, shape, axis, choice)
            return
        step = rows_per_item(shape, 0, choice)
        for start in range(0, shape[0], step):
            rows = (min(step, shape[0] - start), *shape[1:])
            with _damage_named(name):
                block = _read_block(stream, dtype, rows)
            yield Item(f"{name}, rows {start} to {start + rows[0]}", partial(Reading, block))


@contextmanager
def _damage_named(name: str) -> Iterator[None]:
    try:
        yield
    except (EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        msg = f"{name} is damaged: {error}"
        raise ValueError(msg) from error


def _read_header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    if npy_format.read_magic(stream) == (1, 0):
        return npy_format.read_array_header_1_0(stream)
    return npy_format.read_array_header_2_0(stream)


def _read_block(stream: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    size = int(np.prod(shape, dtype=int)) * dtype.itemsize
    data = stream.read(size)
    if len(data) != size:
        msg = f"expected {size} more bytes, got {len(data)}"
        raise ValueError(msg)
    return np.frombuffer(data, dtype).reshape(shape)
