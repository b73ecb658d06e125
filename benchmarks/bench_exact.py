"""Exact sums in every layout, beside torch.var_mean; what their values weigh and cost to merge."""

import itertools
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

import streamnorm as sn
from benchmarks.bars import EXACT_ALL, EXACT_IMAGES
from benchmarks.data import LAYOUTS, QUICK, as_bits, random_values, working_set

IMAGES = "NCHW (·, 3, 60, 60)"
CASES = [
    *(("float32", layout, 1) for layout in EXACT_ALL),
    *(("float32", layout, 2) for layout in EXACT_ALL),
    *((dtype, layout, 1) for dtype in ("float64", "float16", "bfloat16") for layout in EXACT_ALL),
    *((dtype, layout, 1) for dtype in ("uint8", "int8", "int16", "uint16")
      for layout in EXACT_IMAGES),
    *((f"{dtype}, lognormal", layout, 1) for dtype in ("float32", "float64")
      for layout in (IMAGES, "(N, 64)")),
    ("float32, Gauss", IMAGES, 1),
    ("float32, Gauss", "(N, 1)", 1),
]  # fmt: skip
BLOCK = 1 << 23


def values(kind):
    """Return a flat array of the working set's size, of one kind of data."""
    dtype, _, how = kind.partition(", ")
    count = BLOCK // as_bits(dtype).itemsize
    normal = np.random.default_rng(3).standard_normal(count)
    if how == "lognormal":
        block = np.exp(4 * normal).astype(dtype)
    else:
        block = normal.astype(dtype) if how == "Gauss" else random_values(dtype, count)
    return np.resize(block, working_set() // BLOCK * count)


@pytest.mark.parametrize(("kind", "layout", "threads"), CASES[:1] if QUICK else CASES)
def test_layout(race, kind, layout, threads):
    flat = values(kind)
    build, axis = LAYOUTS[layout]
    array = build(flat)
    if kind == "bfloat16":
        array = torch.as_tensor(array).view(torch.bfloat16)
    column = kind if threads == 1 else f"{kind}, {threads} threads"
    race(
        lambda: sn.measure(array, channel_axis=axis, threads=threads, exact=True), layout,
        column=column, read=flat, threads=threads, bytes=array.nbytes,
    )  # fmt: skip


@pytest.mark.parametrize("layout", [IMAGES, "(N, 1)"])
def test_torch(race, layout):
    build, axis = LAYOUTS[layout]
    array = torch.as_tensor(build(values("float32")))
    part = len(array) // 16
    starts = itertools.cycle(range(0, len(array) - part, part))
    others = [d for d in range(array.ndim) if d != axis % array.ndim]

    def work():
        start = next(starts)
        return torch.var_mean(array[start : start + part], dim=others, correction=0)

    size = array[:part].nbytes
    race(work, layout, column="torch.var_mean", bytes=size)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_merge(race, dtype):
    rng = np.random.default_rng(0)
    some = [sn.measure(rng.normal(size=(8, 3)).astype(dtype), exact=True) for _ in range(1000)]
    parts = some * 100
    race(lambda: sn.merge(parts), "merge of 100,000 parts of 3 channels", column=dtype, rounds=5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_state(race, dtype):
    """The largest state: values over the whole range of exponents, in memory and in a file."""
    kind = np.dtype(dtype)
    bits = np.random.default_rng(0).integers(0, 256, 4000 * 64 * kind.itemsize, np.uint8)
    table = np.nan_to_num(bits.view(kind).reshape(-1, 64), nan=1, posinf=1, neginf=1)
    value = sn.measure(table, exact=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.json"
        info = race(lambda: sn.save(value, path), "state of a channel", column=dtype, rounds=3)
        in_file = path.stat().st_size / 64 / 1024
    in_memory = len(pickle.dumps(value)) / 64 / 1024
    info["noted"] = max(in_memory, in_file)
    info["shown"] = f"{in_memory:.2f} KiB, in the file {in_file:.2f}"
