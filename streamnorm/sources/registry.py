"""What is at a path, or what an object is -> its source."""

import glob
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from streamnorm.arrays import type_name
from streamnorm.layout import ChannelAxis
from streamnorm.sources.arrays import from_array
from streamnorm.sources.images import from_folder, from_image_files, is_image
from streamnorm.sources.items import Choice, Source
from streamnorm.sources.iterables import from_iterable, from_loader, is_loader
from streamnorm.sources.numpy_files import from_npy, from_npy_files, from_npz

__all__ = ["open_source"]


def open_source(source: Any, channel_axis: ChannelAxis | str, choice: Choice) -> Source:
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
        return _open_path(os.fspath(source), channel_axis, choice)
    if is_loader(source):
        return from_loader(source, choice)
    if hasattr(source, "__array__") or hasattr(source, "__dlpack__"):
        return from_array(source, channel_axis, choice)
    if isinstance(source, list | tuple) and source and isinstance(source[0], str | os.PathLike):
        files = [os.fspath(path) for path in source]
        return _open_files(files, f"{len(files)} files", channel_axis, choice)
    if isinstance(source, Iterable) and not isinstance(source, Mapping | bytes):
        return _open_iterable(source, channel_axis, choice)
    msg = (
        f"cannot read a {type_name(source)}; expected a path, a list of paths, an array (one "
        f"at a time), a DataLoader or an iterable of arrays"
    )
    raise TypeError(msg)


def _open_iterable(
    source: Iterable[Any], channel_axis: ChannelAxis | str, choice: Choice
) -> Source:
    """Look at the first item: an iterator of paths, such as Path.glob gives, is a list of files."""
    name = type_name(source)
    if isinstance(source, Iterator):
        for first in source:
            rest = itertools.chain([first], source)
            if isinstance(first, str | os.PathLike):
                return open_source(sorted(map(os.fspath, rest)), channel_axis, choice)
            return from_iterable(rest, choice, name)
    return from_iterable(source, choice, name)


def _open_path(path: str, channel_axis: ChannelAxis | str, choice: Choice) -> Source:
    if os.path.isdir(path):
        return from_folder(Path(path), choice)
    if not os.path.exists(path):
        found = sorted(glob.glob(path, recursive=True)) if glob.has_magic(path) else []
        if not found:
            msg = f"{path} does not exist (in {os.getcwd()})"
            raise FileNotFoundError(msg)
        return _open_files(found, path, channel_axis, choice)
    if path.endswith(".npz"):
        return from_npz(Path(path), channel_axis, choice)
    return _open_files([path], path, channel_axis, choice)


def _open_files(
    files: list[str], name: str, channel_axis: ChannelAxis | str, choice: Choice
) -> Source:
    for file in files:
        if not os.path.exists(file):
            msg = f"{file} does not exist (in {os.getcwd()})"
            raise FileNotFoundError(msg)
        if os.path.isdir(file):
            msg = f"{file} is a folder; pass one folder at a time, and merge the results"
            raise ValueError(msg)
    if len(set(map(os.path.realpath, files))) < len(files):
        real = [os.path.realpath(file) for file in files]
        twice = next(file for file, path in zip(files, real, strict=True) if real.count(path) > 1)
        msg = f"{twice} is named twice, so it would be counted twice; name each file once"
        raise ValueError(msg)
    if all(map(is_image, files)):
        return from_image_files(files, name, choice)
    if all(file.endswith(".npy") for file in files):
        if len(files) == 1:
            return from_npy(Path(files[0]), channel_axis, choice)
        return from_npy_files(files, channel_axis, choice)
    unknown = [file for file in files if not (file.endswith(".npy") or is_image(file))]
    odd = unknown[0] if unknown else files[-1]
    msg = (
        f"{odd}: expected files of one kind, images or .npy, or a single .npz file; read others "
        f"with their own library and pass the arrays"
    )
    raise ValueError(msg)
