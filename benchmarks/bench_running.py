"""A step of normalizing by running moments: learn from a batch of (32, 16), then normalize it."""

import statistics
import time

import numpy as np
import pytest

import streamnorm as sn

torch = pytest.importorskip("torch")

from streamnorm.nn import RunningNormalize  # noqa: E402 - needs torch

CALLS = 1000
ROW = "step on (32, 16)"
STREAM = 300
"""Batches, of mean 1e4 and std 1, of which the std is to be known in the end."""


def batches():
    rng = np.random.default_rng(0)
    return [rng.normal(1e4, 1, (32, 16)).astype(np.float32) for _ in range(STREAM)]


def truth():
    return np.concatenate(batches()).astype(np.longdouble).std(0)


def off(std):
    return float(np.abs(std / truth() - 1).max())


def measure(race, column, step, std_after, bare=None):
    """Time a step, in turns with a bare update where that is given."""
    x = batches()[0]
    given = torch.from_numpy(x) if column != "gymnasium and NumPy" else x
    ratios = []

    def work():
        began = time.perf_counter()
        for _ in range(CALLS):
            step(given)
        if bare is not None:
            middle = time.perf_counter()
            for _ in range(CALLS):
                bare(given)
            ratios.append((middle - began) / (time.perf_counter() - middle))

    error = off(std_after())
    info = race(work, ROW, column=column, calls=CALLS * (1 + (bare is not None)), error=error)
    if bare is not None:
        info["times_bare"] = statistics.median(ratios)


def test_bare_update(race):
    accumulator, whole = sn.Accumulator(), sn.Accumulator()
    for batch in batches():
        whole.update(batch)
    measure(race, "Accumulator.update alone", accumulator.update, whole.moments.std)


def test_running_normalize(race):
    module, whole, accumulator = RunningNormalize(16), RunningNormalize(16), sn.Accumulator()
    for batch in batches():
        whole(torch.from_numpy(batch))
    measure(race, "RunningNormalize and update", module, whole.moments.std, accumulator.update)


def test_gymnasium(race):
    """What its NormalizeObservation computes; its state is float64, with a prior."""
    utils = pytest.importorskip("gymnasium.wrappers.utils")
    running, whole = utils.RunningMeanStd(shape=(16,)), utils.RunningMeanStd(shape=(16,))
    for batch in batches():
        whole.update(batch)

    def step(x):
        running.update(x)
        return (x - running.mean) / np.sqrt(running.var + 1e-8)

    measure(race, "gymnasium and NumPy", step, lambda: np.sqrt(whole.var))


def test_batch_norm(race):
    """Averages the variances of batches, in float32."""
    norm, whole = (torch.nn.BatchNorm1d(16, momentum=None, affine=False) for _ in range(2))
    for batch in batches():
        whole(torch.from_numpy(batch))
    measure(race, "torch BatchNorm1d", norm, lambda: whole.running_var.sqrt().numpy())
