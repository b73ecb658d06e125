"""GeoTIFF, by rasterio: bands with what each of them declares missing."""

import threading
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from streamnorm.sources.items import ITEM_VALUES, Choice, Item, Reading
from streamnorm.sources.needs import needed
from streamnorm.sources.places import File

__all__ = ["raster_items"]


class _Raster(NamedTuple):
    """A raster that is open, which is not for several threads; the memory it is in lives with it.

    What rasterio opens in memory does not keep that memory itself.
    """

    opened: Any
    held: Any
    bands: list[int]
    names: tuple[str, ...] | None
    turn: threading.Lock


def raster_items(file: File, choice: Choice) -> Iterator[Item]:
    """Yield a raster window by window, all bands at once."""
    rasterio = needed("rasterio", "geo", file.name)
    # What is not a local file must be read as a whole.
    held = None if file.local else rasterio.io.MemoryFile(file.place.read(file.name))
    opened = rasterio.open(file.path) if held is None else held.open()
    alpha = rasterio.enums.ColorInterp.alpha
    # What is transparent is in the mask; it is no channel.
    bands = [
        band
        for band, meaning in zip(opened.indexes, opened.colorinterp, strict=True)
        if meaning != alpha
    ]
    _note_meaning(file, opened, rasterio.enums.ColorInterp.palette)
    raster = _Raster(opened, held, bands, _names(opened, bands), threading.Lock())
    done, total = 0, opened.width * opened.height
    for rows, columns in _windows(opened, len(bands), choice):
        done += (rows[1] - rows[0]) * (columns[1] - columns[0])
        read = partial(_read, raster, (rows, columns), choice)
        yield Item(f"{file.name}, rows {rows[0]} to {rows[1]}", read, done / total)


def _names(opened: Any, bands: list[int]) -> tuple[str, ...] | None:
    """Return the descriptions of bands, if each has one of its own."""
    names = tuple(opened.descriptions[band - 1] or "" for band in bands)
    return names if all(names) and len(set(names)) == len(names) else None


def _note_meaning(file: File, opened: Any, palette: Any) -> None:
    """Warn once where the stored values are not what they mean; refuse two meanings together."""
    file.agrees("number of bands", opened.count)
    packing = (opened.scales, opened.offsets)
    file.agrees("scales and offsets of bands", packing)
    found = []
    if set(opened.scales) != {1.0} or set(opened.offsets) != {0.0}:
        found.append(f"has scales {opened.scales} and offsets {opened.offsets}")
    if palette in opened.colorinterp:
        found.append("has a palette")
    if found and not file.notes.warnings:
        file.notes.warnings.append(
            f"{file.name} {' and '.join(found)}: measured are the stored values, as rasterio reads "
            f"them"
        )


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


def _read(raster: _Raster, window: Any, choice: Choice) -> Reading:
    with raster.turn:
        found = raster.opened.read(raster.bands, window=window, masked=choice.declared)
    mask = ~np.ma.getmaskarray(found) if choice.declared else None
    return Reading(
        np.ma.getdata(found),
        None if mask is None or mask.all() else mask,
        names=raster.names,
    )
