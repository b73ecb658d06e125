"""The fold: many batches, one after the other, into one value."""

import threading
from collections.abc import Callable
from functools import cache
from typing import Any, Self

from streamnorm import partial
from streamnorm import threads as _threads
from streamnorm.arrays import shape_of
from streamnorm.layout import ChannelAxis
from streamnorm.measure import (
    Measured,
    NanPolicy,
    check_nan_policy,
    measure_partial,
    meta_of,
)
from streamnorm.meta import Pass, Report
from streamnorm.moments import Moments
from streamnorm.origin import new_pass
from streamnorm.partial import Partial

__all__ = ["Accumulator", "Stack"]

_MOST_WAITING = 32
"""Parts that wait: to merge each by itself, after a large batch, took 4 to 6 µs."""
_MOST_WAITING_CHANNELS = 4096
"""Their channels together: 200 KB of memory."""


@cache
def _merge_into() -> Callable[[Partial, Partial], None]:
    from streamnorm.kernels.compiled import merge_into

    return merge_into


class Stack:
    """Partial results in a balanced merge tree of O(log n) memory.

    A binary counter: the n-th entry stands for 2**n parts in a row; two of a rank merge at once.
    Folded from the newest, it is the tree that `merge` builds over the same parts, bit for bit.
    A few parts wait and are entered together: what merging needs has left the processor's cache
    by the time that a batch has been read.
    """

    def __init__(self) -> None:
        self._entered: list[tuple[int, Partial]] = []
        self._waiting: list[Partial] = []
        self.parts = 0

    def push(self, rows: Partial, *, some: bool) -> None:
        """Add the next part, as measured of `some` values; `rows` is the stack's from now on."""
        self.parts += 1
        # A batch without values gives none to any channel; it must not shift the tree.
        if not some:
            return
        waiting = self._waiting
        waiting.append(rows)
        if len(waiting) == _MOST_WAITING or len(waiting) * rows.size > _MOST_WAITING_CHANNELS:
            self._enter_waiting()

    def fold(self, channels: int) -> Partial:
        """Return everything pushed, merged; the stack goes on as if it had not been asked."""
        entries = self._entries
        if not entries:
            return partial.empty(channels)
        total = entries[-1][1].copy()
        for _, earlier in reversed(entries[:-1]):
            total = partial.merge(earlier, total)
        return total

    @property
    def _entries(self) -> list[tuple[int, Partial]]:
        """All that the tree holds, with what waited for it."""
        self._enter_waiting()
        return self._entered

    def _enter_waiting(self) -> None:
        # One by one: whatever interrupts this, none that was entered waits any longer.
        while self._waiting:
            self._enter(self._waiting.pop(0))

    def _enter(self, rows: Partial) -> None:
        merge_into = _merge_into()
        rank = 0
        while self._entered and self._entered[-1][0] == rank:
            _, earlier = self._entered.pop()
            merge_into(earlier, rows)
            rows, rank = earlier, rank + 1
        self._entered.append((rank, rows))


class Accumulator:
    """Measures a stream of batches; the one thing here that changes.

    Memory is a few partial results, O(log batches). The result is bit for bit that of
    ``merge(measure(batch) for batch in batches)``. Threads may share one: updates take turns, so
    nothing is lost, but the last digits then depend on whose turn came first; for the same bits on
    every run give each thread its own and `merge` them in a fixed order.

    Parameters
    ----------
    channel_axis, nan_policy, threads
        As for `measure`.
    channels : int, optional
        The number of channels to expect. Default: that of the first batch.

    Examples
    --------
    >>> import numpy as np, streamnorm as sn
    >>> acc = sn.Accumulator(channel_axis=-1)
    >>> for batch in np.arange(12.0).reshape(2, 3, 2):
    ...     _ = acc.update(batch)
    >>> acc.moments
    Moments(C=2, n=6, mean=[5 6], std=[3.416 3.416])
    """

    def __init__(
        self,
        *,
        channel_axis: ChannelAxis = 1,
        nan_policy: NanPolicy = "propagate",
        threads: int | None = None,
        channels: int | None = None,
    ) -> None:
        check_nan_policy(nan_policy)
        self._channel_axis = channel_axis
        self._nan_policy: NanPolicy = nan_policy
        self._threads = _threads.resolve(threads)
        self._channels = channels
        self._channel_shape: tuple[int, ...] | None = None
        self._dtypes: dict[str, None] = {}
        self._stack = Stack()
        self._turn = threading.Lock()

    def update(self, batch: Any, mask: Any = None) -> Self:
        """Measure one more batch.

        Parameters
        ----------
        batch, mask
            As for `measure`. An empty batch changes no number.

        Returns
        -------
        Accumulator
            Itself.

        Raises
        ------
        ValueError
            If the number of channels differs from that of the earlier batches, or as `measure`
            does. Whatever is raised, the state is as before.
        """
        with self._turn:
            done = measure_partial(batch, self._channel_axis, self._nan_policy, mask, self._threads)
            self._accept(done, batch)
            self._stack.push(done.rows, some=done.some)
        return self

    @property
    def moments(self) -> Moments:
        """What was seen so far, as a value that later updates do not change.

        Raises
        ------
        ValueError
            If nothing was seen and ``channels`` was not given.
        """
        with self._turn:
            if self._channels is None:
                msg = "no batch seen yet, so the number of channels is unknown; pass channels=…"
                raise ValueError(msg)
            rows = self._stack.fold(self._channels)
            shape = self._channel_shape
            meta = meta_of((self._channels,) if shape is None else shape)
            if self._stack.parts:
                meta = meta.with_pass(self._pass(rows))
            return Moments.of_partial(rows, meta)

    def _accept(self, done: Measured, batch: Any) -> None:
        expected, channels = self._channel_shape, self._channels
        if expected not in (None, done.channel_shape) or channels not in (None, done.rows.size):
            msg = (
                f"the batch has {done.rows.size} channels (shape {shape_of(batch)}, channel_axis "
                f"{self._channel_axis}) but this Accumulator holds {expected or channels}; pass "
                f"another channel_axis or start a new Accumulator"
            )
            raise ValueError(msg)
        self._channels = done.rows.size
        self._channel_shape = done.channel_shape
        self._dtypes[done.dtype] = None

    def _pass(self, rows: Partial) -> Pass:
        report = Report(read=self._stack.parts, omitted=int(rows["omitted"].sum()))
        return new_pass("Accumulator", "batches", dtype="+".join(self._dtypes), report=report)

    def __repr__(self) -> str:
        seen = "nothing yet" if self._channels is None else repr(self.moments)
        return f"Accumulator({self._stack.parts:_} batches: {seen})"

    def __getstate__(self) -> dict[str, Any]:
        with self._turn:
            return {k: v for k, v in self.__dict__.items() if k != "_turn"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._turn = threading.Lock()
