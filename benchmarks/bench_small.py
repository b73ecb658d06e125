"""Many small things: the batches of reinforcement learning, and the parts of many workers."""

import subprocess
import sys

import numpy as np
import pytest

import streamnorm as sn
from benchmarks.data import QUICK

CALLS = 1000
PARTS = 10_000 if QUICK else 1_000_000
MEMORY = """
import resource, sys
import numpy as np, streamnorm as sn
parts = [sn.measure(np.full((2, 3), float(k))) for k in range({parts})]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
sn.merge(parts)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_update(race):
    accumulator = sn.Accumulator()
    batch = np.random.default_rng(0).random((32, 16), np.float32)

    def work():
        for _ in range(CALLS):
            accumulator.update(batch)

    race(work, "update of (32, 16)", column="streamnorm", calls=CALLS, bytes=CALLS * batch.nbytes)


def test_gymnasium(race):
    utils = pytest.importorskip("gymnasium.wrappers.utils")
    running = utils.RunningMeanStd(shape=(16,))
    batch = np.random.default_rng(0).random((32, 16), np.float32)

    def work():
        for _ in range(CALLS):
            running.update(batch)

    race(
        work, "update of (32, 16)", column="gymnasium RunningMeanStd", calls=CALLS,
        bytes=CALLS * batch.nbytes,
    )  # fmt: skip


def test_merge(race):
    parts = [sn.measure(np.full((2, 3), float(k))) for k in range(PARTS)]
    command = [sys.executable, "-c", MEMORY.format(parts=PARTS)]
    more = 1024 * int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    race(
        lambda: sn.merge(parts), f"merge of {PARTS:,} parts of 3 channels", column="streamnorm",
        rounds=3, calls=1, bytes=PARTS * 3 * 48, more_memory=more,
    )  # fmt: skip
