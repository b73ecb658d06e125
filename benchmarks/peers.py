"""What people use on a stream of batches, each as its documentation says; gives mean and std.

Runners take batches of shape (N, 3, H, W), torch tensors. Libraries are imported where they are
used, so that one that is missing is missed alone.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import streamnorm as sn
from benchmarks.data import hard_batches


@dataclass(frozen=True)
class Runner:
    """A way to compute mean and std.

    Attributes
    ----------
    name : str
    run : callable
        ``run(batches)`` or ``run(table)`` -> mean, std.
    part : float
        The share of the data that it gets if it is slow; in each round another.
    needs : str
        The module that it needs.
    threads : int or None
        How many threads it runs on; None if its library decides.
    """

    name: str
    run: Callable[[Any], Any]
    part: float = 1.0
    needs: str = "numpy"
    threads: int | None = 1


def is_missing(runner):
    """Return why a runner cannot run, or None."""
    try:
        importlib.import_module(runner.needs)
    except ImportError as error:
        return str(error)
    return None


def std_errors(run):
    """Return the largest relative error of the std on each of the two hard data sets."""
    errors = {}
    for dtype in ("float32", "float64"):
        batches, truth = hard_batches(dtype)
        _, std = run(batches)
        errors[dtype] = float(np.abs(np.asarray(std, np.float64) / truth - 1).max())
    return errors


def rows_of(batch):
    """Return a batch as users of table libraries have to: one row a pixel, a copy."""
    return batch.permute(0, 2, 3, 1).reshape(-1, batch.size(1)).numpy()


def ours(threads):
    def run(batches):
        accumulator = sn.Accumulator(threads=threads)
        for batch in batches:
            accumulator.update(batch)
        return accumulator.moments.mean, accumulator.moments.std()

    return run


def averaged_batches(batches):
    means = [batch.mean(dim=(0, 2, 3)) for batch in batches]
    stds = [batch.std(dim=(0, 2, 3)) for batch in batches]
    return torch.stack(means).mean(0).numpy(), torch.stack(stds).mean(0).numpy()


def averaged_images(batches):
    count, mean, std = 0, 0.0, 0.0
    for batch in batches:
        flat = batch.view(batch.size(0), batch.size(1), -1)
        mean = mean + flat.mean(2).sum(0)
        std = std + flat.std(2).sum(0)
        count += batch.size(0)
    return (mean / count).numpy(), (std / count).numpy()


def sums_of_squares(batches):
    count, total, squares = 0, 0.0, 0.0
    for batch in batches:
        total = total + batch.sum(dim=(0, 2, 3))
        squares = squares + (batch * batch).sum(dim=(0, 2, 3))
        count += batch.numel() // batch.size(1)
    mean = total / count
    return mean.numpy(), (squares / count - mean**2).clamp(min=0).sqrt().numpy()


def pooled(variances, means):
    """Pool equally large batches: the mean of the variances plus the variance of the means."""
    variances, means = np.asarray(variances, np.float64), np.asarray(means, np.float64)
    return means.mean(0), np.sqrt(variances.mean(0) + means.var(0))


def torch_var_mean(batches):
    pairs = [torch.var_mean(batch, dim=(0, 2, 3), correction=0) for batch in batches]
    return pooled([v.numpy() for v, _ in pairs], [m.numpy() for _, m in pairs])


def numpy_var(batches):
    arrays = [batch.numpy() for batch in batches]
    return pooled([a.var((0, 2, 3)) for a in arrays], [a.mean((0, 2, 3)) for a in arrays])


def scikit_learn(batches):
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    for batch in batches:
        scaler.partial_fit(rows_of(batch))
    return scaler.mean_, np.sqrt(scaler.var_)


def dask_array(batches):
    import dask
    import dask.array as da

    x = da.concatenate([da.from_array(batch.numpy()) for batch in batches])
    return dask.compute(x.mean(axis=(0, 2, 3)), x.std(axis=(0, 2, 3)))


def numbagg_whole(batches):
    import numbagg

    x = np.concatenate([batch.numpy() for batch in batches])
    axes = (0, 2, 3)
    return numbagg.nanmean(x, axis=axes), numbagg.nanstd(x, axis=axes, ddof=0)


def gymnasium_running(batches):
    from gymnasium.wrappers.utils import RunningMeanStd

    running = RunningMeanStd(shape=(batches[0].size(1),))
    for batch in batches:
        running.update(rows_of(batch))
    return running.mean, np.sqrt(running.var)


def welford_package(batches):
    from welford import Welford

    state = Welford()
    for batch in batches:
        state.add_all(rows_of(batch))
    return state.mean, np.sqrt(state.var_p)


def runstats_package(batches):
    from runstats import Statistics

    states = [Statistics() for _ in range(batches[0].size(1))]
    for batch in batches:
        for state, values in zip(states, rows_of(batch).T.tolist(), strict=True):
            for value in values:
                state.push(value)
    return [s.mean() for s in states], [s.stddev(ddof=0) for s in states]


def river_scaler(batches):
    from river.preprocessing import StandardScaler

    scaler = StandardScaler()
    for batch in batches:
        for row in rows_of(batch).tolist():
            scaler.learn_one(dict(enumerate(row)))
    channels = range(batches[0].size(1))
    return [scaler.means[c] for c in channels], [scaler.vars[c] ** 0.5 for c in channels]


OURS = Runner("streamnorm, 1 thread", ours(1))
OURS_TWO = Runner("streamnorm, 2 threads", ours(2), threads=2)
STREAM = (
    OURS_TWO,
    OURS,
    Runner("torch, mean of batch std (the shortcut)", averaged_batches, 1 / 4, "torch", None),
    Runner("torch, mean of image std (the shortcut)", averaged_images, 1 / 4, "torch", None),
    Runner("torch, float32 sum and sum of squares", sums_of_squares, 1, "torch", None),
    Runner("torch.var_mean of batches, pooled", torch_var_mean, 1 / 4, "torch", None),
    Runner("np.var and np.mean of batches, pooled", numpy_var, 1 / 4),
    Runner("scikit-learn, partial_fit", scikit_learn, 1 / 16, "sklearn"),
    Runner("dask.array, mean and std", dask_array, 1 / 4, "dask", None),
    Runner("numbagg, all in memory", numbagg_whole, 1 / 4, "numbagg", None),
    Runner("gymnasium, RunningMeanStd", gymnasium_running, 1 / 16, "gymnasium"),
    Runner("welford, add_all", welford_package, 1 / 64, "welford"),
    Runner("runstats, push", runstats_package, 1 / 64, "runstats"),
    Runner("river, learn_one", river_scaler, 1 / 64, "river"),
)
