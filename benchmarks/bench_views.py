"""Views, read where they lie: bytes are those of the cache lines that they touch."""

import numpy as np
import pytest

import streamnorm as sn
from benchmarks.data import arrange, buffer

DTYPES = ("float32", "float64", "uint8", "float16")
LINE = 64


def nhwc_of_nchw(dtype):
    x, _ = arrange("NCHW (·, 3, 60, 60)", dtype)
    return x.transpose(0, 2, 3, 1), -1


def transposed(dtype):
    x, _ = arrange("(N, 64)", dtype)
    return x.reshape(64, -1).T, 1


def every_second_row(dtype):
    x, axis = arrange("(N, 64)", dtype)
    return x[::2], axis


def crop(dtype):
    x, axis = arrange("NCHW (·, 3, 60, 60)", dtype)
    return x[:, :, 8:-8, 8:-8], axis


def rgb_of_rgba(dtype):
    x, axis = arrange("(N, 4)", dtype)
    return x[:, :3], axis


VIEWS = {
    "NHWC of NCHW": nhwc_of_nchw,
    "x.T": transposed,
    "x[::2] of (N, 64)": every_second_row,
    "x[:, :, 8:-8, 8:-8]": crop,
    "x[:, :3] of (N, 4)": rgb_of_rgba,
}


def touched_bytes(view, whole):
    """Return the bytes of the cache lines that a view of `whole` touches, counted line by line."""
    part = view[: max(1, len(view) // 256)] if view.strides[0] > LINE else view[: 1 << 16]
    start = whole.__array_interface__["data"][0]
    offsets = part.__array_interface__["data"][0] - start
    for size, step in zip(part.shape, part.strides, strict=True):
        offsets = np.add.outer(offsets, np.arange(size) * step)
    lines = np.unique(offsets // LINE).size
    return lines * LINE * view.size // part.size


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_view(race, name, dtype):
    view, axis = VIEWS[name](dtype)
    whole = buffer(dtype)
    race(
        lambda: sn.measure(view, channel_axis=axis, threads=1), name, column=dtype,
        read=whole, bytes=int(touched_bytes(view, whole)),
    )  # fmt: skip
