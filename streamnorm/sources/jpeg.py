"""JPEG by simplejpeg, in less than half of Pillow's time, where both give the same pixels.

Both are libjpeg-turbo with its accurate transform and smooth upsampling, and grey or YCbCr come out
the same in every bit. All else is left to Pillow: other colours, several frames, what is damaged,
and what is larger than Pillow's limit.
"""

from functools import cache
from typing import Any

from streamnorm.arrays import Array

__all__ = ["decoded", "is_jpeg", "version"]

_OWN = {"YCbCr": "RGB", "Gray": "L"}
_APP2, _SCAN, _FILL = 0xE2, 0xDA, 0xFF
_SPACES = {"RGB": "RGB", "L": "GRAY"}


@cache
def _simplejpeg() -> Any:
    try:
        import simplejpeg
    except ImportError:
        return None
    return simplejpeg


def version() -> str:
    """Return name and version of the library; "" where there is none."""
    from importlib import metadata

    return f"simplejpeg {metadata.version('simplejpeg')}" if _simplejpeg() else ""


def is_jpeg(name: str) -> bool:
    """Whether a file is to be read by this module, by its suffix."""
    return name.lower().endswith((".jpg", ".jpeg", ".jfif", ".jpe"))


def decoded(data: bytes, wanted: str | None, limit: int | None) -> tuple[Array, str] | None:
    """Decode, if that can be done as Pillow does.

    Parameters
    ----------
    data : bytes
        Of a file.
    wanted : str or None
        Pillow's name of the mode that is to come out.
    limit : int or None
        Pixels beyond which Pillow is to decide.

    Returns
    -------
    (array, own) or None
        uint8, shape (height, width, channels), and Pillow's name of the mode that the file has.
    """
    library = _simplejpeg()
    if library is None or data[:2] != b"\xff\xd8" or _has_frames(data):
        return None
    try:
        height, width, space, _ = library.decode_jpeg_header(data)
        own = _OWN.get(space)
        fits = wanted == "RGB" or own == wanted == "L"
        if own is None or not fits or (limit is not None and height * width > limit):
            return None
        return library.decode_jpeg(data, _SPACES[str(wanted)]), own
    except ValueError:
        return None


def _has_frames(data: bytes) -> bool:
    """Whether the segments before the pixels say that there are several pictures.

    CIPA DC-007 (2009), "Multi-Picture Format": an APP2 segment that begins with MPF.
    """
    at = 2
    while data[at : at + 1] == b"\xff" and data[at + 1] != _SCAN:
        if data[at + 1] == _FILL:
            at += 1
            continue
        if data[at + 1] == _APP2 and data[at + 4 : at + 8] == b"MPF\0":
            return True
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
        if at + 4 > len(data):
            return False
    return False
