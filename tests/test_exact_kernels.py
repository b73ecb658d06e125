"""Exact sums of every dtype, layout and size: equal to those of rational arithmetic."""

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import exact_sums
from strategies import DTYPES, LAYOUTS, bit_patterns, patterns

import streamnorm as sn
from streamnorm import limbs
from streamnorm.boxes import MOST_TILE_ROWS
from streamnorm.dtypes import precision_of
from streamnorm.kernels import crew, exact_boxes
from streamnorm.kernels.ladders import MOST_ROWS
from streamnorm.kernels.machine import JIT_OFF
from streamnorm.kernels.windows import format_of

FLOATS = ("float16", "float32", "float64")
per_dtype = pytest.mark.parametrize("dtype", DTYPES)


def assert_exact(measured, columns):
    """Assert that every channel has the very sums, counts and extremes of its column."""
    sums, squares = measured.sum, measured.sum_of_squares
    extremes = measured.finite_minimum, measured.finite_maximum
    counts = (measured.count, measured.nan, measured.positive_infinity, measured.negative_infinity)
    for c, column in enumerate(np.asarray(each).ravel() for each in columns):
        assert (sums[c], squares[c]) == exact_sums(column)[1:]
        special = np.isnan(column), column == np.inf, column == -np.inf
        expected = (column.size, *(int(found.sum()) for found in special))
        assert tuple(count[c] for count in counts) == expected
        finite = [x for x in column.tolist() if np.isfinite(x)]
        assert extremes[0][c] == (min(finite) if finite else None)
        assert extremes[1][c] == (max(finite) if finite else None)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@per_dtype
@settings(max_examples=25)
@given(data=st.data())
def test_sums_of_random_bits_are_exact_in_every_layout(dtype, layout, data):
    table = data.draw(bit_patterns(dtype))
    measured = sn.measure(layout.build(table), channel_axis=layout.axis, exact=True)
    assert_exact(measured, list(table.T))


SIZES = (0, 1, 15, 16, 17, 253, 254, 255, 256, 4095, 4096, 4097, 3 * 4096 + 1)


@pytest.mark.parametrize("size", SIZES)
@per_dtype
def test_sums_are_exact_at_the_edges_of_tiles(dtype, size):
    rng = np.random.default_rng(size)
    run = patterns(dtype, rng, (1, 2, size))
    assert_exact(sn.measure(run, exact=True), list(run[0]))
    rows = patterns(dtype, rng, (size // 3, 3))
    assert_exact(sn.measure(rows, exact=True), list(rows.T))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "shape", [(700, 320), (2, 3, 90, 90), (5000, 3), (3, 2, 16, 40, 20)], ids=str
)
def test_sums_of_ordinary_data_are_exact(shape, dtype):
    """Where whole tiles lie in their windows: long ones, wide ones, and narrow ones."""
    x = np.random.default_rng(0).normal(3, 2, shape).astype(dtype)
    assert_exact(sn.measure(x, exact=True), list(np.moveaxis(x, 1, 0)))


@pytest.mark.proof
@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_every_half_is_itself(name):
    torch = pytest.importorskip("torch")
    bits = torch.arange(2**16, dtype=torch.int32).to(torch.uint16)
    halves = bits.view(getattr(torch, name)).reshape(1, -1)
    measured = sn.measure(halves, exact=True)
    assert_exact(measured, halves.to(torch.float64).numpy().T)


@pytest.mark.parametrize("layout", ["rows", "NCHW", "columns first", "crop", "big-endian"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint16", "int64"])
@given(data=st.data())
def test_what_a_mask_leaves_out_is_in_no_sum(dtype, layout, data):
    layout = next(view for view in LAYOUTS if view.name == layout)
    table = data.draw(bit_patterns(dtype))
    mask = np.random.default_rng(len(table)).random(table.shape) < data.draw(
        st.sampled_from([0.0, 0.1, 0.9, 1.0])
    )
    measured = sn.measure(
        layout.build(table), channel_axis=layout.axis, mask=layout.build(mask), exact=True
    )
    columns = [column[kept] for column, kept in zip(table.T, mask.T, strict=True)]
    assert_exact(measured, columns)
    padding = layout.build(mask).size // table.shape[1] - len(table)
    assert padding == 0
    assert measured.omitted.tolist() == (~mask).sum(0).tolist()


@pytest.mark.parametrize("dtype", FLOATS)
@given(data=st.data())
def test_omit_leaves_nan_out_and_counts_it(dtype, data):
    table = data.draw(bit_patterns(dtype))
    measured = sn.measure(table, nan_policy="omit", exact=True)
    nan = np.isnan(table)
    assert_exact(measured, [column[~gone] for column, gone in zip(table.T, nan.T, strict=True)])
    assert measured.omitted.tolist() == nan.sum(0).tolist()


def test_raise_names_the_channels_with_nan():
    table = np.ones((9, 3))
    table[4, 1] = np.nan
    with pytest.raises(ValueError, match=r"NaN in channel\(s\) 1 under"):
        sn.measure(table, nan_policy="raise", exact=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_each_channel_has_its_own_window(dtype):
    """Columns of very different scales side by side, and one that changes its scale."""
    rng = np.random.default_rng(0)
    table = rng.normal(size=(3000, 5)) * [1e20, 1e-20, 1.0, 1e-3, 1e9]
    table[1500:, 2] *= 1e12
    table[2000, 3] = 1e30
    table = table.astype(dtype)
    assert_exact(sn.measure(table, exact=True), list(table.T))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lognormal_values_of_many_exponents(dtype):
    x = np.exp(4 * np.random.default_rng(0).standard_normal((20_000, 2))).astype(dtype)
    assert_exact(sn.measure(x, exact=True), list(x.T))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("top", [-140, -126, -104, -103, -22, 0, 1, 127])
def test_powers_of_two_around_the_ends_of_windows(dtype, top):
    form = np.finfo(dtype)
    exponents = top - np.arange(60)
    with np.errstate(all="ignore"):
        powers = np.ldexp(np.ones(60), exponents)
        x = np.concatenate([powers, -powers, powers * 1.75, powers * (2 - form.eps)]).astype(dtype)
    x = x[np.isfinite(x)].reshape(-1, 1)
    for shift in (0, 1, 7):
        rolled = np.roll(x, shift, axis=0)
        assert_exact(sn.measure(np.tile(rolled, (3, 1)), exact=True), [np.tile(rolled, (3, 1))])


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_sum_that_is_right_in_the_written_order_only(dtype):
    """What compilers may do with reassociation ends a ladder: its differences would be zero.

    The tile's sum of squares is no whole number of the first rung's units, so it can only be
    right if the differences between additions were taken as they are written.
    """
    small = 2.0**-8 * (1 + np.finfo(dtype).eps)
    tile = np.tile(np.array([1.0] + [small] * 15, dtype), (256, 1))
    measured = sn.measure(tile, exact=True)
    assert_exact(measured, list(tile.T))
    top = max(1 + exact_boxes.MARGIN, format_of(precision_of(dtype).bits).least_top)
    first_unit = Fraction(2) ** (2 * top + format_of(precision_of(dtype).bits).scheme.squares[0])
    assert (measured.sum_of_squares[1] / first_unit).denominator > 1


def test_a_lane_never_takes_more_values_than_its_rungs_hold():
    assert MOST_TILE_ROWS + 1 <= MOST_ROWS


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_the_largest_sums_of_a_lane_are_exact(dtype):
    """As many of the largest values, with all their bits, as one call adds to a lane."""
    largest = np.nextafter(np.array(2.0, dtype), np.array(0, dtype))
    for rows in (MOST_TILE_ROWS, MOST_TILE_ROWS + 1, 2 * MOST_TILE_ROWS):
        for sign in (1, -1):
            table = np.full((rows, 64), sign * largest)
            assert_exact(sn.measure(table, exact=True), list(table.T)[:2])


@pytest.mark.parametrize("threads", [2, 3, 16])
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int64", ">f4"])
def test_threads_change_nothing(dtype, threads, monkeypatch):
    monkeypatch.setattr(crew, "WORTH_HELPERS", 0)
    x = np.random.default_rng(1).normal(30, 9, (2**19, 3)).astype(dtype)
    if x.dtype.kind == "f":
        x[17, 1] = np.nan
        x[-1, 0] = -np.inf
    alone = sn.measure(x, threads=1, exact=True)
    for _ in range(5):
        shared = sn.measure(x, threads=threads, exact=True)
        assert shared == alone
        assert shared.digest() == alone.digest()
        np.testing.assert_array_equal(shared.minimum, alone.minimum)
        np.testing.assert_array_equal(shared.maximum, alone.maximum)


def test_inputs_are_not_written():
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    before = x.copy()
    x.flags.writeable = False
    sn.measure(x, exact=True)
    np.testing.assert_array_equal(x, before)


DIGESTS = """
import numpy as np, streamnorm as sn
rng = np.random.default_rng(5)
for dtype in ("float16", "int32"):
    with np.errstate(all="ignore"):
        x = (rng.normal(20, 9, (4000, 5)) * 10.0 ** rng.integers(-9, 9, 5)).astype(dtype)
    bits = rng.integers(0, 256, (50, 5 * x.itemsize), np.uint8).view(dtype)
    print(dtype, sn.measure(np.concatenate([x, bits]), exact=True).digest())
"""


@pytest.mark.proof
@pytest.mark.skipif(JIT_OFF, reason="is about compiled code")
def test_every_processor_gives_the_same_digests(tmp_path):
    """Without fused multiplication, with AVX2, and whatever this one has."""
    answers = {}
    for name in ("generic", "haswell", "host"):
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / name)}
        if name != "host":
            environment["NUMBA_CPU_NAME"] = name
            environment["NUMBA_CPU_FEATURES"] = "" if name == "generic" else "+avx2,+fma,+f16c"
        run = subprocess.run(
            [sys.executable, "-c", DIGESTS],
            capture_output=True, text=True, check=True, env=environment,
            cwd=Path(__file__).parent.parent,
        )  # fmt: skip
        answers[name] = run.stdout
    assert answers["generic"] == answers["haswell"] == answers["host"]
    assert answers["host"].count("\n") == 2


FLAGS = """
import numpy as np, streamnorm as sn
from streamnorm.kernels import exact_boxes
sn.measure(np.ones((3, 2), np.float32), exact=True)
for text in exact_boxes.measure_boxes.inspect_llvm().values():
    print("\\n".join(line for line in text.splitlines() if " fadd " in line or " fsub " in line))
"""


@pytest.mark.skipif(JIT_OFF, reason="is about what LLVM was given")
def test_nothing_near_exact_sums_is_compiled_with_fastmath(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-c", FLAGS],
        capture_output=True, text=True, check=True, env=environment,
        cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    operations = run.stdout.splitlines()
    assert len(operations) > 10
    flags = ("reassoc", "contract", "nsz", "fast ", "nnan", "ninf")
    assert not [line for line in operations if any(flag in line for flag in flags)]


def test_narrow_and_wide_records_are_as_small_as_promised():
    assert limbs.NARROW.dtype.itemsize <= 1024
    assert limbs.WIDE.dtype.itemsize <= 4096
