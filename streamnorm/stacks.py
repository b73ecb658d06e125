"""What many partial results become: a tree of rounded ones, or the sum of exact ones."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache
from typing import Any

from streamnorm import limbs, partial, weights
from streamnorm.exact import ExactMoments
from streamnorm.limbs import Exact
from streamnorm.meta import Meta
from streamnorm.moments import Moments
from streamnorm.partial import Partial
from streamnorm.pending import Pending, fetch
from streamnorm.weighted import WeightedMoments
from streamnorm.weights import Weighted

__all__ = ["Stack", "Total", "Weighings", "stack_for"]

_MOST_WAITING = 32
"""Parts that wait: to merge each by itself, after a large batch, took 4 to 6 µs."""
_MOST_WAITING_CHANNELS = 4096
"""Their channels together: 200 KB of memory."""
_MOST_WAITING_BYTES = 1 << 20
_MOST_PENDING = 256
"""Parts that stay on a device, of training steps that go on meanwhile."""
_MOST_PENDING_BYTES = 1 << 24


@cache
def _merge_into() -> Callable[[Partial, Partial], None]:
    from streamnorm.kernels.compiled import merge_into

    return merge_into


class _Parts(ABC):
    """Takes partial results in their order; those that are pending on a device stay there a while.

    To fetch one is to wait for the device, so many are fetched together.
    """

    def __init__(self) -> None:
        # Pending parts, with the bytes of all up to each, and fetched ones: one attribute, so that
        # no interrupt parts them.
        self._there: tuple[list[tuple[Pending, int]], list[Any]] = ([], [])
        self.parts = 0

    def push(self, rows: Any, *, some: bool) -> None:
        """Add the next part, as measured of `some` values; `rows` are ours from now on."""
        self.parts += 1
        # A batch without values gives none to any channel; it must not shift the tree.
        if not some:
            return
        pending, fetched = self._there
        if isinstance(rows, Pending):
            held = rows.nbytes + (pending[-1][1] if pending else 0)
            pending.append((rows, held))
            if held > _MOST_PENDING_BYTES or len(pending) >= _MOST_PENDING:
                self.settle()
            return
        if pending or fetched:
            self.settle()
        self._take(rows)

    def settle(self) -> None:
        """Wait for what is pending."""
        pending, fetched = self._there
        if pending:
            self._there = [], fetched + fetch([part for part, _ in pending])
        # One by one: whatever interrupts this, none that was taken waits any longer.
        while self._there[1]:
            self._take(self._there[1].pop(0))

    @property
    @abstractmethod
    def held(self) -> list[tuple[int, Any]]:
        """All that is held, in order: rows, and how many mergers deep each is."""

    @abstractmethod
    def resume(self, parts: int, held: list[tuple[int, Any]]) -> None:
        """Go on from what another held after so many parts; `held` is ours from now on."""

    @abstractmethod
    def _take(self, rows: Any) -> None:
        """Add the next part, which has values."""


class Stack(_Parts):
    """Partial results in a balanced merge tree of O(log n) memory.

    A binary counter: the n-th entry stands for 2**n parts in a row; two of a rank merge at once.
    Folded from the newest, it is the tree that `merge` builds over the same parts, bit for bit.
    A few parts wait and are entered together: what merging needs has left the processor's cache
    by the time that a batch has been read.
    """

    def __init__(self) -> None:
        super().__init__()
        self._entered: list[tuple[int, Partial]] = []
        self._waiting: list[Partial] = []

    def _take(self, rows: Partial) -> None:
        waiting = self._waiting
        waiting.append(rows)
        if len(waiting) == _MOST_WAITING or len(waiting) * rows.size > _MOST_WAITING_CHANNELS:
            self._enter_waiting()

    @property
    def held(self) -> list[tuple[int, Partial]]:
        """All that the tree holds, with what waited for it."""
        self.settle()
        self._enter_waiting()
        return self._entered

    def resume(self, parts: int, held: list[tuple[int, Partial]]) -> None:
        """Go on from what another held after so many parts."""
        self.parts, self._entered = parts, held

    def fold(self, channels: int) -> Partial:
        """Return everything pushed, merged; the stack goes on as if it had not been asked."""
        entries = self.held
        if not entries:
            return partial.empty(channels)
        total = entries[-1][1].copy()
        for _, earlier in reversed(entries[:-1]):
            total = partial.merge(earlier, total)
        return total

    def value(self, rows: Partial, meta: Meta) -> Moments:
        """Return what was folded as a value."""
        return Moments.of_rows(rows, meta)

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


class Total(_Parts):
    """The sum of exact partial results; their order makes no difference.

    A few parts wait and are added together, which costs little more than to add one.
    """

    def __init__(self) -> None:
        super().__init__()
        # One attribute: whatever interrupts, no part is in it twice.
        self._parts: list[Exact] = []

    def _take(self, rows: Exact) -> None:
        self._parts.append(rows)
        if len(self._parts) > _MOST_WAITING or len(self._parts) * rows.nbytes > _MOST_WAITING_BYTES:
            self._add()

    @property
    def held(self) -> list[tuple[int, Exact]]:
        """The sum of all, if there is any."""
        self.settle()
        if self._parts:
            self._add()
        return [(0, rows) for rows in self._parts]

    def resume(self, parts: int, held: list[tuple[int, Exact]]) -> None:
        """Go on from what another held after so many parts."""
        self.parts, self._parts = parts, [rows for _, rows in held]

    def fold(self, channels: int) -> Exact:
        """Return everything pushed, added up; the total goes on as if it had not been asked."""
        held = self.held
        return held[0][1].copy() if held else limbs.empty(channels)

    def value(self, rows: Exact, meta: Meta) -> ExactMoments:
        """Return what was folded as a value."""
        return ExactMoments.of_rows(rows, meta)

    def _add(self) -> None:
        self._parts = [limbs.add_up(self._parts)]


class Weighings(_Parts):
    """Partial results that are given the weight 1 each, in a balanced merge tree."""

    def __init__(self) -> None:
        super().__init__()
        self._entered: list[tuple[int, Weighted]] = []

    def _take(self, rows: Any) -> None:
        entered, rank = self._entered, 0
        rows = weights.of_partial(rows, 1.0)
        while entered and entered[-1][0] == rank:
            rows = weights.merge(entered.pop()[1], rows)
            rank += 1
        entered.append((rank, rows))

    @property
    def held(self) -> list[tuple[int, Weighted]]:
        """All that the tree holds."""
        self.settle()
        return self._entered

    def resume(self, parts: int, held: list[tuple[int, Weighted]]) -> None:
        """Go on from what another held after so many parts."""
        self.parts, self._entered = parts, held

    def fold(self, channels: int) -> Weighted:
        """Return everything pushed, merged."""
        total = weights.empty(channels)
        for _, earlier in reversed(self.held):
            total = weights.merge(earlier, total)
        return total

    def value(self, rows: Weighted, meta: Meta) -> WeightedMoments:
        """Return what was folded as a value."""
        return WeightedMoments.of_rows(rows, meta)


def stack_for(exact: bool, *, each: bool = False) -> Stack | Total | Weighings:
    """Return what takes partial results of one kind; under `each` every part counts the same."""
    if each:
        return Weighings()
    return Total() if exact else Stack()
