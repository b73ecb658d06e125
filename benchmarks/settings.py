"""``python -m benchmarks.settings NAME=VALUE …``: measure with other numbers in the kernels.

For the sweep in bench_settings.py, which justifies the numbers that are there. Prints, as JSON, the
share of the speed of reading that each case reaches.
"""

import importlib
import json
import sys
import time

import numpy as np

MODULES = {
    "LINE": "streamnorm.kernels.machine",
    "AHEAD_BYTES": "streamnorm.kernels.vectors",
    "SWEPT_PANELS": "streamnorm.kernels.vectors",
    "SWEPT_ROWS": "streamnorm.kernels.vectors",
    "BOX_VALUES": "streamnorm.boxes",
    "MOST_BOX_VALUES": "streamnorm.boxes",
    "_FEWEST_ROWS": "streamnorm.boxes",
    "_MOST_FEWEST_ROWS": "streamnorm.boxes",
    "TILE_LINES": "streamnorm.boxes",
}
CASES = (
    ("float32", "NCHW (·, 3, 60, 60)"),
    ("float32", "(N, 3)"),
    ("float32", "(N, 768)"),
    ("float64", "(N, 64)"),
    ("uint8", "NCHW (·, 3, 60, 60)"),
    ("float16", "(N, 64)"),
)
BYTES = 1 << 29


def change(name, value):
    """Set a number before the kernels that read it are made."""
    setattr(importlib.import_module(MODULES[name]), name, value)


def shares():
    from benchmarks.data import LAYOUTS, random_values

    result = {}
    for dtype, layout in CASES:
        build, axis = LAYOUTS[layout]
        flat = np.resize(random_values(dtype, 1 << 20), BYTES // np.dtype(dtype).itemsize)
        result[f"{layout}, {dtype}"] = share(build(flat), axis)
    return result


def share(array, axis):
    """Return the share of the speed of reading, medians in turns.

    NumPy reads here: what Numba compiles is under test, for other processors too.
    """
    import streamnorm as sn

    words = array.ravel().view(np.int64)
    sn.measure(array[:100], channel_axis=axis)
    reading, measuring = [], []
    for _ in range(9):
        started = time.perf_counter()
        np.bitwise_xor.reduce(words)
        reading.append(time.perf_counter() - started)
        started = time.perf_counter()
        sn.measure(array, channel_axis=axis, threads=1)
        measuring.append(time.perf_counter() - started)
    return float(np.median(reading) / np.median(measuring))


if __name__ == "__main__":
    for setting in sys.argv[1:]:
        name, _, value = setting.partition("=")
        change(name, int(value))
    print(json.dumps(shares()))
