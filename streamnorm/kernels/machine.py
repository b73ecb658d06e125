"""Words of the machine that Numba does not have: pointers, and words that threads share."""

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import config, types
from numba.extending import intrinsic

from streamnorm.arrays import Array

__all__ = ["JIT_OFF", "LINE", "claim", "item", "padded", "pointer", "view"]

# Numba's settings are attributes made at run time.
JIT_OFF = bool(vars(config)["DISABLE_JIT"])
LINE = 64
"""Bytes of a cache line."""

_INDEX = ir.IntType(64)


@intrinsic
def _claim(_: Any, counter: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.atomic_rmw("add", data, _INDEX(1), "monotonic")

    return types.int64(counter), generate


def _claim_plainly(counter: Array) -> int:
    """Return ``counter[0]`` and add one to it, as one step for all threads."""
    taken = int(counter[0])
    counter[0] += 1
    return taken


@intrinsic
def _pointer(_: Any, array: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.make_array(signature.args[0])(context, builder, arguments[0]).data

    return types.CPointer(array.dtype)(array), generate  # type: ignore[no-untyped-call]


def _pointer_plainly(array: Array) -> Array:
    """Return where the values of a contiguous `array` begin.

    Numba counts references to arrays whenever it hands one on, atomically, and every load under way
    is waited for then. Pointers cost nothing; the array must outlive them.
    """
    return array.reshape(-1)


@intrinsic
def _item(_: Any, pointer: Any, index: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = builder.load(builder.gep(arguments[0], arguments[1:]))
        return context.data_model_manager[pointer.dtype].from_data(builder, value)

    return pointer.dtype(pointer, types.int64), generate


def _item_plainly(pointer: Array, index: int) -> Any:
    """Return the value at `index` behind a pointer."""
    return pointer[index]


def _view_plainly(pointer: Array, shape: tuple[int, ...]) -> Array:
    """Return the values behind a pointer as an array that counts no references."""
    return pointer[: np.prod(shape)].reshape(shape)


def padded(x: Array, at: int, step: int, rows: int, width: int, lanes: int) -> Array:
    """Copy rows of `width` values, each padded with zeros to `lanes`; for plain Python only."""
    copy = np.zeros((rows, lanes), x.dtype)
    for r in range(rows):
        copy[r, :width] = x[at + r * step :][:width]
    return copy.ravel()


claim: Any = _claim_plainly if JIT_OFF else _claim
pointer: Any = _pointer_plainly if JIT_OFF else _pointer
item: Any = _item_plainly if JIT_OFF else _item
view: Any = _view_plainly if JIT_OFF else vars(numba)["carray"]
