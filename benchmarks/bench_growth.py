"""How time and memory grow: with the values, the channels and the batches."""

import tracemalloc

import numpy as np
import pytest

import streamnorm as sn
from benchmarks.data import QUICK, memory

MOST = min(10**9, memory() // 8)
VALUES = [n for n in (10**5, 10**6, 10**7, 10**8, 10**9) if n <= MOST]
CHANNELS = (1, 10, 100, 1000, 10_000, 100_000)
BATCHES = (1, 10, 100, 1000, 10_000, 100_000, 1_000_000)
TABLE = 10**8

pytestmark = pytest.mark.skipif(QUICK, reason="not in quick mode")


def peak_memory(work):
    """Return the most memory that Python and NumPy held during a call, not the first."""
    work()
    tracemalloc.start()
    work()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def growth(race, work, axis, size, nbytes):
    more = peak_memory(work)
    rounds = 9 if size < 10**6 and nbytes < 10**9 else 3
    race(work, axis, column=str(size), rounds=rounds, bytes=nbytes, size=size, more_memory=more)


@pytest.mark.parametrize("count", VALUES)
def test_values(race, count):
    values = np.resize(np.random.default_rng(0).random(10**6, np.float32), (count // 4, 4))
    growth(race, lambda: sn.measure(values, threads=1), "values", count, values.nbytes)


@pytest.mark.parametrize("channels", CHANNELS)
def test_channels(race, channels):
    block = np.random.default_rng(0).random(10**6, np.float32)
    values = np.resize(block, (TABLE // channels, channels))
    growth(race, lambda: sn.measure(values, threads=1), "channels", channels, values.nbytes)


@pytest.mark.parametrize("count", BATCHES)
def test_batches(race, count):
    batch = np.random.default_rng(0).random((32, 16), np.float32)

    def work():
        accumulator = sn.Accumulator(threads=1)
        for _ in range(count):
            accumulator.update(batch)
        return accumulator.moments

    growth(race, work, "batches", count, count * batch.nbytes)
