"""Image files, decoded by Pillow: folders, lists and globs.

One rule for colour: if any image is in colour, all are read as RGB (grey repeated, palettes and
CMYK converted, alpha dropped); a folder of grey images has one channel. What was changed is counted
by kind. 16-bit stays 16-bit.
"""

import fnmatch
import os
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from streamnorm.arrays import Array
from streamnorm.sources.arrays import checked_indices
from streamnorm.sources.items import Choice, Item, Reading, Source, inputs_of
from streamnorm.sources.pixels import pixels

__all__ = ["SUFFIXES", "from_folder", "from_image_files", "is_image"]

_NAMES = "avif bmp gif jfif jp2 jpe jpeg jpg pbm pgm png pnm ppm tga tif tiff webp"
SUFFIXES = frozenset(f".{name}" for name in _NAMES.split(" "))
_GREY = frozenset({"1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
_DEEP = frozenset({"I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
_CHANGE = {
    "1": "bilevel to grey",
    "L": "grey repeated",
    "LA": "alpha dropped",
    "La": "alpha dropped",
    "P": "palette converted",
    "PA": "palette converted",
    "CMYK": "CMYK converted",
    "RGBA": "alpha dropped",
    "RGBa": "alpha dropped",
    "RGBX": "alpha dropped",
}


def is_image(name: str) -> bool:
    """Whether a file is an image by its suffix; hidden ones are the system's, not the user's.

    In a folder: ``._photo.jpg``, ``.ipynb_checkpoints/photo.jpg``.
    """
    hidden = name.startswith(".") or f"{os.sep}." in name or "__MACOSX" in name
    return os.path.splitext(name)[1].lower() in SUFFIXES and not hidden


def from_folder(folder: Path, choice: Choice) -> Source:
    """Read all images below a folder, in the order of their names.

    Raises
    ------
    ValueError
        If there are none.
    """
    files = sorted(_walk(folder))
    images = [name for name in files if is_image(name) and _wanted(name, choice)]
    if not images:
        msg = f"no images in {folder}"
        if arrays := sum(name.endswith(".npy") for name in files):
            msg += f", but {arrays} .npy file(s); pass '{folder}/**/*.npy'"
        elif any(map(is_image, files)):
            msg += " that include= and exclude= leave"
        else:
            msg += f": none of its {len(files)} files has an image suffix ({_NAMES})"
        raise ValueError(msg)
    return _source(str(folder), images, choice, len(files) - len(images), str(folder))


def from_image_files(paths: list[str], name: str, choice: Choice) -> Source:
    """Read the images named, in the order given."""
    wanted = [path for path in paths if _wanted(path, choice)]
    return _source(name, wanted, choice, len(paths) - len(wanted), "")


def _source(name: str, files: list[str], choice: Choice, ignored: int, root: str) -> Source:
    choice.refuse("image files", "select")
    if choice.indices is not None:
        files = [files[i] for i in checked_indices(choice.indices, len(files))]
    mode = choice.mode
    if mode is not None and mode not in _pillow().MODES:
        msg = f"mode must be one of Pillow's, {', '.join(_pillow().MODES)}; got {mode!r}"
        raise ValueError(msg)
    if mode is None and any(_in_colour(os.path.join(root, file)) for file in files):
        mode = "auto RGB"
    items = (Item(file, partial(_read, os.path.join(root, file), mode)) for file in files)
    return Source(
        name,
        "image files",
        items,
        len(files),
        lambda _: -1,
        _decoder(),
        ignored,
        one_kind=True,
        group=16,
        inputs=partial(inputs_of, files, root, colours=mode),
    )


def _walk(folder: Path) -> Iterator[str]:
    """Yield every file below `folder`, by its path from there; a linked folder is entered once."""
    seen = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=_raise):
        status = os.stat(parent)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders.sort()
        inside = os.path.relpath(parent, folder)
        for name in files:
            yield os.path.normpath(os.path.join(inside, name))


def _raise(error: OSError) -> None:
    raise error


def _wanted(name: str, choice: Choice) -> bool:
    included = not choice.include or any(_matches(name, glob) for glob in choice.include)
    return included and not any(_matches(name, glob) for glob in choice.exclude)


def _matches(name: str, glob: str) -> bool:
    """Match a path; a folder stands for what is below it, and ``**/`` for no folder too."""
    globs = (glob, glob.removeprefix("**/"), f"{glob.rstrip('/')}/*")
    return any(fnmatch.fnmatch(name, pattern) for pattern in globs)


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        msg = "reading images needs Pillow; install it with: pip install 'streamnorm[images]'"
        raise ImportError(msg) from error
    return Image


def _decoder() -> str:
    from PIL import __version__, features

    parts = ("libjpeg_turbo", "jpg", "zlib")
    versions = [f"{part} {v}" for part in parts if (v := features.version(part))]
    return f"Pillow {__version__} ({', '.join(versions)})"


def _in_colour(path: str) -> bool:
    """Whether the header says colour; a broken file speaks up when it is read."""
    image = _pillow()
    try:
        with image.open(path) as header:
            return header.mode not in _GREY
    except Exception:  # noqa: BLE001 - bombs and broken headers of every kind: reading names them
        return False


def _read(path: str, mode: str | None) -> Reading:
    with _pillow().open(path) as picture:
        _refuse_cut_depth(picture, mode)
        changes = ["first frame of several"] if getattr(picture, "n_frames", 1) > 1 else []
        target = _target(picture.mode, mode)
        if target != picture.mode:
            changes.append(_CHANGE.get(picture.mode, f"{picture.mode} converted"))
            if mode not in (None, "auto RGB"):
                changes[-1] = f"{picture.mode} to {mode}"
            array = _array_of(picture.convert(target))
        else:
            array = _array_of(picture)
        # Pillow gives 16-bit PGM as 32-bit integers.
        if picture.format == "PPM" and array.dtype == np.int32:
            array = array.astype(np.uint16)
    return Reading(array if array.ndim == 3 else array[:, :, None], tuple(changes))


def _array_of(picture: Any) -> Array:
    return pixels(picture) if _hands_out_memory() else np.asarray(picture)


@cache
def _hands_out_memory() -> bool:
    """Whether this Pillow's Arrow interface can be trusted.

    Before 13.0 it followed a null pointer for grey pictures that are mapped from their file, and
    11.2.1 kept the pixels of every picture for ever.
    """
    return int(_pillow().__version__.partition(".")[0]) >= 13


def _target(own: str, mode: str | None) -> str:
    if mode == "auto RGB":
        # Deep images stay what they are; beside 8-bit ones that is an error further on.
        return own if own in _DEEP else "RGB"
    if mode is not None:
        return mode
    return own if own in _DEEP else "L"


def _refuse_cut_depth(picture: Any, mode: str | None) -> None:
    """Refuse more than 8 bits where Pillow would clip or cut them to 8 without a word."""
    own = picture.mode
    if own in _DEEP:
        if mode not in (None, "auto RGB", own) and mode not in _DEEP:
            msg = f"mode={mode} would clip its {own} pixels at 255; scale them with transform="
            raise ValueError(msg)
        return
    # A tile ends with the decoder's arguments: the raw mode, or for PPM the largest value.
    arguments = [argument for tile in picture.tile for argument in _flat(tile[3])]
    deep = any(
        (";16" in argument)
        if isinstance(argument, str)
        else picture.format == "PPM" and argument > 255
        for argument in arguments
        if isinstance(argument, str | int)
    )
    if deep and mode in (None, "auto RGB"):
        msg = (
            "16-bit colour, which Pillow would cut to 8 bits; read it with another library and "
            "pass the arrays, or pass mode='RGB' to accept 8 bits"
        )
        raise ValueError(msg)


def _flat(arguments: Any) -> tuple[Any, ...]:
    return arguments if isinstance(arguments, tuple) else (arguments,)
