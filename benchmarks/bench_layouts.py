"""Every layout and dtype, as a share of the speed of reading the same bytes."""

import pytest

import streamnorm as sn
from benchmarks.data import DTYPES, LAYOUTS, QUICK, arrange, buffer

QUICK_LAYOUTS = ("NCHW (·, 3, 60, 60)", "(N, 3)", "(N, 768)")
CASES = [
    (dtype, threads, layout)
    for dtype in (("float32", "uint8") if QUICK else DTYPES)
    for threads in ((1,) if QUICK or dtype not in ("float32", "float64", "uint8") else (1, 2))
    for layout in (QUICK_LAYOUTS if QUICK else LAYOUTS)
]


@pytest.mark.parametrize(("dtype", "threads", "layout"), CASES)
def test_layout(race, dtype, threads, layout):
    array, axis = arrange(layout, dtype)
    column = dtype if threads == 1 else f"{dtype}, {threads} threads"
    race(
        lambda: sn.measure(array, channel_axis=axis, threads=threads), layout, column=column,
        read=buffer(dtype), threads=threads, bytes=array.nbytes,
    )  # fmt: skip
