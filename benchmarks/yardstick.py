"""The yardstick: how fast the same bytes can be read at all, by the same number of threads."""

import time
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numba
import numpy as np


@numba.njit(nogil=True)
def _read(words):
    total = np.int64(0)
    for i in range(len(words)):
        total ^= words[i]
    return total


@lru_cache
def _pool(threads):
    return ThreadPoolExecutor(threads)


def seconds_to_read(array, threads=1):
    """Return the seconds that threads take to read the memory of a contiguous array."""
    words = array.reshape(-1).view(np.uint8)[: array.nbytes // 8 * 8].view(np.int64)
    parts = np.array_split(words, threads)
    started = time.perf_counter()
    if threads == 1:
        _read(words)
    else:
        list(_pool(threads).map(_read, parts))
    return time.perf_counter() - started
