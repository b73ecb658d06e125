"""A boolean mask, and NaN left out; beside np.nanstd. The bytes of a mask are not counted."""

import itertools
from functools import lru_cache

import numpy as np
import pytest

import streamnorm as sn
from benchmarks.data import QUICK, arrange, buffer

LAYOUTS = ("NCHW (·, 3, 60, 60)", "(N, 3)", "(N, 64)", "(N, 768)")
MASKED = ("float32", "float64", "uint8", "int16", "float16")
WITH_NAN = (("float32", 1), ("float32", 2), ("float64", 1), ("float16", 1))
PART = 1 / 64

pytestmark = pytest.mark.skipif(QUICK, reason="not in quick mode")


@lru_cache(maxsize=1)
def nine_in_ten(count):
    """Return a flat mask, True for nine values of ten, without order."""
    block = np.random.default_rng(2).random(1 << 20) < 0.9
    return np.resize(block, count)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", MASKED)
def test_mask(race, layout, dtype):
    array, axis = arrange(layout, dtype)
    mask = nine_in_ten(buffer(dtype).size)[: array.size].reshape(array.shape)
    race(
        lambda: sn.measure(array, mask=mask, channel_axis=axis, threads=1), f"mask, {layout}",
        column=dtype, read=buffer(dtype), bytes=array.nbytes,
    )  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("dtype", "threads"), WITH_NAN)
def test_omit(race, layout, dtype, threads):
    array, axis = arrange(layout, dtype, "NaN")
    race(
        lambda: sn.measure(array, nan_policy="omit", channel_axis=axis, threads=threads),
        f"10 % NaN left out, {layout}", column=dtype if threads == 1 else f"{dtype}, 2 threads",
        read=buffer(dtype, "NaN"), threads=threads, bytes=array.nbytes,
    )  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nanstd(race, layout):
    array, axis = arrange(layout, "float32", "NaN")
    size = int(len(array) * PART)
    others = tuple(d for d in range(array.ndim) if d != axis % array.ndim)
    starts = itertools.cycle(range(0, len(array) - size, size))

    def work():
        start = next(starts)
        return np.nanstd(array[start : start + size], axis=others)

    race(
        work, f"10 % NaN left out, {layout}", column="np.nanstd, float32", bytes=array[:size].nbytes
    )
