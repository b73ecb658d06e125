"""idx files, in which MNIST and its relatives come (http://yann.lecun.com/exdb/mnist)."""

import gzip
import re
from collections.abc import Iterator
from functools import partial
from math import prod
from typing import Any

import numpy as np

from streamnorm.masks import whole_mask
from streamnorm.sources.items import Choice, Item, Reading, rows_per_item
from streamnorm.sources.places import File

__all__ = ["idx_items", "is_idx"]

_DTYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def is_idx(name: str) -> bool:
    """Whether a file is one by its name, such as ``t10k-images-idx3-ubyte.gz``."""
    return re.search(r"(\.idx|[-.]idx\d-[a-z]+)(\.gz)?$", name) is not None


def idx_items(file: File, choice: Choice) -> Iterator[Item]:
    """Yield slices along the first axis."""
    opened = file.open()
    with opened, gzip.open(opened) if file.name.endswith(".gz") else opened as stream:
        shape, dtype = _header(stream)
        # Labels lie beside images, and would be pixels.
        file.agrees("number of axes", len(shape))
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
