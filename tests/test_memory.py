"""Memory stays flat: the peak of a fresh process at two stream lengths ten times apart."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.lib.format import open_memmap

LIMIT = 5 * 2**20

ARRAYS = """
import numpy as np, streamnorm as sn
batch = np.random.default_rng(0).normal(size=({rows}, 3)).astype(np.float32)
acc = sn.Accumulator()
for _ in range(n):
    acc.update(batch)
assert acc.moments.count[0] == n * {rows}
"""
GENERATED = """
import numpy as np, streamnorm as sn
batches = (np.full((20000, 8), float(k)) for k in range(n))
assert sn.compute(batches, workers=2).count[0] == n * 20000
"""
FILE = """
import os, sys, streamnorm as sn
path = os.path.join(sys.argv[2], f"{n}.npy")
assert sn.compute(path, workers=2).count[0] == n * 1000
"""
FILES = """
import os, sys, streamnorm as sn
folder = os.path.join(sys.argv[2], str(n))
assert sn.compute(folder, workers=2).meta.report.read == n
"""


def peak(code, n, *arguments):
    """Return the peak resident memory of a fresh interpreter, in bytes."""
    script = f"import sys\nn = int(sys.argv[1])\n{code}\nimport resource\n"
    script += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)"
    done = subprocess.run(
        [sys.executable, "-c", script, str(n), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def assert_flat(code, few, many, *arguments):
    # The first run of all fills the kernel cache; compiling takes memory of its own.
    peak(code, few, *arguments)
    assert peak(code, many, *arguments) - peak(code, few, *arguments) <= LIMIT


@pytest.mark.proof
@pytest.mark.timeout(300)
def test_a_million_small_batches():
    assert_flat(ARRAYS.format(rows=2), 100_000, 1_000_000)


def test_large_batches():
    assert_flat(ARRAYS.format(rows=200_000), 40, 400)


def test_a_generator():
    assert_flat(GENERATED, 60, 600)


def test_a_file(tmp_path):
    for n in (100, 1000):
        file = open_memmap(tmp_path / f"{n}.npy", "w+", np.float32, (n * 1000, 50))
        file[:: n * 100] = 1
        del file
    assert_flat(FILE, 100, 1000, tmp_path)


@pytest.mark.proof
def test_20000_files(tmp_path):
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (8, 8), (1, 2, 3)).save(tmp_path / "one.png")
    for n in (2000, 20_000):
        folder = tmp_path / str(n)
        folder.mkdir()
        for k in range(n):
            Path(folder / f"{k:05}.png").hardlink_to(tmp_path / "one.png")
    assert_flat(FILES, 2000, 20_000, tmp_path)
