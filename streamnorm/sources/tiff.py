"""Whether a TIFF is a map: what its first directory says, without any library."""

import struct
from typing import BinaryIO

from streamnorm.sources.places import Place

__all__ = ["MAP_TAGS", "is_map", "is_tiff"]

MAP_TAGS = frozenset({33550, 33922, 34264, 34735, 42112, 42113})
"""Pixel scale, tie points, transformation and keys (GeoTIFF); metadata and nodata (GDAL)."""
_SAMPLES = 277
_MOST_SAMPLES = 4
"""Bands of a picture; what has more is none."""


def is_tiff(name: str) -> bool:
    """Whether a file is a TIFF by its suffix."""
    return name.lower().endswith((".tif", ".tiff", ".geotiff", ".gtiff"))


def is_map(place: Place, name: str) -> bool:
    """Whether a TIFF says where on the Earth it is, which pixels are none, or has many bands."""
    try:
        with place.open(name) as stream:
            tags = _tags(stream)
    except (OSError, struct.error, ValueError):
        # What is broken speaks up when it is read.
        return False
    return bool(MAP_TAGS & set(tags)) or tags.get(_SAMPLES, 1) > _MOST_SAMPLES


def _tags(stream: BinaryIO) -> dict[int, int]:
    """Return the tags of the first directory, each with the first number beside it.

    TIFF 6.0 (Adobe, 1992), section 2; BigTIFF has longer words.
    """
    head = stream.read(16)
    order = {b"II": "<", b"MM": ">"}[head[:2]] if head[:2] in (b"II", b"MM") else ""
    if not order:
        msg = "it is no TIFF"
        raise ValueError(msg)
    big = struct.unpack(f"{order}H", head[2:4])[0] == 43
    start = struct.unpack(f"{order}Q", head[8:16]) if big else struct.unpack(f"{order}I", head[4:8])
    stream.seek(start[0])
    word, entry, at = ("Q", 20, 12) if big else ("H", 12, 8)
    (count,) = struct.unpack(order + word, stream.read(struct.calcsize(word)))
    directory = stream.read(entry * min(count, 4096))
    entries = [directory[i : i + entry] for i in range(0, len(directory), entry)]
    return {
        struct.unpack(f"{order}H", one[:2])[0]: struct.unpack(f"{order}H", one[at : at + 2])[0]
        for one in entries
    }
