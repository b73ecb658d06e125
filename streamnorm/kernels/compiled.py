"""How kernels are compiled, and the merge formula in its compiled form."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

from streamnorm.kernels.traced import traced
from streamnorm.partial import Partial, mean_formula, pair_formula

__all__ = ["jit", "jit_inner", "jit_part", "merge_into", "merge_rows", "merge_tree"]

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


_merge_pair = traced(lambda select: pair_formula(select, mean_formula(select)))


def _merge_into(total: Partial, rows: Partial) -> None:
    """Merge `rows` into `total` in place, ``total + rows``, both of shape (C,)."""
    for c in range(total.size):
        a = total[c]
        b = rows[c]
        n, mean, m2, lo, hi, om = _merge_pair(
            a["count"], a["mean"], a["m2"], a["minimum"], a["maximum"], a["omitted"],
            b["count"], b["mean"], b["m2"], b["minimum"], b["maximum"], b["omitted"],
        )  # fmt: skip
        a["count"] = n
        a["mean"] = mean
        a["m2"] = m2
        a["minimum"] = lo
        a["maximum"] = hi
        a["omitted"] = om


merge_into = jit(_merge_into)
_merge_part = jit_part(_merge_into)


def _merge_tree(rows: Partial) -> None:
    """Merge the rows of shape (P, C) into the first, in the tree of `partial.merge_tree`."""
    stride = 1
    while stride < len(rows):
        for i in range(0, len(rows) - stride, 2 * stride):
            _merge_part(rows[i], rows[i + stride])
        stride *= 2


merge_rows = jit(_merge_tree)
merge_tree = jit_part(_merge_tree)
