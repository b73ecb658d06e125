"""A stream of image batches: 64 times (128, 3, 60, 60) float32, and in larger calls."""

import itertools

import numpy as np
import pytest

import streamnorm as sn
from benchmarks.data import BATCH, QUICK, stream_batches, working_set
from benchmarks.peers import STREAM, is_missing, std_errors

COUNT = 16 if QUICK else 64
# As many different batches as the working set holds: no round finds its bytes in the cache.
SETS = max(1, working_set() // (4 * int(np.prod(BATCH)) * COUNT))


@pytest.mark.parametrize("runner", STREAM, ids=lambda runner: runner.name)
def test_runner(race, runner):
    if reason := is_missing(runner):
        pytest.skip(reason)
    batches, whole = stream_batches(COUNT * SETS)
    each = max(1, int(COUNT * runner.part))
    starts = itertools.cycle(range(0, len(batches) - each + 1, each))

    def work():
        start = next(starts)
        runner.run(batches[start : start + each])

    race(
        work, runner.name, read=whole, threads=runner.threads, bytes=whole[:each].nbytes,
        part=runner.part, errors=std_errors(runner.run),
        rounds=3 if runner.part < 1 / 16 else 9,
    )  # fmt: skip


@pytest.mark.skipif(QUICK, reason="not in quick mode")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("together", [12, 64])
def test_larger_calls(race, together, threads):
    _, whole = stream_batches(COUNT * SETS)
    calls = [
        part.reshape(-1, *BATCH[1:]) for part in np.array_split(whole, COUNT * SETS // together)
    ]
    count = COUNT // together
    starts = itertools.cycle(range(0, len(calls) - count + 1, count))

    def work():
        start = next(starts)
        accumulator = sn.Accumulator(threads=threads)
        for call in calls[start : start + count]:
            accumulator.update(call)

    size = sum(call.nbytes for call in calls[:count])
    name = f"streamnorm, {threads} thread{'s'[: threads - 1]}, calls of {calls[0].nbytes >> 20} MiB"
    race(work, name, read=whole, threads=threads, bytes=size, part=1.0)
