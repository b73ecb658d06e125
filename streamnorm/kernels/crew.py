"""Threads that help with compiled work: see `streamnorm.kernels.desk` for how they come to it."""

import atexit
import os
import threading
from collections.abc import Callable
from functools import cache
from queue import SimpleQueue
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numba.core.compiler_lock import global_compiler_lock

from streamnorm.arrays import Array
from streamnorm.interrupts import Interrupts
from streamnorm.kernels.desk import (
    ACTIVE,
    DESK,
    FOR,
    HELPERS,
    KIND,
    MOST_HELPERS,
    NO_DESK,
    STATE,
    clear,
)

__all__ = ["WORTH_HELPERS", "Job", "share"]

WORTH_HELPERS = 64
"""Boxes that a process has had to measure before it gets helpers: to compile what they do takes
half a second the first time, which whoever measures one small array would wait for in the end."""


class Job(NamedTuple):
    """Compiled work on arrays that any number of threads can do together.

    Attributes
    ----------
    kernel : module
        `streamnorm.kernels.floats`, `integers`, `exact_boxes` or `exact_integers`.
    x, mask, boxes, owners, turn, flip, omit, rows
        What its `measure_boxes` takes.
    """

    kernel: ModuleType
    x: Array
    mask: Array | None
    boxes: Array
    owners: Array
    turn: Array
    flip: int
    omit: bool | None
    rows: Array

    def run(self, desk: Array = NO_DESK) -> None:
        """Do it on the caller's thread, and offer it to those who watch a desk."""
        self.kernel.measure_boxes(*self[1:], desk, 0)


class _Crew:
    """Helpers around one desk.

    Attributes
    ----------
    failure : BaseException or None
        What a helper met with while it took part in a job.
    """

    def __init__(self) -> None:
        self.desk = np.zeros(DESK, np.int64)
        self.kinds: list[tuple[Callable[..., int], tuple[Any, ...]]] = []
        self.failure: BaseException | None = None
        self.closed = False
        self._numbers: dict[tuple[ModuleType, str, bool, bool], int] = {}
        self._helpers: list[_Helper] = []
        self._boxes = 0
        self._busy = threading.Lock()

    def share(self, job: Job, helpers: int) -> None:
        """Do a job with up to so many helpers; alone if they are busy, or not worth calling yet."""
        self._boxes += len(job.boxes)
        if self._boxes < WORTH_HELPERS or not self._busy.acquire(blocking=False):
            job.run()
            return
        try:
            self._share(job, helpers)
        finally:
            self._busy.release()

    def _share(self, job: Job, helpers: int) -> None:
        self.failure = None
        self.desk[FOR] = helpers, self._kind(job)
        self._wake(helpers)
        try:
            job.run(self.desk)
        finally:
            clear(self.desk)
        if self.failure is not None:
            raise self.failure

    def _wake(self, helpers: int) -> None:
        if not self._helpers:
            # Compiled or read from the cache now, not where memory has run out.
            clear(self.desk)
        while len(self._helpers) < helpers:
            self._helpers.append(_Helper(self, len(self._helpers)))
            try:
                with Interrupts():
                    self._helpers[-1].start()
            except RuntimeError:
                # No more threads in this system: those there are do the work.
                self._helpers.pop()
                break
        for helper in self._helpers[:helpers]:
            helper.wake()

    def _kind(self, job: Job) -> int:
        key = (job.kernel, job.x.dtype.char, job.mask is None, job.omit is None)
        number = self._numbers.get(key)
        if number is None:
            arrays = (job.x, job.mask, job.boxes, job.owners, job.turn)
            samples = (*map(_sample, arrays), job.flip, job.omit, _sample(job.rows))
            self.kinds.append((job.kernel.serve, samples))
            number = self._numbers[key] = len(self.kinds) - 1
        return number

    def close(self) -> None:
        """Let the helpers go home, and wait until they have gone."""
        self.closed = True
        for helper in self._helpers:
            helper.bell.put(None)
            # In a forked child none is; nor is one whose start was interrupted.
            if helper.is_alive():
                helper.join()


def _sample(array: Array | None) -> Array | None:
    """Return an empty array for which Numba chooses the same compiled function; of None, None."""
    if array is None:
        return None
    sample = np.empty((0, 0)[: array.ndim], array.dtype)
    sample.flags.writeable = array.flags.writeable
    return sample


class _Helper(threading.Thread):
    """A thread that does the jobs that lie on its crew's desk."""

    def __init__(self, crew: _Crew, number: int) -> None:
        super().__init__(name=f"streamnorm-helper-{number}", daemon=True)
        self.crew = crew
        self.number = number
        # An event holds a lock in Python, which an interrupt could leave locked for ever.
        self.bell: SimpleQueue[None] = SimpleQueue()
        self.asleep = False

    def wake(self) -> None:
        if self.asleep:
            self.bell.put(None)

    def run(self) -> None:
        seen = 0
        while not self.crew.closed:
            seen = self._serve(seen)
            self.asleep = True
            if not self._wanted(seen):
                self.bell.get()
            self.asleep = False

    def _wanted(self, seen: int) -> bool:
        """Whether a job came, or the crew was closed, before one could know that it is asleep."""
        desk = self.crew.desk
        state = int(desk[STATE])
        open_to_me = state % 2 == 1 and state != seen and self.number < desk[HELPERS]
        return self.crew.closed or open_to_me

    def _serve(self, seen: int) -> int:
        desk = self.crew.desk
        kind = int(desk[KIND])
        serve, samples = self.crew.kinds[kind]
        try:
            return serve(*samples, desk, kind, self.number, seen)
        except BaseException as failure:
            if not desk[ACTIVE + self.number]:
                # Nobody's work is concerned: Python reports it, and this helper goes.
                raise
            self.crew.failure = failure
            desk[ACTIVE + self.number] = 0
            return seen


@cache
def _crew() -> _Crew:
    crew = _Crew()
    # Compiled code must not be running while the interpreter takes itself apart.
    atexit.register(crew.close)
    return crew


if hasattr(os, "register_at_fork"):
    # Its threads do not exist in a forked child, which must have a crew of its own. Nor must the
    # child begin while a helper is compiled: it would wait for Numba's lock for ever.
    os.register_at_fork(after_in_child=_crew.cache_clear)
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=global_compiler_lock.release,
    )


def share(job: Job, threads: int) -> None:
    """Do a job on up to so many threads, the caller's among them, and wait until it is done."""
    if threads == 1:
        job.run()
    else:
        _crew().share(job, min(threads - 1, MOST_HELPERS))
