"""What is at a path, or what an object is -> its source."""

import itertools
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from streamnorm.arrays import type_name
from streamnorm.sources import tiff
from streamnorm.sources.arrays import from_array
from streamnorm.sources.formats import FORMATS, GEOTIFF, IMAGES, ZARR, Format, format_of
from streamnorm.sources.frames import from_frame, is_frame
from streamnorm.sources.items import Choice, Source
from streamnorm.sources.iterables import from_iterable, from_loader, is_loader
from streamnorm.sources.places import Files, Place, is_hidden, is_url, place_of
from streamnorm.sources.xarrays import from_xarray, is_xarray
from streamnorm.sources.zarrs import is_zarr

__all__ = ["open_source"]


def open_source(source: Any, choice: Choice) -> Source:
    """Recognise a source.

    Raises
    ------
    FileNotFoundError
        If a path does not exist, or a glob matches nothing.
    TypeError
        If it is nothing that can be read.
    ValueError
        If a file's kind is not known, or the files are of several kinds.
    """
    if isinstance(source, str | os.PathLike):
        return _open_path(os.fspath(source), choice)
    if is_loader(source):
        return from_loader(source, choice)
    if is_xarray(source):
        return from_xarray(source, choice)
    if is_frame(source):
        return from_frame(source, choice)
    if hasattr(source, "__array__") or hasattr(source, "__dlpack__"):
        return from_array(source, choice)
    if isinstance(source, list | tuple) and source and isinstance(source[0], str | os.PathLike):
        return _open_list([os.fspath(path) for path in source], choice)
    if isinstance(source, Iterable) and not isinstance(source, Mapping | bytes):
        return _open_iterable(source, choice)
    msg = (
        f"cannot read a {type_name(source)}; expected a path, a list of paths, an array (one "
        f"at a time), a table, a DataLoader or an iterable of arrays"
    )
    raise TypeError(msg)


def _open_iterable(source: Iterable[Any], choice: Choice) -> Source:
    """Look at the first item: an iterator of paths, such as Path.glob gives, is a list of files."""
    name = type_name(source)
    if isinstance(source, Iterator):
        for first in source:
            rest = itertools.chain([first], source)
            if isinstance(first, str | os.PathLike):
                return open_source(sorted(map(os.fspath, rest)), choice)
            return from_iterable(rest, choice, name)
    return from_iterable(source, choice, name)


def _open_path(path: str, choice: Choice) -> Source:
    place, name = place_of(path)
    if place.is_folder(name):
        if is_zarr(place, name):
            return ZARR.open(Files(place, [name], path), choice)
        return _open_folder(Place(name, place.system), path, choice)
    if place.exists(name):
        return _open_files(Files(place, [name], path), choice)
    found = place.matching(name)
    if not found:
        msg = f"{path} does not exist" + ("" if is_url(path) else f" (in {os.getcwd()})")
        raise FileNotFoundError(msg)
    return _open_files(Files(place, found, path), choice)


def _open_list(paths: list[str], choice: Choice) -> Source:
    found = list(map(place_of, paths))
    places = {place.system: place for place, _ in found}
    if len(places) > 1:
        msg = f"{paths[0]} and others lie in different places; pass those of one place at a time"
        raise ValueError(msg)
    (place,) = places.values()
    return _open_files(Files(place, [name for _, name in found], f"{len(paths)} files"), choice)


def _open_folder(place: Place, path: str, choice: Choice) -> Source:
    """Read the images below a folder, or what else is there of one format only."""
    names = sorted(place.walk())
    known_names = [(name, known.name) for name in names if (known := _visible(name))]
    kinds = Counter(kind for _, kind in known_names)
    if not kinds:
        what = ", ".join(known.name for known in FORMATS)
        msg = (
            f"no images in {path}, and nothing else to read: none of its {len(names)} files is one "
            f"of {what}"
        )
        raise ValueError(msg)
    if IMAGES.name not in kinds and len(kinds) > 1:
        what = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
        msg = f"{path} holds files of several formats ({what}); pass one kind, as '{path}/**/*.csv'"
        raise ValueError(msg)
    chosen = IMAGES.name if IMAGES.name in kinds else next(iter(kinds))
    read = [name for name, kind in known_names if kind == chosen]
    files = Files(place, read, path, len(names) - len(read))
    return _format(files).open(files, choice)


def _visible(name: str) -> Format | None:
    """Return the format of a file below a folder; hidden ones are the system's."""
    return None if is_hidden(name) else format_of(name)


def _open_files(files: Files, choice: Choice) -> Source:
    place = files.place
    for name in files.names:
        if not place.exists(name):
            msg = f"{name} does not exist" + (f" (in {os.getcwd()})" if not place.system else "")
            raise FileNotFoundError(msg)
    folders = [name for name in files.names if place.is_folder(name)]
    if folders and not all(is_zarr(place, name) for name in files.names):
        msg = f"{folders[0]} is a folder; pass one folder at a time, and merge the results"
        raise ValueError(msg)
    real = [os.path.realpath(name) if place.system is None else name for name in files.names]
    if len(set(real)) < len(real):
        twice = next(
            file for file, path in zip(files.names, real, strict=True) if real.count(path) > 1
        )
        msg = f"{twice} is named twice, so it would be counted twice; name each file once"
        raise ValueError(msg)
    if folders:
        return ZARR.open(files, choice)
    return _format(files).open(files, choice)


def _format(files: Files) -> Format:
    """Return the one format that all files are of.

    Raises
    ------
    ValueError
        If a file's is not known, or there are several.
    """
    formats = [format_of(name) for name in files.names]
    unknown = [name for name, known in zip(files.names, formats, strict=True) if known is None]
    if unknown:
        known = ", ".join(known.name for known in FORMATS)
        msg = (
            f"{unknown[0]}: its name is that of no format that can be read ({known}); read it with "
            f"its own library and pass the arrays"
        )
        raise ValueError(msg)
    first = formats[0]
    assert first is not None  # noqa: S101 - none is unknown
    others = [n for n, known in zip(files.names, formats, strict=True) if known is not first]
    if others:
        msg = f"{others[0]}: expected files of one kind, as {files.names[0]} is {first.name}"
        raise ValueError(msg)
    # One that is a map among pictures is refused when it is read; to look into all takes long.
    maps = first is IMAGES and all(map(GEOTIFF.is_format_of, files.names))
    return GEOTIFF if maps and tiff.is_map(files.place, files.names[0]) else first
