"""Weighted moments: against exact rational arithmetic and NumPy's cov, and what is refused."""

import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import streamnorm as sn
from streamnorm.packing import header_of, pack, unpack

RNG = np.random.default_rng(0)
X = RNG.normal(1e4, 1, (500, 3)).astype(np.float32)
A = RNG.uniform(0.1, 3, 500)
F = RNG.integers(0, 5, 500)

numbers = st.floats(-1e6, 1e6)
weights = st.floats(0, 1e3).filter(lambda w: w == 0 or w > 1e-3)


def exactly(values, aweights, fweights):
    """Mean, variance and the sums of weights, as rationals."""
    rows = [
        (Fraction(x), Fraction(a), int(f))
        for x, a, f in zip(values, aweights, fweights, strict=True)
        if a > 0 and f > 0
    ]
    weight = sum(f * a for _, a, f in rows)
    mean = sum(f * a * x for x, a, f in rows) / weight
    return weight, mean, sum(f * a * (x - mean) ** 2 for x, a, f in rows)


@given(st.lists(st.tuples(numbers, weights, st.integers(0, 9)), min_size=1, max_size=60), st.data())
def test_any_split_is_near_the_exact_answer(rows, data):
    values, a, f = (np.array(column, float) for column in zip(*rows, strict=True))
    f = f.astype(int)
    if not (a * f).any():
        return
    weight, mean, m2 = exactly(values, a, f)
    at = data.draw(st.integers(0, len(rows)))
    cuts = [slice(0, at), slice(at, None)]
    got = sn.merge(
        sn.measure_weighted(values[c], aweights=a[c], fweights=f[c], channel_axis=None)
        for c in cuts
    )
    largest = np.abs(values).max()
    assert got.count.tolist() == [int(f[a > 0].sum())]
    np.testing.assert_allclose(got.weight, float(weight), rtol=1e-14)
    assert abs(got.mean[0] - float(mean)) <= 3.2e-15 * largest + 1e-300
    variance = float(m2 / weight)
    kappa_squared_ulp = (
        (1e-13 * variance) + 2e-15 * largest * np.sqrt(variance) + 1e-30 * largest**2
    )
    assert abs(got.variance()[0] - variance) <= kappa_squared_ulp


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize(
    "kinds", [{"aweights": A}, {"fweights": F}, {"aweights": A, "fweights": F}]
)
def test_both_kinds_are_told_apart_as_in_numpys_cov(kinds, ddof):
    given_weights = {name: w[:, None] for name, w in kinds.items()}
    got = sn.measure_weighted(X, **given_weights)
    cov = np.cov(X.T.astype(float), ddof=ddof, **kinds)
    np.testing.assert_allclose(got.variance(ddof), np.diag(cov), rtol=1e-9)
    w = np.prod(list(kinds.values()), axis=0)
    np.testing.assert_allclose(got.mean, np.average(X, axis=0, weights=w), rtol=1e-12)


def test_seen_twice_is_there_twice():
    repeated = sn.measure(np.repeat(X, F, axis=0))
    got = sn.measure_weighted(X, fweights=F[:, None])
    assert got.count.tolist() == repeated.count.tolist()
    for ddof in (0, 1):
        np.testing.assert_allclose(got.variance(ddof), repeated.variance(ddof), rtol=1e-10)
    assert got.omitted.tolist() == [int((F == 0).sum())] * 3


def test_a_scale_of_aweights_changes_no_mean_and_no_spread():
    one, other = (sn.measure_weighted(X, aweights=(A * s)[:, None]) for s in (1, 4096))
    for ddof in (0, 1):
        np.testing.assert_array_equal(one.variance(ddof), other.variance(ddof))
    np.testing.assert_array_equal(one.mean, other.mean)


def test_area_weights_of_a_grid_of_latitudes():
    """The mean of a field that is the sine of the latitude squared is one third on a sphere."""
    latitude = np.radians(np.arange(-89.75, 90, 0.5))
    field = np.broadcast_to((np.sin(latitude) ** 2)[None, :, None], (2, 360, 720))
    area = np.cos(latitude)[None, :, None]
    got = sn.measure_weighted(field, aweights=area, channel_axis=None)
    np.testing.assert_allclose(got.mean, 1 / 3, rtol=1e-4)
    # E[s^4] - E[s^2]^2 = 1/5 - 1/9
    np.testing.assert_allclose(got.variance(), 1 / 5 - 1 / 9, rtol=1e-4)
    assert abs(sn.measure(field, channel_axis=None).mean[0] - 1 / 3) > 0.1


@pytest.mark.parametrize("axis", [0, 1, 2, (0, 2), None])
def test_every_axis(axis):
    x, w = RNG.normal(size=(4, 5, 6)), RNG.uniform(size=(4, 5, 6))
    got = sn.measure_weighted(x, aweights=w, channel_axis=axis)
    kept = (axis,) if isinstance(axis, int) else axis or ()
    others = tuple(a for a in range(3) if a not in kept)
    np.testing.assert_allclose(got.mean, np.average(x, others, w).ravel(), rtol=1e-13)
    assert got.channel_shape == (tuple(x.shape[a] for a in kept) or (1,))


def test_masks_nan_and_weights_of_zero_are_omitted_and_counted():
    x = np.array([[1.0], [np.nan], [3.0], [5.0], [7.0]])
    w = np.array([[1.0], [1.0], [0.0], [1.0], [1.0]])
    mask = np.array([[True], [True], [True], [True], [False]])
    got = sn.measure_weighted(x, aweights=w, mask=mask, nan_policy="omit")
    assert (got.count.tolist(), got.omitted.tolist(), got.mean.tolist()) == ([2], [3], [3.0])
    assert (got.minimum.tolist(), got.maximum.tolist()) == ([1.0], [5.0])
    assert np.isnan(sn.measure_weighted(x, aweights=w).mean[0])
    with pytest.raises(ValueError, match="NaN in channel"):
        sn.measure_weighted(x, aweights=w, nan_policy="raise")


def test_undefined_is_nan_without_a_warning():
    empty = sn.WeightedMoments.empty(2)
    assert np.isnan(empty.mean).all()
    one = sn.measure_weighted([[5.0]], aweights=2.0)
    assert (one.variance().tolist(), np.isnan(one.variance(1)).all()) == ([0.0], True)
    infinite = sn.measure_weighted([[1.0], [np.inf]], aweights=1.0)
    assert infinite.mean.tolist() == [np.inf]
    assert np.isnan(infinite.std()[0])


def test_a_constant_has_its_mean_and_no_spread():
    got = sn.measure_weighted(np.full((700, 2), 0.1), aweights=RNG.uniform(size=(700, 1)))
    assert (got.mean.tolist(), got.m2.tolist()) == ([0.1, 0.1], [0.0, 0.0])
    assert got.constant.all()


def test_weights_do_not_mix_with_counts():
    with pytest.raises(TypeError, match="cannot merge WeightedMoments with Moments"):
        sn.merge([sn.measure_weighted(X, aweights=1.0), sn.measure(X)])


def test_every_image_counts_the_same_by_its_moments():
    images = [RNG.normal(k, 1, (20 * (k + 1), 3)) for k in range(4)]
    got = sn.merge([sn.WeightedMoments.of_moments(sn.measure(i), 1) for i in images])
    means = np.mean([i.mean(0) for i in images], axis=0)
    np.testing.assert_allclose(got.mean, means, rtol=1e-13)
    second = np.mean([(i**2).mean(0) for i in images], axis=0)
    np.testing.assert_allclose(got.variance(), second - means**2, rtol=1e-11)
    weights = np.concatenate([np.full(len(i), 1 / len(i)) for i in images])
    direct = sn.measure_weighted(np.concatenate(images), aweights=weights[:, None])
    np.testing.assert_allclose(got.variance(1), direct.variance(1), rtol=1e-11)


def test_files_bytes_pickles_and_affine_keep_all(tmp_path):
    value = sn.measure_weighted(X, aweights=A[:, None]).with_meta(names=("a", "b", "c"))
    sn.save({"x": value}, tmp_path / "s.json")
    assert sn.load(tmp_path / "s.json") == {"x": value}
    assert pickle.loads(pickle.dumps(value)) == value
    form = header_of(value)
    assert unpack(pack(value, form), form) == value
    assert value.select(["c"]).mean.tolist() == [value.mean[2]]
    assert (
        sn.concat([value.select([0]), value.select([1])]).mean.tolist() == value.mean[:2].tolist()
    )
    halved = value.affine(0.5, 1)
    np.testing.assert_allclose(halved.std(1), value.std(1) / 2, rtol=1e-13)
    assert sn.Normalize.from_moments(value).mean.tolist() == value.mean.tolist()


@pytest.mark.parametrize(
    ("weights", "error", "words"),
    [
        ({"aweights": -1.0}, ValueError, "at least 0, got -1"),
        ({"aweights": np.nan}, ValueError, "must be finite"),
        ({"aweights": A}, ValueError, r"aweights\[:, None\]"),
        ({"aweights": A[:9, None]}, ValueError, "cannot be broadcast"),
        ({"fweights": A[:, None]}, TypeError, "whole numbers"),
        ({"aweights": np.full((500, 1), 1e308)}, OverflowError, "scale them down"),
    ],
)
def test_bad_weights_are_refused(weights, error, words):
    with pytest.raises(error, match=words):
        sn.measure_weighted(X, **weights)


def test_fields_that_no_data_could_have_are_refused():
    for fields in ((1, 0.0, 0.0, 1.0, 0.0), (0, 1.0, 1.0, 1.0, 0.0), (1, 1.0, 1.0, 1.0, -1.0)):
        with pytest.raises(ValueError, match="no weighted moments of any data"):
            sn.WeightedMoments(*([f] if k == 0 else f for k, f in enumerate(fields)))
    with pytest.raises(ValueError, match="above 0"):
        sn.WeightedMoments.of_moments(sn.measure(X), 0)


def test_channels_of_other_magnitudes_do_not_disturb_each_other():
    got = sn.measure_weighted([[1e200, 1.0], [2e200, 2.0], [3e200, 3.0]], fweights=1)
    np.testing.assert_allclose(got.std()[1], np.std([1, 2, 3]))


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_wide_integers_are_centred_as_integers(dtype):
    x = (np.array([[0], [1], [2]]) + 2**60).astype(dtype)
    np.testing.assert_allclose(sn.measure_weighted(x, fweights=1).std(), np.std([0, 1, 2]))


def test_weights_whose_squares_vanish_are_refused():
    with pytest.raises(OverflowError, match="scale them up"):
        sn.measure_weighted(X, aweights=1e-200)


def test_packed_nothing_among_weighted_values():
    form = header_of(sn.measure_weighted(X, aweights=1.0))
    assert unpack(pack(None, form), form) == sn.WeightedMoments.empty(3)
