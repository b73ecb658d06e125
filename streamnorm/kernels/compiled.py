"""How kernels are compiled, and the merge formula in its compiled form."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

from streamnorm.partial import Partial, pair_formula

__all__ = ["SUMS", "add_fields", "jit", "jit_inner", "merge_into", "merge_rows"]

SUMS = frozenset({"reassoc", "contract", "nsz"})
"""fastmath flags for innermost sums only; never ``nnan`` or ``ninf``: NaN tests would vanish."""

_F = TypeVar("_F", bound=Callable[..., Any])


def jit(function: _F, *, fastmath: frozenset[str] = frozenset(), cache: bool = True) -> _F:
    """Compile without the GIL, single-threaded, IEEE division; cached on disk where that works."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": set(fastmath)}
    try:
        return cast("_F", numba.njit(function, cache=cache, **options))
    except RuntimeError:
        # Numba has no folder to write to: neither beside the source nor in the home directory.
        return cast("_F", numba.njit(function, **options))


def jit_inner(function: _F) -> _F:
    """Compile as `jit` does, but into the functions that call it, which are cached."""
    return cast("_F", numba.njit(function, nogil=True, error_model="numpy", inline="always"))


def _choose(condition: Any, if_true: Any, if_false: Any) -> Any:
    return if_true if condition else if_false


# Closures are not cached by themselves; they are compiled into the cached kernels that call them.
merge_one = jit(pair_formula(jit(_choose, cache=False)), cache=False)


@jit
def add_fields(row: Any, n: Any, mean: Any, m2: Any, lo: Any, hi: Any, om: Any) -> None:
    """Merge the six fields of a partial result into one channel's `row` in place."""
    n, mean, m2, lo, hi, om = merge_one(
        row["count"], row["mean"], row["m2"], row["minimum"], row["maximum"], row["omitted"],
        n, mean, m2, lo, hi, om,
    )  # fmt: skip
    row["count"] = n
    row["mean"] = mean
    row["m2"] = m2
    row["minimum"] = lo
    row["maximum"] = hi
    row["omitted"] = om


@jit
def merge_into(total: Partial, rows: Partial) -> None:
    """Merge `rows` into `total` in place, ``total + rows``, both of shape (C,)."""
    for c in range(total.size):
        b = rows[c]
        add_fields(
            total[c], b["count"], b["mean"], b["m2"], b["minimum"], b["maximum"], b["omitted"]
        )


@jit
def merge_rows(rows: Partial) -> None:
    """Merge the rows of shape (P, C) into the first, in the tree of `partial.merge_tree`."""
    stride = 1
    while stride < len(rows):
        for i in range(0, len(rows) - stride, 2 * stride):
            merge_into(rows[i], rows[i + stride])
        stride *= 2
