"""Normalize in NumPy and as a torch module: one map, its inverse, its policies."""

import numpy as np
import pytest

import streamnorm as sn
from streamnorm import Moments, Normalize

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("axis", [1, -1, 0, (1, 3), (3, 1), None])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normalized_data_has_mean_0_and_std_1_and_comes_back(axis, dtype):
    x = RNG.normal(1e4, 3, (6, 4, 5, 7)).astype(dtype)
    norm = Normalize.from_moments(sn.measure(x, channel_axis=axis), channel_axis=axis)
    y = norm(x)
    assert y.dtype == x.dtype
    tolerance = 1e-6 if dtype == "float32" else 1e-11
    after = sn.measure(y, channel_axis=axis)
    np.testing.assert_allclose(after.mean, 0, atol=tolerance)
    np.testing.assert_allclose(after.std(), 1, atol=tolerance)
    np.testing.assert_allclose(norm.inverse(y), x, rtol=3e-7 if dtype == "float32" else 1e-15)


def test_float32_keeps_its_digits_far_from_zero():
    """With the mean rounded to float32 the result would be off by 4e-4 here."""
    x = (1e4 + 0.3 + RNG.normal(0, 1, (10_000, 1))).astype(np.float32)
    m = sn.measure(x)
    exact = (x.astype(np.float64) - m.mean) / m.std()
    np.testing.assert_allclose(Normalize.from_moments(m)(x), exact, atol=2e-6)


@pytest.mark.parametrize(
    ("dtype", "result"),
    [("uint8", "float32"), ("int64", "float32"), ("bool", "float32"), ("float16", "float16")],
)
def test_integers_give_float32_and_halves_stay_halves(dtype, result):
    x = RNG.integers(0, 2, (50, 3)).astype(dtype)
    norm = Normalize.from_moments(sn.measure(x))
    assert norm(x).dtype == norm.inverse(x).dtype == result


def test_the_input_is_not_changed():
    x = np.ones((4, 2))
    before = x.copy()
    Normalize(np.zeros(2), np.full(2, 2.0))(x)
    assert (x == before).all()


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e300, 5e-324])
def test_constant_channels_are_divided_by_1_by_default(constant):
    m = sn.measure(np.full((9, 1), constant))
    assert Normalize.from_moments(m).std.tolist() == [1.0]
    assert Normalize.from_moments(m, zero_variance=0.5).std.tolist() == [0.5]
    with pytest.raises(ValueError, match=r"channel\(s\) 0 are constant"):
        Normalize.from_moments(m, zero_variance="error")


def test_a_tiny_spread_of_very_many_values_is_not_constant():
    """A threshold that grows with n calls this constant at n = 1e12."""
    m = Moments.from_mean_std(10**12, [300.0], [0.05])
    assert Normalize.from_moments(m, zero_variance="error").std[0] == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("moments", "ddof"),
    [
        (Moments.empty(2), 0),
        (sn.measure([[1.0, 2.0]]), 1),
        (sn.measure([[np.nan, np.inf], [1.0, 1.0]]), 0),
    ],
)
def test_an_undefined_std_names_the_channels(moments, ddof):
    moments = moments.with_meta(names=("red", "blue"))
    with pytest.raises(ValueError, match=r"channel\(s\) red, blue is undefined"):
        Normalize.from_moments(moments, ddof=ddof)


@pytest.mark.parametrize("word", ["keep", 0.0, -1.0, float("nan")])
def test_unknown_policies_are_refused(word):
    with pytest.raises(ValueError, match="zero_variance"):
        Normalize.from_moments(sn.measure([[1.0], [2.0]]), zero_variance=word)


def test_another_number_of_channels_is_refused():
    norm = Normalize.from_moments(sn.measure(np.arange(6.0).reshape(2, 3)))
    with pytest.raises(ValueError, match="expected 3 channels on axis 1"):
        norm(np.zeros((2, 4)))


def test_bfloat16_is_for_torch():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    with pytest.raises(TypeError, match=r"streamnorm\.nn"):
        Normalize(np.zeros(1), np.ones(1))(np.zeros((1, 1), ml_dtypes.bfloat16))


@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64", "uint64"])
def test_wide_integers_are_centred_before_they_lose_digits(dtype):
    """As float32 the neighbours of 1.7e9 are 128 apart."""
    x = (1_700_000_000 + np.arange(1000))[:, None].astype(dtype)
    m = sn.measure(x)
    exact = (x.astype(np.float64) - m.mean) / m.std()
    np.testing.assert_allclose(Normalize.from_moments(m)(x), exact, atol=1e-6)


@pytest.mark.parametrize(
    ("mean", "std"), [([0.0], [0.0]), ([0.0], [-1.0]), ([np.nan], [1.0]), ([0.0, 1.0], [1.0])]
)
def test_constants_that_cannot_normalize_are_refused(mean, std):
    with pytest.raises(ValueError, match="mean "):
        Normalize(mean, std)


def test_lists_are_taken_and_values_compare_by_identity():
    norm = Normalize([0.0, 1.0], [1.0, 2.0])
    assert norm([[1.0, 5.0]]).tolist() == [[1.0, 2.0]]
    assert norm != Normalize([0.0, 1.0], [1.0, 2.0])
