"""How kernels are compiled, and the merge formula in its compiled form."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

from streamnorm import running
from streamnorm.arrays import Array
from streamnorm.kernels.loops import in_a_tree, over_channels, over_records
from streamnorm.kernels.machine import keep, pointer
from streamnorm.partial import PARTIAL, Partial, mean_formula, pair_formula

__all__ = ["jit", "jit_inner", "jit_part", "merge_into", "merge_rows", "merge_tree", "step"]

_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
"""No fastmath anywhere: NaN tests would vanish, and sums be regrouped across subtractions."""

_OPTIONS_OF_PARTS = _OPTIONS | {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}

_F = TypeVar("_F", bound=Callable[..., Any])


def jit(function: _F) -> _F:
    """Compile without the GIL, single-threaded, IEEE division; cached on disk where that works."""
    try:
        return cast("_F", numba.njit(function, cache=True, **_OPTIONS))
    except RuntimeError:
        # Numba has no folder to write to: neither beside the source nor in the home directory.
        return cast("_F", numba.njit(function, **_OPTIONS))


def jit_part(function: _F) -> _F:
    """Compile a part of kernels, which Python never calls: without the wrapper for that.

    It is compiled into the kernels that call it, and cached with them.
    """
    return cast("_F", numba.njit(function, **_OPTIONS_OF_PARTS))


def jit_inner(function: _F) -> _F:
    """Compile the inner part of a loop, always into its caller.

    A call that LLVM leaves a call is linked, in the process that compiled it, to the copy that was
    compiled first and by itself; that one knows nothing of the caller and has read float32 from
    memory at 9 GB/s instead of 16, while processes that took the kernel from the cache were quick.
    """
    return cast("_F", numba.njit(function, forceinline=True, **_OPTIONS_OF_PARTS))


def _pair(select: Callable[..., Any]) -> Callable[..., tuple[Any, ...]]:
    return pair_formula(select, mean_formula(select))


merge_tree = in_a_tree(_pair, PARTIAL)
_merge_records = over_records(_pair, PARTIAL)
_advance = over_channels(running.advance)


@jit
def merge_rows(rows: Partial) -> None:
    """Merge contiguous rows, (P, C), into the first, in the tree of `partial.merge_tree`."""
    merge_tree(pointer(rows), *rows.shape)


@jit
def merge_into(total: Partial, rows: Partial) -> None:
    """Merge `rows` into `total` in place, ``total + rows``, both contiguous and of shape (C,)."""
    _merge_records(pointer(total), pointer(rows), total.size)


@jit
def step(rows: Partial, book: Array, statistics: Array, made: Array) -> None:
    """Advance a book, contiguous, by a batch, (C,), and publish the total, (6, C).

    And make what to normalize with, float32 (3, C): the mean, what is left of it, and the std. All
    in one, as to call a function takes longer than what it does.
    """
    batch, size = running.BATCH.start, running.BATCH.stop - running.BATCH.start
    for c in range(rows.size):
        row = rows[c]
        book[batch, c] = row["count"]
        book[batch + 1, c], book[batch + 2, c] = row["mean"], row["m2"]
        book[batch + 3, c], book[batch + 4, c] = row["minimum"], row["maximum"]
        book[batch + 5, c] = row["omitted"]
    _advance(pointer(book), book.shape[1])
    keep(book)
    for c in range(rows.size):
        for field in range(size):
            statistics[field, c] = book[running.TOTAL.start + field, c]
        center = book[running.CENTER, c]
        made[0, c] = center
        made[1, c] = center - np.float64(made[0, c])
        made[2, c] = np.sqrt(book[running.VARIANCE, c])
