"""One table (N, 64) of float32 in memory: beside everything that takes one."""

import itertools

import numpy as np
import pytest

from benchmarks.data import arrange, buffer
from benchmarks.peers import is_missing, rows_of, std_errors
from benchmarks.table_peers import TABLE


def as_table(batches):
    return np.concatenate([rows_of(batch) for batch in batches])


@pytest.mark.parametrize("runner", TABLE, ids=lambda runner: runner.name)
def test_runner(race, runner):
    if reason := is_missing(runner):
        pytest.skip(reason)
    whole, _ = arrange("(N, 64)", "float32")
    size = int(len(whole) * runner.part)
    parts = [runner.prepare(whole[i : i + size]) for i in range(0, min(len(whole), 3 * size), size)]
    rounds = itertools.cycle(parts)

    def on_table(batches):
        return runner.run(runner.prepare(as_table(batches)))

    race(
        lambda: runner.run(next(rounds)), runner.name, read=buffer("float32"),
        threads=runner.threads, bytes=size * 256, part=runner.part, errors=std_errors(on_table),
    )  # fmt: skip
