"""What is measured: arrays larger than any cache, in every layout and dtype."""

import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

QUICK = os.environ.get("STREAMNORM_BENCH_QUICK") == "1"
ROUNDS = 3 if QUICK else 9
BATCH = (128, 3, 60, 60)
DTYPES = ("float32", "float64", "uint8", "int16", "uint16", "float16", "bfloat16", "int32")
_BLOCK = 1 << 23


def last_level_cache():
    """Return the bytes of the largest cache of a processor."""
    sizes = [
        int(path.read_text().strip().rstrip("K")) * 1024
        for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    ]
    return max(sizes, default=32 << 20)


def memory():
    """Return the bytes of memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def working_set():
    """Return how many bytes to read: five times the last-level cache, if memory allows."""
    return 1 << 27 if QUICK else min(5 * last_level_cache(), memory() // 4)


def as_bits(dtype):
    """Return the dtype that NumPy has for the memory of values of a dtype."""
    return np.dtype("int16" if dtype == "bfloat16" else dtype)


def random_values(dtype, count):
    rng = np.random.default_rng(0)
    if dtype == "bfloat16":
        normal = torch.from_numpy(rng.normal(20, 9, count)).to(torch.bfloat16)
        return normal.view(torch.int16).numpy()
    if "float" in dtype:
        return rng.normal(20, 9, count).astype(dtype)
    return rng.integers(0, np.iinfo(dtype).max, count, dtype, endpoint=True)


@lru_cache(maxsize=1)
def buffer(dtype, special=None):
    """Return a flat array of the working set's size: one random block, again and again.

    Only the last one is kept. With ``special="NaN"`` every tenth value is NaN.
    """
    size = as_bits(dtype).itemsize
    block = random_values(dtype, _BLOCK // size)
    if special:
        block[np.random.default_rng(1).random(len(block)) < 0.1] = np.nan
    blocks = working_set() // _BLOCK
    flat = np.empty((blocks, len(block)), block.dtype)
    flat[:] = block
    return flat.ravel()


def _images(flat, *shape):
    size = int(np.prod(shape))
    return flat[: len(flat) // size * size].reshape(-1, *shape)


def _channels_last(flat):
    return torch.from_numpy(_images(flat, 60, 60, 3)).permute(0, 3, 1, 2)


LAYOUTS = {
    "NCHW (·, 3, 60, 60)": (lambda flat: _images(flat, 3, 60, 60), 1),
    "NHWC (·, 60, 60, 3)": (lambda flat: _images(flat, 60, 60, 3), -1),
    "torch channels_last": (_channels_last, 1),
    **{
        f"(N, {channels})": (lambda flat, channels=channels: _images(flat, channels), 1)
        for channels in (1, 3, 4, 7, 16, 64, 768, 4096)
    },
}


def arrange(layout, dtype, special=None):
    """Return the buffer of a dtype in a layout, and the channel axis."""
    build, axis = LAYOUTS[layout]
    array = build(buffer(dtype, special))
    if dtype == "bfloat16":
        array = torch.as_tensor(array).view(torch.bfloat16)
    return array, axis


def stream_batches(count):
    """Return batches of float32 as torch tensors that lie behind one another in memory."""
    flat = buffer("float32")
    size = int(np.prod(BATCH))
    whole = flat[: count * size].reshape(count, *BATCH)
    return list(torch.from_numpy(whole)), whole


def hard_batches(dtype):
    """Return batches whose mean is far from 0, and the true std of their channels."""
    center, name = (1e4, np.float32) if dtype == "float32" else (1e8, np.float64)
    rng = np.random.default_rng(1)
    values = (rng.standard_normal((4, 8, 3, 30, 30)) + center).astype(name)
    # The difference is exact: the values lie within a factor of two of the center.
    truth = (values.astype(np.float64) - center).std((0, 1, 3, 4))
    return list(torch.from_numpy(values)), truth
