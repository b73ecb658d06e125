"""What people write instead, layout by layout."""

import itertools

import numpy as np
import pytest
import torch

import streamnorm as sn
from benchmarks.data import LAYOUTS, QUICK, arrange

TABLES = [name for name in LAYOUTS if name.startswith("(N")]
FLOATS = ["NHWC (·, 60, 60, 3)", "torch channels_last", *TABLES]
BYTES = ["NCHW (·, 3, 60, 60)", "NHWC (·, 60, 60, 3)"]
PART = 1 / 32


def var_mean(x, axis):
    x = torch.as_tensor(x)
    return torch.var_mean(x, dim=[d for d in range(x.ndim) if d != axis % x.ndim])


def partial_fit(x, axis):
    from sklearn.preprocessing import StandardScaler

    rows = torch.as_tensor(x).movedim(axis, -1)
    return StandardScaler().partial_fit(rows.reshape(-1, rows.shape[-1]).numpy())


def float_over_255(x, axis):
    x = torch.as_tensor(x).float() / 255
    others = [d for d in range(x.ndim) if d != axis % x.ndim]
    return x.mean(dim=others), x.std(dim=others)


def ours(x, axis):
    return sn.measure(x, channel_axis=axis)


CASES = [
    *((name, "float32", run) for name in FLOATS for run in (ours, var_mean, partial_fit)),
    *((name, "uint8", run) for name in BYTES for run in (ours, float_over_255)),
]


@pytest.mark.skipif(QUICK, reason="not in quick mode")
@pytest.mark.parametrize(("layout", "dtype", "run"), CASES)
def test_layout(race, layout, dtype, run):
    whole, axis = arrange(layout, dtype)
    size = len(whole) if run is ours else int(len(whole) * PART)
    starts = itertools.cycle(range(0, len(whole) - size + 1, size))

    def work():
        start = next(starts)
        run(whole[start : start + size], axis)

    nbytes = int(np.prod(whole.shape[1:])) * size * whole.dtype.itemsize
    race(work, f"{layout}, {dtype}", column=run.__name__, bytes=nbytes)
