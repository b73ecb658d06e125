"""One table (N, 64) of float32 in memory: beside everything that takes one."""

import itertools

import numpy as np
import pytest

from benchmarks.data import arrange, buffer, hard_batches
from benchmarks.peers import is_missing, rows_of
from benchmarks.table_peers import TABLE


def errors_of(runner):
    errors = {}
    for dtype in ("float32", "float64"):
        batches, truth = hard_batches(dtype)
        table = np.concatenate([rows_of(batch) for batch in batches])
        _, std = runner.run(runner.prepare(table))
        errors[dtype] = float(np.abs(np.asarray(std, np.float64) / truth - 1).max())
    return errors


@pytest.mark.parametrize("runner", TABLE, ids=lambda runner: runner.name)
def test_runner(race, runner):
    if reason := is_missing(runner):
        pytest.skip(reason)
    whole, _ = arrange("(N, 64)", "float32")
    size = int(len(whole) * runner.part)
    parts = [runner.prepare(whole[i : i + size]) for i in range(0, min(len(whole), 3 * size), size)]
    rounds = itertools.cycle(parts)
    race(
        lambda: runner.run(next(rounds)), runner.name, read=buffer("float32"),
        threads=runner.threads, bytes=size * 256, part=runner.part, errors=errors_of(runner),
    )  # fmt: skip
