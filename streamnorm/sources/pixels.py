"""The pixels of a picture as an array, where they lie.

To have Pillow copy them takes as long as to measure them. It hands its memory out by the Arrow C
data interface (https://arrow.apache.org/docs/format/CDataInterface.html): for "L" one byte a pixel,
for "RGB" four, of which the last means nothing.
"""

import ctypes
from typing import Any

import numpy as np

from streamnorm.arrays import Array

__all__ = ["pixels"]

_BYTES = {"L": 1, "RGB": 4}
_WORD = ctypes.c_int64


class _ArrowArray(ctypes.Structure):
    """The beginning of Arrow's struct of this name."""


_ArrowArray._fields_ = [
    *((name, _WORD) for name in ("length", "null_count", "offset", "n_buffers", "n_children")),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_ArrowArray))),
]

_address_in = ctypes.pythonapi.PyCapsule_GetPointer
_address_in.restype = ctypes.c_void_p
_address_in.argtypes = [ctypes.py_object, ctypes.c_char_p]


def pixels(picture: Any) -> Array:
    """View the pixels of a picture, loaded or not, or copy them where they cannot be viewed.

    Returns
    -------
    array, shape (height, width) or (height, width, channels)
        Read-only. It keeps the memory that it views.
    """
    picture.load()
    size = _BYTES.get(picture.mode)
    if size is None:
        return np.asarray(picture)
    try:
        _, capsule = picture.__arrow_c_array__()
    except ValueError:
        # Very large pictures lie in several pieces.
        return np.asarray(picture)
    array = _ArrowArray.from_address(_address_in(capsule, b"arrow_array"))
    values = array.children[0].contents if array.n_children else array
    memory = (ctypes.c_uint8 * values.length).from_address(values.buffers[1])
    # Arrow's array is released with the capsule, the view's memory with the view.
    memory.owner = capsule
    view = np.frombuffer(memory, np.uint8).reshape(picture.height, picture.width, size)
    view.flags.writeable = False
    return view[:, :, 0] if size == 1 else view[:, :, :3]
