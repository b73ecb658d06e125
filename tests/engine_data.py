"""Real data as engines get them, and what one process says of them."""

import functools
import os
import signal
from pathlib import Path

import numpy as np

import streamnorm as sn

IMAGES = 20_000
"""Of CIFAR-10: enough for many partitions."""


def cifar_digest(path):
    """The digest of the first images, each colour a channel."""
    return cifar(path, 0, IMAGES, lambda x: sn.measure(x, channel_axis=-1, exact=True)).digest()


def cifar(path, start, stop, use=lambda x: x):
    """Read some images, wherever this runs."""
    return use(np.load(path, mmap_mode="r")[start:stop])


def episodes(data):
    """The files of the robot's episodes."""
    return sorted(map(str, (data / "lerobot_g1" / "data").rglob("*.parquet")))


@functools.cache
def robots(data):
    """All rows of the robot's state, float32 (35965, 26)."""
    import pyarrow.parquet as pq

    states = [pq.read_table(p, columns=["observation.state"])[0] for p in episodes(data)]
    return np.concatenate([np.stack(s.to_numpy()) for s in states])


def sea(path, at=slice(None)):
    """Temperatures of the sea, float32 (24, 170, 180), NaN where there is land."""
    import netCDF4

    with netCDF4.Dataset(path) as file:
        return file["tos"][at].filled(np.nan)


def sea_path(data):
    return str(data / "netcdf" / "tos_O1_2001-2002.nc")


def within_the_bound(value, data):
    """Whether moments are those of finite data, rows by channels, as docs/design.md promises."""
    truth = sn.measure(data, exact=True)
    kappa = np.sqrt(1 + truth.mean**2 / truth.variance())
    mean_error = np.abs(value.mean - truth.mean) / np.abs(data).max(axis=0)
    variance_error = np.abs(value.variance() / truth.variance() - 1)
    return (mean_error <= 3.2e-15).all() and (variance_error <= 1e-13 + 2e-15 * kappa).all()


def die_once(folder, name):
    """Kill this very process, unless it was done before."""
    try:
        (Path(folder) / name).touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def hiding(library):
    """Return a program without a library, as if it were not installed."""
    return f"""
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {library!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
"""


def without_streamnorm(folder):
    """Return a folder that, on PYTHONPATH, makes a Python that has no streamnorm."""
    (folder / "sitecustomize.py").write_text(hiding("streamnorm"))
    return str(folder)
