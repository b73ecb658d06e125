"""Every compiled kernel against the NumPy reference, and the merge against its compiled self."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from laws import agree
from strategies import DTYPES, tables

from streamnorm import partial
from streamnorm.dtypes import precision_of
from streamnorm.kernels import compiled, reference
from streamnorm.kernels.cpu import measure_block
from streamnorm.moments import Moments
from streamnorm.partial import PARTIAL

SHAPES = (
    (3, 2, 5),
    (1, 1, 300),
    (40, 3, 1),
    (2, 3, 519),
    (7, 5, 49),
    (300, 200, 1),
)


def both(block, valid=None, omit=False):
    precision = precision_of(block.dtype.name)
    out = partial.empty(block.shape[1])
    measure_block(block, valid, precision, omit, out)
    specified = reference.measure_block(block, valid, omit)
    return Moments.of_partial(out), Moments.of_partial(specified)


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
