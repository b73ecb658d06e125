"""NIfTI volumes, by nibabel; scaled at the end, as their headers say."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from math import isnan, prod

from streamnorm.sources.items import ITEM_VALUES, Choice, Item, Packing, Reading
from streamnorm.sources.needs import needed
from streamnorm.sources.places import File

__all__ = ["nifti_items"]


def nifti_items(file: File, choice: Choice) -> Iterator[Item]:
    """Yield slices along the last axis, in which order they are stored."""
    library = needed("nibabel", "medical", file.name)
    with _local(file) as path:
        image = library.load(path)
        stored, shape = image.dataobj, image.shape
        header = (shape, stored.dtype, stored.offset, 1.0, 0.0)
        raw = library.arrayproxy.ArrayProxy(stored.file_like, header, keep_file_open=True)
        packing = _packing(stored.slope, stored.inter)
        step = max(1, ITEM_VALUES // max(prod(shape[:-1]), 1))
        step = shape[-1] if choice.by_sample else step
        for start in range(0, shape[-1], step):
            stop = min(start + step, shape[-1])
            # Read here: to seek in a compressed file is to read it again.
            array = raw[..., start:stop]
            name = f"{file.name}, slices {start} to {stop}"
            yield Item(name, partial(Reading, array, packing=packing), stop / shape[-1])


@contextmanager
def _local(file: File) -> Iterator[str]:
    """Give the path of a file here: nibabel knows the formats of its files by their names."""
    if file.local:
        yield file.path
        return
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, os.path.basename(file.name))
        with file.open() as source, open(path, "wb") as copy:
            shutil.copyfileobj(source, copy)
        yield path


def _packing(scale: float, offset: float) -> Packing | None:
    if isnan(scale) or scale == 0 or (scale, offset) == (1.0, 0.0):
        return None
    return float(scale), float(offset)
