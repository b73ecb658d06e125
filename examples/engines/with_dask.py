"""Statistics of an array in many files, measured by Dask where the files are read.

    pip install 'streamnorm[dask]'
    python examples/engines/with_dask.py

On a cluster: `Client("scheduler-address:8786")` instead of the LocalCluster, files that all workers
see (or `s3://…` with dask.array.from_zarr), and streamnorm installed on the workers.
"""

import tempfile
from pathlib import Path

import dask
import dask.array as da
import numpy as np
from distributed import Client, LocalCluster

import streamnorm as sn
from streamnorm.engines.dask import compute

SHAPE = (200, 3, 32, 32)


def write_shards(folder):
    """Write six files of pictures, each brighter than the last."""
    paths = [str(Path(folder) / f"{k}.npy") for k in range(6)]
    for k, path in enumerate(paths):
        np.save(path, np.random.default_rng(k).normal(k, 1, SHAPE).astype(np.float32))
    return paths


def main():
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster),
    ):
        paths = write_shards(folder)
        read = dask.delayed(np.load)
        pictures = da.concatenate([da.from_delayed(read(p), SHAPE, np.float32) for p in paths])
        total = compute(pictures, channel_axis=1)
        print(total)
        print(f"{total.meta.report.read} chunks; the shortcut, mean of stds of the files:")
        print(np.mean([np.load(p).std(axis=(0, 2, 3)) for p in paths], axis=0).round(3))
        exact = compute(pictures.rechunk((77, 2, 32, 32)), channel_axis=1, exact=True)
        alone = sn.compute(paths, exact=True)
        print(f"other chunks, one process, the same digest: {exact.digest() == alone.digest()}")


if __name__ == "__main__":
    main()
