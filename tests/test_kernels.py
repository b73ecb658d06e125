"""Every compiled kernel against the NumPy reference, and the merge against its compiled self."""

import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import agree
from oracle import exact, mean_error, variance_error
from strategies import DTYPES, tables

import streamnorm as sn
from streamnorm import partial
from streamnorm.boxes import MOST_TILE_ROWS
from streamnorm.dtypes import precision_of
from streamnorm.kernels import compiled, reference, stages
from streamnorm.kernels.cpu import measure_block
from streamnorm.kernels.float_rows import FIELDS
from streamnorm.kernels.machine import JIT_OFF, LINE, pointer
from streamnorm.moments import Moments
from streamnorm.partial import PARTIAL

SHAPES = (
    (3, 2, 5),
    (1, 1, 300),
    (40, 3, 1),
    (2, 3, 519),
    (7, 5, 49),
    (300, 200, 1),
    (30, 700, 1),
)


def both(block, valid=None, omit=False):
    precision = precision_of(block.dtype.name)
    out = partial.empty(block.shape[1])
    measure_block(block, valid, precision, omit, out)
    specified = reference.measure_block(block, valid, omit)
    return Moments.of_rows(out), Moments.of_rows(specified)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_compiled_kernels_do_what_the_reference_says(dtype, shape):
    rng = np.random.default_rng(7)
    block = (rng.normal(20, 9, shape) % 100).astype(dtype)
    agree(*both(block), largest=100)
    agree(*both(block, rng.random(shape) < 0.7), largest=100)


@pytest.mark.parametrize("omit", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@given(data=st.data())
def test_kernels_agree_on_special_values(shape, omit, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    block = rng.normal(size=shape).astype(data.draw(st.sampled_from(["float32", "float64"])))
    special = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45]
    where = rng.random(shape) < data.draw(st.sampled_from([0, 0.001, 0.5]))
    block[where] = rng.choice(special, int(where.sum()))
    agree(*both(block, omit=omit), largest=9)


@pytest.mark.parametrize("omit", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@given(data=st.data())
def test_kernels_agree_on_special_values_inside_and_outside_of_a_mask(shape, omit, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    offset = data.draw(st.sampled_from([0, 50]))
    dtype = data.draw(st.sampled_from(["float16", "float32", "float64"]))
    block = rng.normal(offset, 1, shape).astype(dtype)
    where = rng.random(shape) < data.draw(st.sampled_from([0, 0.001, 0.5]))
    special = data.draw(st.sampled_from([[np.nan], [np.inf], [np.nan, np.inf, -np.inf]]))
    block[where] = rng.choice(special, int(where.sum()))
    mask = rng.random(shape) < data.draw(st.sampled_from([0.0, 0.1, 0.9, 1.0]))
    agree(*both(block, mask, omit=omit), largest=offset + 9)


@pytest.mark.parametrize("length", [1, 256, 4095, 4096, 3 * 4096 + 1])
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int16"])
def test_tile_edges(dtype, length):
    block = (np.random.default_rng(0).normal(20, 9, (2, 2, length)) % 100).astype(dtype)
    agree(*both(block), largest=100)


@pytest.mark.parametrize("scale", [1.7e308, 1e160, 2.0**501])
@pytest.mark.parametrize("shape", [(3, 2, 900), (900, 2, 1)], ids=str)
def test_values_whose_squares_overflow(scale, shape):
    block = np.random.default_rng(0).choice([-1.0, 0.25, 1.0], shape) * scale
    compiled_moments, specified = both(block)
    assert np.isfinite(compiled_moments.mean).all()
    np.testing.assert_allclose(compiled_moments.mean, specified.mean, rtol=0, atol=1e-14 * scale)
    np.testing.assert_allclose(compiled_moments.m2, specified.m2, rtol=1e-12)


HALVES = np.arange(2**16, dtype=np.uint16)


@pytest.mark.parametrize("omit", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_every_float16_and_bfloat16_is_itself(name, masked, omit):
    """As a channel of its own, with and without a mask: all bit patterns, special ones too."""
    if name == "float16":
        block = numbers = HALVES.view(np.float16)
    else:
        block, numbers = HALVES, (HALVES.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(invalid="ignore"):
        numbers = numbers.astype(np.float64)
    out = partial.empty(HALVES.size)
    valid = np.ones((1, HALVES.size, 1), bool) if masked else None
    measure_block(block.reshape(1, -1, 1), valid, precision_of(name), omit, out)
    for field in ("mean", "minimum", "maximum"):
        np.testing.assert_array_equal(out[field], numbers)
        assert not np.signbit(out[field][out[field] == 0]).any()
    left_out = np.isnan(numbers) & omit
    known = np.isfinite(numbers) | left_out
    assert (out["m2"][known] == 0).all() and np.isnan(out["m2"][~known]).all()
    np.testing.assert_array_equal(out["count"], ~left_out)
    np.testing.assert_array_equal(out["omitted"], left_out)


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_box_with_one_special_value_is_measured_again_by_any_number_of_threads(dtype, special):
    x = np.random.default_rng(0).normal(20, 9, (2**20, 3)).astype(dtype)
    x[-5, 1] = special
    alone = sn.measure(x, nan_policy="omit", threads=1)
    assert sn.measure(x, nan_policy="omit", threads=3) == alone
    known = x[np.isfinite(x[:, 1]) | np.isinf(x[:, 1]), 1].astype(np.float64)
    assert alone.count[1] == known.size
    assert alone.omitted.tolist() == [0, 2**20 - known.size, 0]
    if np.isnan(special):
        np.testing.assert_allclose(alone.variance()[1], known.var(), rtol=1e-12)
    else:
        assert alone.mean[1] == special
    whole = x.astype(np.float64)[:, [0, 2]]
    np.testing.assert_allclose(alone.mean[[0, 2]], whole.mean(0), rtol=1e-13)


def test_a_wide_table_of_two_values_is_within_the_bound():
    """Squares of two deviations only are added: every addition errs the same way."""
    table = np.where(np.random.default_rng(0).random((60_000, 320)) < 0.3, 0.1, 2.7)
    measured = sn.measure(table)
    for channel in (0, 319):
        truth = exact(table[:, channel])
        assert mean_error(measured.mean[channel], truth) <= 1
        assert variance_error(measured.variance()[channel], truth) <= 1


FORMULAS = {
    f.__name__: f
    for f in (
        stages._open_book,
        stages._begin_stage,
        stages._judge,
        stages._recentre,
        stages._close,
    )
}


def assert_same_bits(a, b):
    np.testing.assert_array_equal(a, b)
    known = ~np.isnan(a)
    np.testing.assert_array_equal(np.signbit(a[known]), np.signbit(b[known]))


def random_fields(rng, *shape):
    values = rng.normal(size=shape) * 10.0 ** rng.integers(-9, 9, shape[-1])
    odd = rng.random(shape) < 0.3
    values[odd] = rng.choice([0.0, -0.0, np.nan, np.inf, -np.inf, 1e300, 7.0], odd.sum())
    return values


def random_book(rng):
    book = random_fields(rng, stages.BOOK, 16)
    for field in (stages.NUMBERS, stages.COUNT, stages.MISSING):
        book[field] = rng.integers(0, 9, 16)
    return book


@pytest.mark.skipif(JIT_OFF, reason="compares with what is compiled")
@pytest.mark.parametrize("name", FORMULAS)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_formulas_over_channels_have_the_same_bits_in_numpy_and_compiled(name, seed):
    book = random_book(np.random.default_rng(seed))
    expected = book.copy()
    with np.errstate(all="ignore"):
        changed, conditions = FORMULAS[name](np.where, lambda field: book[field].copy())
    for field, values in changed.items():
        expected[field] = values
    flags = APPLY[name](book)
    assert_same_bits(book, expected)
    assert flags == sum(int(condition.any()) << k for k, condition in enumerate(conditions))


def _apply(formula):
    @numba.njit
    def apply(book):
        return formula(pointer(book), book.shape[1])

    return apply


APPLY = {
    "_open_book": _apply(stages.open_book),
    "_begin_stage": _apply(stages.begin_stage),
    "_judge": _apply(stages.judge),
    "_recentre": _apply(stages.recentre),
    "_close": _apply(stages.close),
}


@pytest.mark.skipif(JIT_OFF, reason="compares with what is compiled")
@given(seed=st.integers(0, 10_000), channels=st.integers(1, 16), policy=st.sampled_from([-1, 1]))
@settings(max_examples=30, deadline=None)
def test_a_box_is_summed_up_to_the_same_bits_in_numpy_and_compiled(seed, channels, policy):
    book = random_book(np.random.default_rng(seed))
    # More than all counts together, as a box has at least as many values.
    given_values = policy * 20.0
    rows = partial.empty(channels + 1)
    with np.errstate(all="ignore"):
        made, (overflowed,) = stages._sum_up(
            np.where, lambda field: book[field, :channels].copy(), given_values
        )
    assert _sum_up(book, given_values, rows, channels) == int(overflowed.any())
    for name, values in zip(PARTIAL.names, made, strict=True):
        assert_same_bits(rows[name][:channels], values)
    assert same_bits(rows[channels:], partial.empty(1))


@numba.njit
def _sum_up(book, values, rows, channels):
    return stages.sum_up(pointer(book), book.shape[1], values, pointer(rows), channels)


@pytest.mark.skipif(JIT_OFF, reason="compares with what is compiled")
@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_lanes_are_folded_to_the_same_bits_in_numpy_and_compiled(seed):
    rng = np.random.default_rng(seed)
    acc, book = random_fields(rng, 3, FIELDS, 8), random_book(rng)
    book[stages.CENTRE] = rng.normal(size=16)
    owners = rng.integers(-1, 16, (3, 8))
    folded, shifts = book.copy(), acc.copy()
    for panel, lane in zip(*np.nonzero(owners >= 0), strict=True):
        own, channel = acc[panel, :, lane], folded[:, owners[panel, lane]]
        with np.errstate(all="ignore"):
            channel[stages.S1 : stages.ROWS] += own[stages.S1 : stages.ROWS]
        channel[stages.LOW] = min(channel[stages.LOW], own[stages.LOW])
        channel[stages.HIGH] = max(channel[stages.HIGH], own[stages.HIGH])
        shifts[panel, stages.SHIFT, lane] = book[stages.CENTRE, owners[panel, lane]]
    before = book.copy()
    _shift_and_fold(acc, owners, book)
    assert_same_bits(book, folded)
    assert_same_bits(acc[:, 1:], shifts[:, 1:])
    owned = owners >= 0
    assert_same_bits(acc[:, stages.SHIFT][owned], shifts[:, stages.SHIFT][owned])
    assert np.isin(acc[:, stages.SHIFT][~owned], before[stages.CENTRE]).all()


@numba.njit
def _shift_and_fold(acc, owners, book):
    panels, _, lanes = acc.shape
    width = book.shape[1]
    stages.set_shift(pointer(acc), panels, lanes, pointer(owners), pointer(book), width)
    stages.fold(pointer(acc), panels, lanes, pointer(owners), pointer(book), width)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [("uint8", 255), ("uint16", 65535), ("float16", 3.0), ("float32", np.nan), ("float64", np.inf)],
)
def test_a_call_of_most_rows_and_a_tail_counts_and_sums_all(dtype, value):
    lanes = LINE // np.dtype(dtype).itemsize
    block = np.full((2, 2, MOST_TILE_ROWS * lanes + 1), value, dtype)
    every = np.ones(block.shape, bool)
    agree(*both(block, omit=True), largest=65535)
    agree(*both(block, every, omit=True), largest=65535)
    every[:, 1] = False
    every[-1, 1, -1] = True
    agree(*both(block, every, omit=True), largest=65535)


def random_partials(rng, rows, channels):
    parts = partial.empty((rows, channels))
    some = rng.random((rows, channels)) < 0.8
    parts["count"][some] = rng.integers(1, 10 ** rng.integers(1, 16), some.sum())
    means = rng.normal(size=some.sum()) * 10.0 ** rng.integers(-300, 308, some.sum())
    means[rng.random(means.size) < 0.05] = np.nan
    means[rng.random(means.size) < 0.05] = -np.inf
    parts["mean"][some] = means
    parts["m2"][some] = rng.random(some.sum())
    parts["minimum"][some] = np.where(rng.random(means.size) < 0.1, np.nan, means - 1)
    parts["maximum"][some] = np.where(rng.random(means.size) < 0.1, np.nan, means + 1)
    parts["omitted"] = rng.integers(0, 5, parts.shape)
    return parts


def same_bits(a, b):
    return all(
        np.array_equal(a[name], b[name], equal_nan=a[name].dtype.kind == "f")
        for name in PARTIAL.names
    )


@given(seed=st.integers(0, 10_000), rows=st.integers(1, 12))
def test_the_merge_has_the_same_bits_in_numpy_and_compiled(seed, rows):
    parts = random_partials(np.random.default_rng(seed), rows, 7)
    expected = partial.merge_tree(parts.copy())
    compiled.merge_rows(parts)
    assert same_bits(parts[0], expected)


@given(seed=st.integers(0, 10_000))
def test_the_merge_commutes_keeps_identity_and_stays_between_in_every_bit(seed):
    parts = random_partials(np.random.default_rng(seed), 2, 50)
    a, b = parts
    merged = partial.merge(a, b)
    assert same_bits(merged, partial.merge(b, a))
    assert same_bits(partial.merge(a, partial.empty(50)), a)
    both_finite = np.isfinite(a["mean"]) & np.isfinite(b["mean"])
    low, high = np.fmin(a["mean"], b["mean"]), np.fmax(a["mean"], b["mean"])
    assert ((merged["mean"] >= low) & (merged["mean"] <= high))[both_finite].all()


@given(data=st.data())
def test_equal_means_are_left_unmoved(data):
    table = data.draw(tables("float64", max_rows=4).filter(len))
    m = Moments.from_mean_std(7, table[0], np.ones(table.shape[1]))
    n = Moments.from_mean_std(10**9 + 7, table[0], np.ones(table.shape[1]))
    assert (m + n).mean.tolist() == (table[0] + 0.0).tolist()


FREED_MEMORY = """
import numpy as np, streamnorm as sn
for dtype in ("f4", "f8", "i4", "u1"):
    for channels in (48, 4096):
        x = (np.random.default_rng(0).normal(3, 2, (70, channels)) % 9).astype(dtype)
        for m in (sn.measure(x, threads=1), sn.measure(x, threads=1, exact=True)):
            np.testing.assert_allclose(m.mean, x.mean(0, np.float64), rtol=1e-13)
            np.testing.assert_allclose(m.std(), x.std(0, np.float64), rtol=1e-12)
            np.testing.assert_array_equal(m.minimum, x.min(0))
"""


@pytest.mark.proof
@pytest.mark.skipif(JIT_OFF, reason="is about compiled code")
def test_no_kernel_reads_memory_that_it_has_let_go(tmp_path):
    """What is freed is overwritten at once, or gone; first compiled, then from the cache."""
    for _ in range(2):
        environment = os.environ | {"MALLOC_PERTURB_": "165", "NUMBA_CACHE_DIR": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", FREED_MEMORY],
            capture_output=True, text=True, check=False, env=environment,
            cwd=Path(__file__).parent.parent,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
