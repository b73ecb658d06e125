"""Compiled: where a thread lays out a job, and helpers watch for it without Python.

To wake a sleeping thread takes 75 µs, a third of what a batch of 5 MB takes. Helpers therefore
watch the desk for a moment after each job, inside compiled code, and sleep only then. All a job
needs stands on the desk as addresses, so a helper takes part in it without the interpreter.

The desk is open for a job while its STATE is odd. A helper first says that it is ACTIVE and then
looks at STATE again; the owner first closes and then waits until nobody is active. One of the two
sees the other (both are sequentially consistent), so nobody reads what is no longer there.
"""

from typing import Any

import numpy as np

from streamnorm.arrays import Array
from streamnorm.kernels.compiled import jit, jit_part
from streamnorm.kernels.machine import (
    JIT_OFF,
    atomic_add,
    atomic_load,
    let_others,
    note_arrays,
    noted_arrays,
)

__all__ = [
    "ACTIVE",
    "DESK",
    "FOR",
    "MOST_HELPERS",
    "NO_DESK",
    "STATE",
    "clear",
    "leave",
    "offer",
    "taken",
    "watch",
]

# All helpers look at STATE: what others write is more than a cache line away.
STATE, HELPERS, KIND, HOW, ARRAYS, ACTIVE = 0, 8, 9, 10, 11, 32
FOR = slice(HELPERS, KIND + 1)
MOST_HELPERS = 64
DESK = ACTIVE + MOST_HELPERS
"""Words on a desk: STATE; whom the job is FOR, so how many may help, and its kernel and dtype; what
the kernel wants to know besides arrays; from ARRAYS on where those lie; and from ACTIVE on, for
every helper, whether it takes part."""
NO_DESK = np.zeros(0, np.int64)
_PATIENCE = 100 if JIT_OFF else 1000
"""Looks at the desk, about 0.3 µs each, before a helper goes to sleep."""


@jit_part
def offer(desk: Array, arrays: tuple[Array | None, ...], how: int) -> None:
    """Lay out a job, whose arrays must outlive it, and open the desk; without a desk do nothing."""
    if desk.size > 0:
        note_arrays(desk, ARRAYS, arrays)
        desk[HOW] = how
        atomic_add(desk, STATE, 1)


@jit
def clear(desk: Array) -> None:
    """Close the desk if it is open, and wait until nobody is active."""
    if desk.size > 0 and atomic_load(desk, STATE) % 2 == 1:
        atomic_add(desk, STATE, 1)
        # All, as one who was not asked may just be finding that out.
        for helper in range(MOST_HELPERS):
            while atomic_load(desk, ACTIVE + helper) != 0:
                let_others()


@jit_part
def watch(desk: Array, kind: int, helper: int, seen: int) -> int:
    """Wait a while for a job of a kind, other than the one `seen`, and take part in it.

    Gives its state, or 0 if none came that this helper can take part in.
    """
    for _ in range(_PATIENCE):
        job: int = atomic_load(desk, STATE)
        if job != seen and job % 2 == 1:
            atomic_add(desk, ACTIVE + helper, 1)
            if atomic_load(desk, STATE) == job and desk[KIND] == kind and helper < desk[HELPERS]:
                return job
            same_kind = desk[KIND] == kind
            leave(desk, helper)
            if not same_kind:
                # Of the kind that it is, another function helps; the thread goes and calls it.
                return 0
            seen = job
        let_others()
    return 0


@jit_part
def leave(desk: Array, helper: int) -> None:
    """Take part in a job no longer."""
    atomic_add(desk, ACTIVE + helper, -1)


@jit_part
def taken(desk: Array, like: tuple[Array | None, ...]) -> tuple[tuple[Any, ...], int]:
    """Return what was offered; `like` are arrays of the same types."""
    return noted_arrays(desk, ARRAYS, like), desk[HOW]
