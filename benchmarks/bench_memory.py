"""The peak memory of a long stream, in a process of its own."""

import subprocess
import sys

import pytest

from benchmarks.data import QUICK

STREAM = """
import resource, sys
import numpy as np, streamnorm as sn
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
batch = np.random.default_rng(0).standard_normal((128, 3, 60, 60), dtype=np.float32)
sn.measure(batch)
accumulator, before = sn.Accumulator(), peak()
for k in range({batches}):
    batch[0, 0, 0, 0] = k
    accumulator.update(batch)
print(before, peak() - before, accumulator.moments.count[0])
"""
BATCH_BYTES = 128 * 3 * 60 * 60 * 4


@pytest.mark.parametrize("gigabytes", [1] if QUICK else [1, 20])
def test_stream(race, gigabytes):
    batches = -(-gigabytes * 10**9 // BATCH_BYTES)
    more = []

    def work():
        command = [sys.executable, "-c", STREAM.format(batches=batches)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        _, grown, count = map(int, output.split())
        assert count == batches * 128 * 60 * 60
        more.append(grown)

    info = race(work, f"{gigabytes} GB in batches of 5.5 MB", column="streamnorm", rounds=3, warm=0)
    info["more_memory"] = max(more)
