"""Compiled: how a thread that watches a desk helps with jobs of one kernel."""

from collections.abc import Callable
from types import FunctionType
from typing import Any

from streamnorm.arrays import Array
from streamnorm.kernels.compiled import jit
from streamnorm.kernels.desk import leave, taken, watch

__all__ = ["serve_by"]


def serve_by(measure_boxes: Callable[..., None], name: str) -> Callable[..., int]:
    """Compile `_serve` for one kernel.

    The function is made anew, with the kernel among its globals: Numba finds nothing again in its
    cache that has the kernel in a closure.
    """
    serve: Any = FunctionType(_serve.__code__, globals() | {"measure_boxes": measure_boxes})
    serve.__qualname__ = f"serve_{name}"
    compiled: Callable[..., int] = jit(serve)
    return compiled


def _serve(
    x: Array, mask: Array | None, boxes: Array, owners: Array, turn: Array, flip: int,
    omit: bool | None, rows: Array, desk: Array, kind: int, helper: int, seen: int,
) -> int:  # fmt: skip
    """Help with jobs on a desk until none has come for a while; gives the state of the last one.

    Parameters
    ----------
    x, mask, boxes, owners, turn, flip, omit, rows
        Of the types that `measure_boxes` takes; their values are not looked at.
    desk, kind, helper, seen
        As for `streamnorm.kernels.desk.watch`.
    """
    job = watch(desk, kind, helper, seen)
    while job != 0:
        arrays, how = taken(desk, (x, mask, boxes, owners, turn, rows))
        job_x, job_mask, job_boxes, job_owners, job_turn, job_rows = arrays
        job_omit = None if omit is None else how != 0
        measure_boxes(  # type: ignore[name-defined]  # noqa: F821
            job_x,
            job_mask,
            job_boxes,
            job_owners,
            job_turn,
            how,
            job_omit,
            job_rows,
            desk[:0],
            helper + 1,
        )
        leave(desk, helper)
        seen = job
        job = watch(desk, kind, helper, seen)
    return seen
