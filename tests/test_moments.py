"""Moments as a value: readers, constructors, equality, pickling, meta."""

import copy
import pickle

import numpy as np
import pytest

import streamnorm as sn
from streamnorm import Moments
from streamnorm.meta import Meta


def test_readers_have_one_entry_per_channel_and_the_stated_dtypes():
    m = sn.measure(np.arange(12.0).reshape(4, 3))
    floats = (m.mean, m.m2, m.minimum, m.maximum, m.variance(), m.std(ddof=1))
    assert all(v.shape == (3,) and v.dtype == np.float64 for v in floats)
    assert m.count.dtype == m.omitted.dtype == np.int64
    assert m.channels == 3


def test_readers_cannot_be_written_to():
    m = sn.measure([[1.0], [2.0]])
    with pytest.raises(ValueError, match="read-only"):
        m.mean[0] = 5
    with pytest.raises(AttributeError, match="cannot change"):
        m._meta = None


@pytest.mark.parametrize(("count", "ddof"), [(0, 0), (1, 1), (2, 2), (2, 3)])
def test_variance_is_nan_without_a_warning_where_count_is_not_above_ddof(count, ddof):
    m = sn.measure(np.arange(count, dtype=float)[:, None])
    assert np.isnan(m.variance(ddof)).all()
    assert np.isnan(m.std(ddof)).all()


@pytest.mark.parametrize("ddof", [0, 1, 1.5])
def test_ddof_means_what_it_means_in_numpy(ddof):
    x = np.random.default_rng(0).normal(size=(50, 2))
    np.testing.assert_allclose(sn.measure(x).variance(ddof), x.var(axis=0, ddof=ddof), rtol=1e-13)


def test_from_mean_std_and_ddof_round_trip():
    x = np.random.default_rng(0).normal(5, 3, size=(50, 2))
    taken = Moments.from_mean_std(50, x.mean(0), x.std(0, ddof=1), ddof=1)
    np.testing.assert_allclose(taken.std(), x.std(0), rtol=1e-14)
    assert not taken.extremes_known.any()
    assert np.isnan(taken.minimum).all()


def test_unknown_extremes_merged_with_anything_but_empty_stay_unknown():
    unknown = Moments.from_mean_std(5, [1.0], [1.0])
    known = sn.measure([[1.0], [2.0]])
    assert not (unknown + known).extremes_known[0]
    assert (known + Moments.empty(1)).extremes_known[0]
    assert not (unknown + Moments.empty(1)).extremes_known[0]


def test_extremes_after_a_nan_are_known_to_be_nan():
    m = sn.measure([[np.nan], [1.0]])
    assert np.isnan(m.minimum[0])
    assert m.extremes_known[0]


def test_two_parts_of_6_4e9_each_do_not_wrap():
    """ImageNet's pixels squared leave int64; n_a * n_b must be formed in float64."""
    count = 6_400_000_000
    a, b = Moments.from_mean_std(count, [0.0], [1.0]), Moments.from_mean_std(count, [2.0], [1.0])
    assert (a + b).mean.tolist() == [1.0]
    assert (a + b).variance().tolist() == [2.0]


def test_more_than_2_to_63_values_is_an_overflow_error():
    half = Moments.from_mean_std(2**62, [0.0], [1.0])
    assert (half + Moments.from_mean_std(2**62 - 1, [0.0], [1.0])).count[0] == 2**63 - 1
    with pytest.raises(OverflowError, match="2\\*\\*63"):
        half + half


@pytest.mark.parametrize(
    ("a", "b", "mean"),
    [(1.7e308, 1.7e308, 1.7e308), (1.7e308, -1.7e308, 0.0), (1.79e308, 1.7e308, 1.745e308)],
)
def test_the_mean_of_finite_data_near_overflow_is_finite(a, b, mean):
    total = sn.measure([[a]]) + sn.measure([[b]])
    np.testing.assert_allclose(total.mean, mean, rtol=1e-15)
    third = total + sn.measure([[a]])
    np.testing.assert_allclose(third.mean, [a / 3 * 2 + b / 3], rtol=1e-15)


def test_equality_looks_at_every_field_and_not_at_meta():
    m = Moments([3, 1], [1.0, 2.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0])
    changed = [
        Moments([4, 1], m.mean, m.m2, m.minimum, m.maximum),
        Moments(m.count, [1.5, 2.0], m.m2, m.minimum, m.maximum),
        Moments(m.count, m.mean, [2.5, 0.0], m.minimum, m.maximum),
        Moments(m.count, m.mean, m.m2, [-1.0, 2.0], m.maximum),
        Moments(m.count, m.mean, m.m2, m.minimum, [3.0, 2.0]),
        Moments(m.count, m.mean, m.m2, m.minimum, m.maximum, [0, 1]),
    ]
    assert all(m != other for other in changed)
    named = m.with_meta(names=("a", "b"))
    assert named == m and hash(named) == hash(m)
    assert m != "moments"
    assert sn.measure([[np.nan]]) == sn.measure([[np.nan]])


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
def test_copies_and_pickles_are_equal_and_still_read_only(copied):
    m = sn.compute([np.arange(6.0).reshape(3, 2)]).with_meta(names=("a", "b"))
    again = copied(m)
    assert again == m
    assert again.meta == m.meta
    assert again.meta.report.read == 1
    assert not again.mean.flags.writeable


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"count": [2], "mean": [0.0], "m2": [-1.0]}, "m2 is negative"),
        ({"count": [2], "mean": [np.nan], "m2": [1.0]}, "mean is not finite"),
        ({"count": [2], "mean": [1.0], "m2": [np.nan]}, "m2 is NaN"),
        ({"count": [1], "mean": [1.0], "m2": [1.0]}, "count is 1"),
        ({"count": [0], "mean": [1.0], "m2": [1.0]}, "count is 0"),
        ({"count": [2], "mean": [1.0], "m2": [1.0], "minimum": [2.0]}, "minimum is above the mean"),
        ({"count": [2], "mean": [1.0], "m2": [1.0], "maximum": [0.0]}, "maximum is below the mean"),
        ({"count": [2], "mean": [1.0], "m2": [1.0], "maximum": [np.inf]}, "infinite"),
        ({"count": [-1], "mean": [1.0], "m2": [1.0]}, "between 0 and"),
        ({"count": [1.5], "mean": [1.0], "m2": [1.0]}, "integers"),
        ({"count": [2, 2], "mean": [1.0], "m2": [1.0]}, "shape \\(2,\\)"),
        (
            {"count": [2], "mean": [1.0], "m2": [1.0], "meta": Meta(names=("a", "b"))},
            "1 channel names",
        ),
        (
            {"count": [2], "mean": [1.0], "m2": [1.0], "meta": Meta(channel_shape=(2, 2))},
            "channel_shape",
        ),
    ],
)
def test_fields_that_no_data_could_have_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Moments(**fields)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((5, [0.0], [-1.0]), "negative"),
        ((1, [0.0], [1.0]), "at least 2"),
        ((5, [0.0, 1.0], [1.0]), "shape"),
    ],
)
def test_published_numbers_that_contradict_themselves_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Moments.from_mean_std(*arguments)


def test_merging_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one part"):
        sn.merge([])


def test_merging_other_channels_names_both_counts():
    with pytest.raises(ValueError, match="part 1 has 2 channels but part 0 has 1"):
        sn.merge([Moments.empty(1), Moments.empty(2)])


def test_merging_something_else_is_a_type_error():
    with pytest.raises(TypeError, match="part 1 is a dict"):
        sn.merge([Moments.empty(1), {}])
    with pytest.raises(TypeError):
        Moments.empty(1) + 1


def test_affine_refuses_what_is_not_finite():
    with pytest.raises(ValueError, match="must be finite"):
        Moments.empty(1).affine(np.inf)


def test_affine_keeps_a_constant_channel_constant():
    m = sn.measure(np.full((9, 1), 0.1)).affine(3.3, 0.7)
    assert m.m2[0] == 0
    assert m.minimum[0] == m.maximum[0] == m.mean[0]


def test_repr_is_one_line():
    m = sn.measure(np.arange(80.0).reshape(10, 8), nan_policy="omit")
    assert repr(m).count("\n") == 0
    assert repr(m).startswith("Moments(C=8, n=10, mean=[36 37 38 39 40 41 …]")
    assert "n=1 to 2" in repr(sn.measure([[1.0, np.nan], [1.0, 2.0]], nan_policy="omit"))


def test_meta_travels_through_merge_affine_and_pickle():
    a = sn.compute([np.zeros((2, 1))]).with_meta(names=("red",))
    b = sn.compute([np.ones((3, 1))])
    total = (a + b).affine(2.0)
    assert total.meta.names == ("red",)
    assert len(total.meta.provenance.passes) == 2
    assert total.meta.report.read == 2


def test_merging_other_names_is_refused():
    a, b = (Moments.empty(1).with_meta(names=(name,)) for name in "ab")
    with pytest.raises(ValueError, match="channel names differ"):
        a + b


def test_provenance_is_bounded_and_the_rest_is_counted_and_digested():
    part = sn.compute([np.zeros((2, 1))])
    total = sn.merge([part] * 130)
    origin = total.meta.provenance
    assert (len(origin.passes), origin.further) == (100, 30)
    assert len(origin.digest) == 64
    assert total.meta.provenance == (total + Moments.empty(1)).meta.provenance


@pytest.mark.parametrize(
    ("table", "scale", "shift"),
    [
        ([[1e300], [2e300]], 1e10, 0.0),
        ([[1.0], [1.7e308]], 1.0, 1e308),
        ([[-1e300], [1e300]], 1e9, 0),
    ],
)
def test_affine_beyond_float64_is_an_overflow_error(table, scale, shift):
    with pytest.raises(OverflowError, match="beyond float64"):
        sn.measure(table).affine(scale, shift)


def test_affine_refuses_scale_zero_which_would_forget_the_data():
    with pytest.raises(ValueError, match="scale not 0"):
        sn.measure([[1.0], [2.0]]).affine(0.0)


def test_a_std_needs_more_values_than_ddof():
    with pytest.raises(ValueError, match="above ddof 10"):
        Moments.from_mean_std(10, [0.4], [0.2], ddof=10)


def test_names_and_shapes_become_tuples_and_words_are_refused(tmp_path):
    m = sn.measure([[1.0, 2.0]]).with_meta(names=["a", "b"])
    sn.save(m, tmp_path / "m.json")
    assert (sn.load(tmp_path / "m.json") + m).meta.names == ("a", "b")
    for names in ("ab", (0, 1)):
        with pytest.raises(ValueError, match="sequence of strings"):
            m.with_meta(names=names)
    with pytest.raises(AttributeError):
        del m._rows
