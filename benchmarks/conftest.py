"""Every benchmark is timed in turns with its yardstick, and says what it is about."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pytest

from benchmarks.data import ROUNDS, last_level_cache, memory, working_set
from benchmarks.yardstick import seconds_to_read

LIBRARIES = (
    "streamnorm", "numpy", "numba", "torch", "scikit-learn", "dask", "numbagg", "bottleneck",
    "polars", "pyarrow", "duckdb", "gymnasium", "welford", "runstats", "river", "pillow",
)  # fmt: skip


@pytest.fixture
def race(benchmark, request):
    """Return what times one piece of work: ``race(work, row, bytes=…, read=…)``.

    Before every round the array `read`, if given, is read once by `threads` threads. `extra` goes
    to the results as it is; what is returned does too, and can be added to.
    """

    def run(work, row, *, column="", read=None, threads=1, rounds=ROUNDS, warm=1, **extra):
        reads = []

        def setup():
            if read is not None:
                reads.append(seconds_to_read(read, threads or 1))

        benchmark.pedantic(work, setup=setup, rounds=rounds, warmup_rounds=warm)
        question = request.module.__name__.rpartition("bench_")[2]
        benchmark.extra_info.update(question=question, row=row, column=column, **extra)
        if read is not None:
            benchmark.extra_info["reading"] = read.nbytes / float(np.median(reads[warm:]))
        return benchmark.extra_info

    return run


def pytest_benchmark_update_machine_info(machine_info):
    machine_info.clear()
    machine_info.update(
        processor=_processor(),
        processors=len(os.sched_getaffinity(0)),
        last_level_cache=last_level_cache(),
        memory=memory(),
        working_set=working_set(),
        system=platform.platform(),
        python=platform.python_version(),
        versions={name: _version(name) for name in LIBRARIES},
    )


def _processor():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))


def _version(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None
