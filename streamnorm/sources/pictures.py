"""One picture, decoded by Pillow, or a JPEG by simplejpeg where that gives the same pixels.

One rule for colour: if any picture of a source is in colour, all are read as RGB (grey repeated,
palettes and CMYK converted, alpha dropped); a source of grey ones has one channel. What was changed
is counted by kind. 16-bit stays 16-bit.
"""

import os
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np

from streamnorm.arrays import Array
from streamnorm.sources import jpeg
from streamnorm.sources.items import Reading
from streamnorm.sources.needs import needed
from streamnorm.sources.pixels import pixels
from streamnorm.sources.places import File
from streamnorm.sources.tiff import MAP_TAGS

__all__ = [
    "SUFFIXES",
    "check_mode",
    "decoder",
    "in_colour",
    "is_image",
    "read_file",
    "read_picture",
]

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
    """Whether a file is an image by its suffix."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def check_mode(mode: str | None) -> None:
    """Refuse what is no mode of Pillow's.

    Raises
    ------
    ValueError
        With those that are.
    """
    if mode is not None and mode not in _pillow().MODES:
        msg = f"mode must be one of Pillow's, {', '.join(_pillow().MODES)}; got {mode!r}"
        raise ValueError(msg)


def decoder() -> str:
    """Return names and versions of what decodes."""
    from PIL import features

    parts = ("libjpeg_turbo", "jpg", "zlib")
    versions = [f"{part} {v}" for part in parts if (v := features.version(part))]
    pillow = f"Pillow {_pillow().__version__} ({', '.join(versions)})"
    return f"{fast}, {pillow}" if (fast := jpeg.version()) else pillow


def _pillow() -> Any:
    return needed("PIL.Image", "images", "images")


def in_colour(picture: str | BytesIO) -> bool:
    """Whether the header says colour; a broken one speaks up when it is read."""
    image = _pillow()
    try:
        with image.open(picture) as header:
            return header.mode not in _GREY
    except Exception:  # noqa: BLE001 - bombs and broken headers of every kind: reading names them
        return False


def read_file(file: File, mode: str | None) -> Reading:
    """Read one file."""
    if file.local and not jpeg.is_jpeg(file.name):
        return _decoded(file.path, mode)
    return read_picture(file.place.read(file.name), mode)


def read_picture(data: bytes, mode: str | None) -> Reading:
    """Read the bytes of a picture.

    Parameters
    ----------
    data : bytes
        Of a file.
    mode : str or None
        Pillow's name of a mode; "auto RGB" where another picture of the source is in colour.
    """
    wanted = {"auto RGB": "RGB", None: "L"}.get(mode, mode)
    found = jpeg.decoded(data, wanted, _pillow().MAX_IMAGE_PIXELS)
    if found is None:
        return _decoded(BytesIO(data), mode)
    array, own = found
    changed = () if own == wanted else (_CHANGE[own] if mode == "auto RGB" else f"{own} to {mode}",)
    return Reading(array, converted=changed)


def _decoded(picture_file: str | BytesIO, mode: str | None) -> Reading:
    with _pillow().open(picture_file) as picture:
        _refuse_maps(picture)
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
    return Reading(array if array.ndim == 3 else array[:, :, None], converted=tuple(changes))


def _refuse_maps(picture: Any) -> None:
    """Refuse a TIFF that is no picture: its nodata would count, its bands would get lost."""
    if picture.format != "TIFF":
        return
    if MAP_TAGS & set(picture.tag_v2):
        msg = (
            "it is a GeoTIFF, whose nodata Pillow would count as data; pass such files by "
            "themselves, and they are read by rasterio (pip install 'streamnorm[geo]')"
        )
        raise ValueError(msg)
    bands = picture.tag_v2.get(277, 1)
    if bands != len(picture.getbands()) and picture.mode not in ("P", "1"):
        msg = f"it has {bands} bands of which Pillow reads {len(picture.getbands())}; read it with "
        raise ValueError(msg + "another library, and pass the arrays")


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
