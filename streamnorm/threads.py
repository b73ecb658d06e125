"""How many threads, and running work on them so that results never depend on their number."""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from itertools import islice
from typing import TypeVar

from streamnorm.interrupts import Interrupts

__all__ = ["in_order", "resolve", "spread"]

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 4
"""Items under way per worker: enough to keep it busy while an earlier, slower one is awaited."""


def resolve(threads: int | None, name: str = "threads") -> int:
    """Return the number of threads to use.

    None means STREAMNORM_THREADS, else the CPUs this process may run on, and 1 in daemon processes
    (workers of a DataLoader or a Pool: their parent has spread the work already).
    """
    if threads is None:
        named = os.environ.get("STREAMNORM_THREADS", "")
        if named:
            name, threads = "STREAMNORM_THREADS", int(named) if named.isdigit() else 0
        elif multiprocessing.current_process().daemon:
            return 1
        elif hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        else:
            return os.cpu_count() or 1
    if threads < 1:
        msg = f"{name} must be a whole number of at least 1, got {threads}"
        raise ValueError(msg)
    return threads


@lru_cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="streamnorm")


if hasattr(os, "register_at_fork"):
    # A pool's threads do not exist in a forked child: it must start its own.
    os.register_at_fork(after_in_child=_pool.cache_clear)


def spread(work: Callable[[], None], threads: int) -> None:
    """Call `work` on `threads` threads, the caller's among them, and wait for all.

    `work` takes what is left to do piece by piece, so a thread that wakes late only does less.
    """
    if threads == 1:
        work()
        return
    with Interrupts():
        others = [_pool(threads - 1).submit(work) for _ in range(1, threads)]
        try:
            work()
        finally:
            for other in others:
                # Nothing is left for one that has not begun.
                if not other.cancel():
                    other.result()


def in_order(
    work: Callable[[T], R], items: Iterable[T], workers: int, group: int = 1
) -> Iterator[R]:
    """Yield ``work(item)`` of every item in the order of the items.

    At most ``AHEAD * workers`` groups of `group` items are under way, so memory stays flat. When
    the consumer stops or is interrupted, no further item is begun and those begun are awaited.
    """
    if workers == 1:
        yield from map(work, items)
        return
    stopped = False
    interrupts = Interrupts()

    def work_group(members: list[T]) -> list[R]:
        return [work(member) for member in members if not (interrupts.came or stopped)]

    pool = ThreadPoolExecutor(workers, thread_name_prefix="streamnorm-compute")
    under_way: deque[Future[list[R]]] = deque()
    remaining = iter(items)
    try:
        while members := list(islice(remaining, group)):
            with interrupts:
                under_way.append(pool.submit(work_group, members))
                full = len(under_way) >= AHEAD * workers
                done = under_way.popleft().result() if full else []
            yield from done
        while under_way:
            with interrupts:
                done = under_way.popleft().result()
            yield from done
    finally:
        stopped = True
        with interrupts:
            pool.shutdown(wait=True, cancel_futures=True)
