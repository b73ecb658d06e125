"""``.npy`` files and members of ``.npz`` files, in slices, so that memory stays flat."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy_format

from streamnorm.arrays import Array
from streamnorm.dtypes import precision_of
from streamnorm.masks import batch_mask, whole_mask
from streamnorm.sources.arrays import slice_count, sliced_axis, slices, with_checked_indices
from streamnorm.sources.files import by_file, failed, wanted_of
from streamnorm.sources.inputs import inputs_of
from streamnorm.sources.items import (
    Choice,
    Item,
    Reading,
    Source,
    auto_axis,
    rows_per_item,
)
from streamnorm.sources.page_cache import CachedFile
from streamnorm.sources.places import File, Files

__all__ = ["from_npy_files", "from_npz_files"]


class _Header(NamedTuple):
    """What a file says of its numbers; the file itself is closed: there may be a million."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    rows_in_order: bool

    @classmethod
    def of(cls, path: Path) -> "_Header":
        mapped = _mapped(path)
        return cls(mapped.shape, mapped.dtype, mapped.offset, mapped.flags.c_contiguous)


def _from_npy(path: Path, choice: Choice) -> Source:
    """Read a ``.npy`` file in slices."""
    choice.refuse("a .npy file", "mode", "select")
    return _from_header(path, _Header.of(path), choice)


def _from_header(path: Path, header: _Header, choice: Choice) -> Source:
    axis = sliced_axis(header.shape, choice)
    choice = with_checked_indices(choice, header.shape, axis)
    in_file = choice.indices is None and axis == 0 and header.rows_in_order
    items = _file_slices(path, header, choice) if in_file else _mapped_slices(path, axis, choice)
    total = slice_count(header.shape, axis, choice)
    inputs = partial(inputs_of, [str(path)])
    return Source(
        str(path),
        "NumPy file",
        items,
        total,
        auto_axis,
        single=axis == 0,
        drawn=None if choice.sample is None else (choice.sample, header.shape[0]),
        mask=batch_mask(choice.mask),
        inputs=inputs,
    )


def _mapped(path: Path) -> Any:
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        if "Python objects" in str(error):
            msg = f"{path} holds Python objects, not numbers"
            raise TypeError(msg) from error
        msg = f"{path} cannot be read as a .npy file, was it cut off? ({error})"
        raise ValueError(msg) from error
    if not isinstance(mapped, np.ndarray):
        msg = f"{path} cannot be read as a .npy file: it is an archive; rename it to .npz"
        raise ValueError(msg)  # noqa: TRY004 - the file is wrong, not the caller's type
    precision_of(mapped.dtype.name)
    return mapped


def _mapped_slices(path: Path, axis: int | None, choice: Choice) -> Iterator[Item]:
    mapped = _mapped(path)
    yield from slices(
        mapped, mapped.shape, axis, choice, mask=whole_mask(choice.mask, mapped.shape)
    )


def _file_slices(path: Path, header: _Header, choice: Choice) -> Iterator[Item]:
    length, *rest = header.shape
    mask = whole_mask(choice.mask, header.shape)
    step = rows_per_item(header.shape, 0, choice)
    # Numbers that do not lie at multiples of their size are added up in another way.
    aligned = header.offset % header.dtype.alignment == 0
    cached = CachedFile(path, look=aligned and not choice.copies)
    for start in range(0, length, step):
        shape = (min(step, length - start), *rest)
        offset = header.offset + start * prod(rest) * header.dtype.itemsize
        part = None if mask is None else mask[start : start + shape[0]]
        read = partial(_read_rows, path, cached, header.dtype, shape, offset, part)
        yield Item(f"{path}, rows {start} to {start + shape[0]}", read)


def _read_rows(
    path: Path,
    cached: CachedFile,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    offset: int,
    mask: Array | None,
) -> Reading:
    count = prod(shape)
    seen = cached.see(offset, count * dtype.itemsize)
    if seen is not None:
        return Reading(np.frombuffer(seen, dtype, count).reshape(shape), mask)
    return Reading(np.fromfile(path, dtype, count, offset=offset).reshape(shape), mask)


def from_npy_files(files: Files, choice: Choice) -> Source:
    """Read ``.npy`` files one after the other; one of several that is damaged is one item."""
    if files.place.system is not None:
        return _npy_streams(files, choice)
    files = wanted_of(files, choice)
    paths = list(map(files.place.path, files.names))
    if len(paths) == 1:
        return replace(_from_npy(Path(paths[0]), choice), ignored=files.ignored)
    choice.refuse(".npy files", "mode", "select", "indices", "sample")
    sources, damaged = [], []
    for path in paths:
        try:
            header = _Header.of(Path(path))
        except (OSError, ValueError) as error:
            if not choice.skips:
                raise
            damaged.append(path)
            broken = [Item(path, partial(failed, error))]
            sources.append(Source(path, "NumPy file", broken, 1, auto_axis))
        else:
            sources.append(_from_header(Path(path), header, choice))
    items = (item for source in sources for item in source.items)
    total = sum(source.total or 0 for source in sources)
    # Mended, they would be more items, and those behind them others than before.
    inputs = partial(inputs_of, files.names, files.place, damaged=str(damaged))
    return Source(
        files.shown,
        "NumPy files",
        items,
        total,
        auto_axis,
        ignored=files.ignored,
        single=all(source.single or source.name in damaged for source in sources),
        mask=batch_mask(choice.mask),
        inputs=inputs,
    )


def from_npz_files(files: Files, choice: Choice) -> Source:
    """Read one member of a ``.npz`` file as a stream, compressed or not."""
    choice.refuse("a .npz file", "include", "exclude", "mode", "indices", "sample")
    if len(files.names) > 1:
        msg = f"{files.shown}: pass one .npz file at a time, and merge the results"
        raise ValueError(msg)
    path = File(files.place, files.names[0])
    try:
        with path.open() as stream, zipfile.ZipFile(stream) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        msg = f"{path.name} cannot be read as a .npz file: {error}"
        raise ValueError(msg) from error
    members = [name.removesuffix(".npy") for name in names if name.endswith(".npy")]
    select = members[0] if choice.select is None and len(members) == 1 else choice.select
    if select not in members:
        none = "" if select is None else f", not {select!r}"
        msg = f"{path.name} holds the arrays {members}{none}; pass select= one of them"
        raise ValueError(msg)
    items = _member_slices(path, select, choice)
    inputs = partial(inputs_of, files.names, files.place)
    name = f"{path.name}:{select}"
    return Source(
        name, "NumPy archive", items, None, auto_axis, mask=batch_mask(choice.mask), inputs=inputs
    )


def _member_slices(file: File, member: str, choice: Choice) -> Iterator[Item]:
    name = f"{file.name}:{member}"
    with (
        file.open() as opened,
        zipfile.ZipFile(opened) as archive,
        archive.open(f"{member}.npy") as stream,
    ):
        yield from _stream_slices(stream, name, choice)


def _npy_streams(files: Files, choice: Choice) -> Source:
    return by_file(_npy_items, "NumPy files", auto_axis, slices_masks=True)(files, choice)


def _npy_items(file: File, choice: Choice) -> Iterator[Item]:
    with file.open() as stream:
        yield from _stream_slices(stream, file.name, choice)


def _stream_slices(stream: Any, name: str, choice: Choice) -> Iterator[Item]:
    """Yield what follows a header, piece by piece; an order that is not that of rows as a whole."""
    with _damage_named(name):
        shape, fortran, dtype = _read_header(stream)
    if dtype.hasobject:
        msg = f"{name} holds Python objects, not numbers"
        raise TypeError(msg)
    axis, mask = sliced_axis(shape, choice), whole_mask(choice.mask, shape)
    if fortran or axis != 0:
        with _damage_named(name):
            whole = _read_block(stream, dtype, shape[::-1] if fortran else shape)
        yield from slices(whole.T if fortran else whole, shape, axis, choice, mask=mask)
        return
    step = rows_per_item(shape, 0, choice)
    for start in range(0, shape[0], step):
        rows = (min(step, shape[0] - start), *shape[1:])
        with _damage_named(name):
            block = _read_block(stream, dtype, rows)
        yield Item(
            f"{name}, rows {start} to {start + rows[0]}",
            partial(Reading, block, None if mask is None else mask[start : start + rows[0]]),
            (start + rows[0]) / shape[0],
        )


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
    size = prod(shape) * dtype.itemsize
    data = stream.read(size)
    if len(data) != size:
        msg = f"expected {size} more bytes, got {len(data)}"
        raise ValueError(msg)
    return np.frombuffer(data, dtype).reshape(shape)
