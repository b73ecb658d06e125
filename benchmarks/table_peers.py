"""What people use on a table of shape (N, C) in memory; each gives mean and std."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import streamnorm as sn
from benchmarks.peers import Runner


def ours_table(threads):
    def run(x):
        moments = sn.measure(x, channel_axis=1, threads=threads)
        return moments.mean, moments.std()

    return run


def numpy_table(x):
    return x.mean(0), np.sqrt(x.var(0))


def torch_table(x):
    variance, mean = torch.var_mean(torch.from_numpy(x), dim=0, correction=0)
    return mean.numpy(), variance.sqrt().numpy()


def scikit_learn_table(x):
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().partial_fit(x)
    return scaler.mean_, np.sqrt(scaler.var_)


def numbagg_table(x):
    import numbagg

    return numbagg.nanmean(x, axis=0), numbagg.nanstd(x, axis=0, ddof=0)


def bottleneck_table(x):
    import bottleneck

    return bottleneck.nanmean(x, axis=0), bottleneck.nanstd(x, axis=0)


def columns_of(x):
    """Return the columns, each contiguous, as columnar libraries keep them."""
    return {f"c{i}": column for i, column in enumerate(np.ascontiguousarray(x.T))}


def prepare_polars(x):
    import polars as pl

    return pl.DataFrame(columns_of(x))


def polars_table(frame):
    import polars as pl

    both = frame.select(
        pl.all().mean().name.suffix("_mean"), pl.all().std(ddof=0).name.suffix("_std")
    ).row(0)
    return both[: frame.width], both[frame.width :]


def prepare_arrow(x):
    import pyarrow as pa

    return pa.table(columns_of(x))


def arrow_table(table):
    from pyarrow import compute

    columns = table.columns
    means = [compute.mean(column).as_py() for column in columns]
    return means, [compute.stddev(column, ddof=0).as_py() for column in columns]


def duckdb_table(table):
    import duckdb

    names = table.column_names
    wanted = [f"avg({name})" for name in names] + [f"stddev_pop({name})" for name in names]
    with duckdb.connect() as connection:
        connection.register("features", table)
        row = connection.execute(f"SELECT {', '.join(wanted)} FROM features").fetchone()
    return row[: len(names)], row[len(names) :]


@dataclass(frozen=True)
class TableRunner(Runner):
    """One that takes a table, prepared outside of the timing in the form its library keeps."""

    prepare: Callable[[Any], Any] = np.asarray


TABLE = (
    TableRunner("streamnorm, 2 threads", ours_table(2), threads=2),
    TableRunner("streamnorm, 1 thread", ours_table(1)),
    TableRunner("torch.var_mean", torch_table, 1 / 16, "torch", None),
    TableRunner("np.mean and np.var", numpy_table, 1 / 8),
    TableRunner("scikit-learn, partial_fit", scikit_learn_table, 1 / 32, "sklearn"),
    TableRunner("numbagg", numbagg_table, 1 / 8, "numbagg", None),
    TableRunner("bottleneck", bottleneck_table, 1 / 8, "bottleneck"),
    TableRunner("polars, columns", polars_table, 1 / 8, "polars", None, prepare_polars),
    TableRunner("pyarrow, columns", arrow_table, 1 / 8, "pyarrow", None, prepare_arrow),
    TableRunner("duckdb, columns", duckdb_table, 1 / 8, "duckdb", None, prepare_arrow),
)
