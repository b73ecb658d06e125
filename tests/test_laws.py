"""The laws of Moments, over value × kernel × layout × dtype, on operational data."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from laws import KITS, agree, commutes, identity
from oracle import assert_accurate
from strategies import DTYPES, LAYOUTS, merged_in_random_tree, splits, tables

import streamnorm as sn

per_kit = pytest.mark.parametrize("kit", KITS, ids=lambda kit: kit.name)
per_dtype = pytest.mark.parametrize("dtype", DTYPES)
per_layout = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)


def finite_max(table) -> float:
    finite = np.abs(table[np.isfinite(table)].astype(np.float64)) if table.size else np.zeros(1)
    return float(finite.max(initial=0.0))


@per_kit
@per_dtype
@given(data=st.data())
def test_empty_is_the_identity_in_every_bit(kit, dtype, data):
    identity(kit.measure(data.draw(tables(dtype, special=np.dtype(dtype).kind == "f"))))


@per_kit
@per_dtype
@given(data=st.data())
def test_merging_two_commutes_in_every_bit(kit, dtype, data):
    table = data.draw(tables(dtype, special=np.dtype(dtype).kind == "f"))
    at = data.draw(st.integers(0, len(table)))
    commutes(kit.measure(table[:at]), kit.measure(table[at:]))


@per_kit
@per_dtype
@given(data=st.data())
def test_any_split_and_any_tree_is_within_the_bound_of_the_truth(kit, dtype, data):
    table = data.draw(tables(dtype))
    cuts = data.draw(splits(len(table)))
    parts = [kit.measure(table[a:b]) for a, b in pairwise(cuts)]
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    assert_accurate(merged_in_random_tree(parts, rng), list(table.T))
    assert_accurate(sn.merge(parts), list(table.T))


@per_layout
@per_dtype
@given(data=st.data())
def test_every_layout_is_within_the_bound_of_the_truth(layout, dtype, data):
    table = data.draw(tables(dtype))
    assert_accurate(sn.measure(layout.build(table), channel_axis=layout.axis), list(table.T))


@pytest.mark.parametrize("policy", ["propagate", "omit"])
@per_layout
@given(data=st.data())
def test_layouts_and_kernels_agree_on_nan_and_infinities(layout, policy, data):
    table = data.draw(tables("float32", special=True))
    views = [
        kit.measure(layout.build(table), channel_axis=layout.axis, nan_policy=policy)
        for kit in KITS
    ]
    first, *others = views
    for other in others:
        agree(first, other, largest=finite_max(table))


@given(data=st.data())
def test_non_finite_values_mean_the_same_wherever_they_stand(data):
    table = data.draw(tables("float64", special=True))
    order = np.random.default_rng(0).permutation(len(table))
    cuts = data.draw(splits(len(table)))
    whole = sn.measure(table)
    shuffled = table[order]
    parts = [sn.measure(shuffled[a:b]) for a, b in pairwise(cuts)]
    agree(whole, sn.merge(parts), largest=finite_max(table))


@per_dtype
@given(data=st.data())
def test_accumulator_merge_and_compute_give_the_same_bits(dtype, data):
    table = data.draw(tables(dtype, special=np.dtype(dtype).kind == "f"))
    cuts = data.draw(splits(len(table)))
    batches = [table[a:b] for a, b in pairwise(cuts)]
    merged = sn.merge(sn.measure(batch) for batch in batches)
    accumulator = sn.Accumulator()
    for batch in batches:
        accumulator.update(batch)
    assert accumulator.moments == merged
    assert sn.compute(batches, workers=2) == merged


@per_kit
@pytest.mark.parametrize("constant", [0.1, -1e300, 1.7e308, 5e-324, 3.0, 1e-160, -0.0])
@given(cuts=splits(200))
def test_a_constant_channel_has_its_value_as_mean_and_m2_zero(kit, constant, cuts):
    column = np.full((200, 1), constant)
    parts = [kit.measure(column[a:b]) for a, b in pairwise(cuts)]
    total = sn.merge(parts)
    assert total.mean.tolist() == [constant]
    assert total.m2.tolist() == [0.0]
    assert not np.signbit([total.mean, total.minimum, total.maximum]).any() or constant < 0


@pytest.mark.parametrize("threads", [2, 7, 16])
def test_the_number_of_threads_changes_no_bit_of_what_is_copied_in_pieces(threads):
    x = np.random.default_rng(0).normal(20, 9, (2**21, 3)).astype(">f4")
    assert sn.measure(x, threads=threads) == sn.measure(x, threads=1)


@pytest.mark.parametrize("threads", [2, 3, 16])
@pytest.mark.parametrize("shape", [(40, 3, 90, 100), (300_000, 4), (1, 3, 1_000_000)])
def test_the_number_of_threads_changes_no_bit(shape, threads):
    x = np.random.default_rng(1).normal(3, 2, shape).astype(np.float32)
    assert sn.measure(x, threads=threads) == sn.measure(x, threads=1)


@pytest.mark.parametrize("scale", [1 / 255, -2.0, 1.0, 1e3])
@given(data=st.data())
def test_affine_gives_the_moments_of_the_mapped_data(scale, data):
    table = data.draw(tables("float32").filter(lambda t: len(t) and finite_max(t) < 1e30))
    mapped = sn.measure(table).affine(scale, 0.5)
    direct = sn.measure(table.astype(np.float64) * scale + 0.5)
    largest = finite_max(table) * abs(scale) + 1
    np.testing.assert_allclose(mapped.mean, direct.mean, rtol=0, atol=1e-14 * largest)
    np.testing.assert_allclose(mapped.std(), direct.std(), rtol=1e-9, atol=1e-14 * largest)
    np.testing.assert_allclose(mapped.minimum, direct.minimum, rtol=0, atol=1e-14 * largest)
    assert (mapped.minimum <= mapped.mean).all() and (mapped.mean <= mapped.maximum).all()
