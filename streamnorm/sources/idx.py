"""idx files, in which MNIST and its relatives come (http://yann.lecun.com/exdb/mnist)."""

import gzip
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from math import prod
from typing import Any

import numpy as np

from streamnorm.masks import whole_mask
from streamnorm.sources.files import by_file, one_channel, wanted_of
from streamnorm.sources.items import Choice, Item, Reading, Source, rows_per_item
from streamnorm.sources.places import File, Files

__all__ = ["from_idx_files", "is_idx"]

_DTYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def is_idx(name: str) -> bool:
    """Whether a file is one by its name, such as ``t10k-images-idx3-ubyte.gz``."""
    return re.search(r"(\.idx|[-.]idx\d-[a-z]+)(\.gz)?$", name) is not None


def from_idx_files(files: Files, choice: Choice) -> Source:
    """Read idx files, whose samples must have one shape: labels lie beside their images."""
    _check_alike(wanted_of(files, choice))
    opens = by_file(idx_items, "idx files", one_channel, single=True, slices_masks=True)
    return opens(files, choice)


def _check_alike(files: Files) -> None:
    first: tuple[str, tuple[int, ...]] | None = None
    for name in files.names:
        try:
            with _opened(File(files.place, name)) as stream:
                shape = _header(stream)[0][1:]
        except (EOFError, OSError, ValueError, zlib.error):
            # The reading of it says what is wrong.
            continue
        first = first or (name, shape)
        if shape != first[1]:
            msg = (
                f"{name} holds samples of shape {shape} but {first[0]} of shape {first[1]}: labels "
                f"are no images; name the files that belong together, or leave some out with "
                f"exclude="
            )
            raise ValueError(msg)


@contextmanager
def _opened(file: File) -> Iterator[Any]:
    opened = file.open()
    with opened, gzip.open(opened) if file.name.endswith(".gz") else opened as stream:
        yield stream


def idx_items(file: File, choice: Choice) -> Iterator[Item]:
    """Yield slices along the first axis."""
    with _opened(file) as stream:
        shape, dtype = _header(stream)
        step, mask = rows_per_item(shape, 0, choice), whole_mask(choice.mask, shape)
        for start in range(0, shape[0], step):
            stop = min(start + step, shape[0])
            rows = _exactly(stream, (stop - start) * prod(shape[1:]) * dtype.itemsize)
            array = np.frombuffer(rows, dtype).reshape(stop - start, *shape[1:])
            name = f"{file.name}, rows {start} to {stop}"
            part = None if mask is None else mask[start:stop]
            yield Item(name, partial(Reading, array, part), stop / shape[0])
        if stream.read(1):
            msg = f"more bytes follow than its shape {shape} needs"
            raise ValueError(msg)


def _header(stream: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    zero, kind, axes = int.from_bytes((head := _exactly(stream, 4))[:2]), head[2], head[3]
    if zero or kind not in _DTYPES or not axes:
        msg = f"it is no idx file: it begins with {head.hex(' ')}"
        raise ValueError(msg)
    shape = tuple(np.frombuffer(_exactly(stream, 4 * axes), ">u4").tolist())
    return shape, np.dtype(_DTYPES[kind])


def _exactly(stream: Any, size: int) -> bytes:
    data: bytes = stream.read(size)
    if len(data) != size:
        msg = f"expected {size} more bytes, got {len(data)}: was it cut off?"
        raise ValueError(msg)
    return data
