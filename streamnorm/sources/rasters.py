"""GeoTIFF, by rasterio: bands with what each of them declares missing."""

import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from streamnorm.sources.items import ITEM_VALUES, Choice, Item, Reading
from streamnorm.sources.needs import needed
from streamnorm.sources.places import File

__all__ = ["raster_items"]


def raster_items(file: File, choice: Choice) -> Iterator[Item]:
    """Yield a raster window by window, all bands at once."""
    rasterio = needed("rasterio", "geo", file.name)
    opener = None if file.local else file.place.system.open
    opened = rasterio.open(file.path, opener=opener)
    alpha = rasterio.enums.ColorInterp.alpha
    # What is transparent is in the mask; it is no channel.
    bands = [
        band
        for band, meaning in zip(opened.indexes, opened.colorinterp, strict=True)
        if meaning != alpha
    ]
    _note_packing(file, opened)
    # A raster that is open is not for several threads.
    turn = threading.Lock()
    done, total = 0, opened.width * opened.height
    for rows, columns in _windows(opened, len(bands), choice):
        done += (rows[1] - rows[0]) * (columns[1] - columns[0])
        read = partial(_read, opened, bands, (rows, columns), choice, turn)
        yield Item(f"{file.name}, rows {rows[0]} to {rows[1]}", read, done / total)


def _note_packing(file: File, opened: Any) -> None:
    packed = set(opened.scales) != {1.0} or set(opened.offsets) != {0.0}
    note = (
        f"{file.name} has scales {opened.scales} and offsets {opened.offsets}: measured are the "
        f"stored values, as rasterio reads them; scale them with .affine(…)"
    )
    if packed and not any("as rasterio reads them" in other for other in file.notes):
        file.notes.append(note)


def _windows(
    opened: Any, bands: int, choice: Choice
) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Cut along the blocks in which it is stored, in about so many values."""
    height, width = opened.block_shapes[0]
    most = max(1, ITEM_VALUES // bands)
    columns = max(1, min(-(-opened.width // width), most // (height * width)))
    rows = max(1, most // (height * min(columns * width, opened.width)))
    down, across = rows * height, columns * width
    if choice.by_sample:
        down, across = opened.height, opened.width
    for top in range(0, opened.height, down):
        for left in range(0, opened.width, across):
            bottom, right = min(top + down, opened.height), min(left + across, opened.width)
            yield (top, bottom), (left, right)


def _read(
    opened: Any, bands: list[int], window: Any, choice: Choice, turn: threading.Lock
) -> Reading:
    with turn:
        found = opened.read(bands, window=window, masked=choice.declared)
    names = tuple(opened.descriptions[band - 1] or "" for band in bands)
    mask = ~np.ma.getmaskarray(found) if choice.declared else None
    return Reading(
        np.ma.getdata(found),
        None if mask is None or mask.all() else mask,
        names=names if all(names) and len(set(names)) == len(names) else None,
    )
