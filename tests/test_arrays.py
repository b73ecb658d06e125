"""What can be measured, and that it is neither copied whole nor written to."""

import numpy as np
import pytest
from oracle import assert_accurate
from strategies import FLOATS, INTEGERS

import streamnorm as sn
from streamnorm.arrays import as_array
from streamnorm.layout import Layout


class WithArray:
    """Anything that NumPy can view."""

    def __init__(self, array):
        self._array = array

    def __array__(self, dtype=None, copy=None):
        return self._array


class WithDlpack:
    """Anything that speaks DLPack and nothing else."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **options):
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


@pytest.mark.parametrize("wrap", [WithArray, WithDlpack, lambda a: a.tolist(), memoryview])
def test_anything_array_like_is_measured(wrap):
    x = np.arange(12.0).reshape(4, 3)
    assert sn.measure(wrap(x)) == sn.measure(x)


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS])
def test_an_array_is_viewed_and_never_copied_or_changed(dtype):
    x = np.ones((6, 4), dtype)
    x.flags.writeable = False
    array, _, _ = as_array(x)
    assert np.shares_memory(array, x)
    assert sn.measure(x).mean.tolist() == [1.0] * 4


@pytest.mark.parametrize(
    "shape_and_axis", [((8, 3, 5, 5), 1), ((8, 5, 5, 3), -1), ((8, 3), 1), ((2, 3, 4, 5, 6), 1)]
)
def test_contiguous_arrays_are_zero_copy_views_of_outer_channel_inner(shape_and_axis):
    shape, axis = shape_and_axis
    x = np.zeros(shape)
    layout = Layout.of(x, axis)
    view = layout.flat(layout.arrange(x))
    assert view.ndim == 3 and view.shape[1] == 3
    assert np.shares_memory(view, x)


@pytest.mark.parametrize("axes", [(1, 3), (3, 1), (0,), (1, 2), (-1, 0), (0, 1, 2, 3), ()])
def test_several_kept_axes_are_flattened_in_the_order_asked_for(axes):
    x = np.random.default_rng(0).integers(0, 99, (4, 3, 5, 2)).astype(np.int16)
    m = sn.measure(x, channel_axis=axes)
    rest = [a for a in range(4) if a not in [k % 4 for k in axes]]
    expected = x.transpose(*[a % 4 for a in axes], *rest).reshape(*m.channel_shape, -1)
    np.testing.assert_allclose(m.mean.reshape(m.channel_shape), expected.mean(-1), rtol=1e-14)
    assert m.channel_shape == (tuple(x.shape[a] for a in axes) or (1,))


@pytest.mark.parametrize("ndim", range(1, 7))
def test_one_to_six_dimensions_on_every_axis(ndim):
    x = np.random.default_rng(ndim).normal(size=(2, 3, 4, 2, 3, 2)[:ndim])
    for axis in [*range(-ndim, ndim), None]:
        m = sn.measure(x, channel_axis=axis)
        columns = [x] if axis is None else list(np.moveaxis(x, axis, 0))
        assert_accurate(m, columns)


def test_a_single_number_is_one_channel_without_axis():
    assert sn.measure(np.float64(3.0), channel_axis=None).mean.tolist() == [3.0]


def test_a_broadcast_view_counts_every_value_it_stands_for():
    assert sn.measure(np.broadcast_to([[1.0, 2.0]], (1000, 2))).count.tolist() == [1000, 1000]


def test_int64_values_too_wide_for_float64_keep_their_spread():
    x = (2**62 + np.arange(5, dtype=np.int64))[:, None]
    assert sn.measure(x).variance().tolist() == [2.0]
    assert sn.measure(x.astype(np.uint64) * 3).variance().tolist() == [18.0]


def test_a_masked_integer_nodata_code_does_not_disturb_the_rest():
    x = np.array([[-(2**63)], [2**53 + 1], [2**53 + 3]])
    m = sn.measure(x, mask=x > 0)
    assert m.variance().tolist() == [1.0]
    assert (m.count[0], m.omitted[0]) == (2, 1)


def test_bfloat16_arrays_are_measured_by_their_value():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.arange(12).reshape(4, 3).astype(ml_dtypes.bfloat16)
    assert sn.measure(x) == sn.measure(x.astype(np.float32))


def test_every_float16_bit_pattern_is_read_right():
    x = np.arange(2**16, dtype=np.uint16).view(np.float16)
    finite = x[np.isfinite(x)]
    m = sn.measure(finite, channel_axis=None)
    assert_accurate(m, [finite.astype(np.float64)])
    assert sn.measure(x, channel_axis=None, nan_policy="omit").omitted[0] == np.isnan(x).sum()


def test_masks_broadcast_and_what_they_leave_out_is_counted():
    x = np.arange(24.0).reshape(2, 3, 4)
    mask = np.array([True, False, True])[:, None]
    m = sn.measure(x, mask=mask)
    assert m.count.tolist() == [8, 0, 8]
    assert m.omitted.tolist() == [0, 8, 0]
    assert np.isnan(m.mean[1])


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64", "float32", "float64"])
def test_a_mask_gives_the_moments_of_what_it_leaves(dtype):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 100, (50, 3, 40)).astype(dtype)
    mask = rng.random(x.shape) < 0.5
    m = sn.measure(x, mask=mask)
    assert_accurate(m, [x[:, c][mask[:, c]] for c in range(3)])


def test_masked_arrays_are_measured_without_their_masked_entries():
    x = np.ma.masked_array([[1.0, 5.0], [2.0, 7.0]], [[False, True], [False, False]])
    m = sn.measure(x)
    assert m.count.tolist() == [2, 1]
    assert m.omitted.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("policy", "count", "omitted", "mean"),
    [("propagate", [3, 3], [0, 0], [np.nan, 5.0]), ("omit", [2, 3], [1, 0], [2.0, 5.0])],
)
def test_nan_policies(policy, count, omitted, mean):
    m = sn.measure([[1.0, 4.0], [np.nan, 5.0], [3.0, 6.0]], nan_policy=policy)
    assert m.count.tolist() == count
    assert m.omitted.tolist() == omitted
    np.testing.assert_array_equal(m.mean, mean)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("lane", range(130))
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_value_is_seen_in_every_lane_of_every_kernel(lane, bad, dtype):
    for shape, axis in (((130, 1), 1), ((1, 700), 0), ((40, 3), 1), ((1, 130), 1)):
        x = np.ones(shape, dtype)
        x.flat[lane % x.size] = bad
        m = sn.measure(x, channel_axis=axis)
        hit = (lane % x.size) % shape[axis] if axis else 0
        assert np.isnan(m.m2[hit])
        assert np.isnan(m.mean[hit]) if np.isnan(bad) else m.mean[hit] == bad
        assert np.isnan(m.m2).sum() == 1


def test_both_infinities_make_the_mean_nan_but_are_the_extremes():
    m = sn.measure([[np.inf], [-np.inf], [1.0]])
    assert np.isnan(m.mean[0])
    assert (m.minimum[0], m.maximum[0]) == (-np.inf, np.inf)


def test_an_infinity_is_the_mean_even_beside_values_whose_squares_overflow():
    x = np.full((600_000, 1), 1.7e308)
    x[::2] = -1.5e308
    x[0] = np.inf
    assert sn.measure(x).mean.tolist() == [np.inf]


def test_raise_names_the_channel_of_a_nan():
    with pytest.raises(ValueError, match=r"NaN in channel\(s\) 1 under"):
        sn.measure([[1.0, np.nan]], nan_policy="raise")


@pytest.mark.parametrize("dtype", ["complex64", "object", "U3", "M8[s]", "g"])
def test_other_dtypes_are_refused_by_name(dtype):
    if dtype == "g" and np.dtype("g") == np.dtype("d"):
        pytest.skip("no extended precision here")
    with pytest.raises(TypeError, match="expected real numbers"):
        sn.measure(np.zeros((2, 2), dtype))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"batch": [[1.0]], "channel_axis": 2}, ValueError, "channel_axis 2 does not exist"),
        ({"batch": 1.0}, ValueError, "channel_axis=None"),
        ({"batch": [[1.0]], "channel_axis": (0, -2)}, ValueError, "twice"),
        ({"batch": [[1.0]], "channel_axis": "x"}, TypeError, "must be an int"),
        ({"batch": [[1.0], [2.0, 3.0]]}, TypeError, "ragged"),
        ({"batch": [[1.0]], "mask": [[1]]}, TypeError, "boolean"),
        ({"batch": [[1.0]], "mask": [True, False]}, ValueError, "cannot be broadcast"),
        ({"batch": [[1.0]], "nan_policy": "skip"}, ValueError, "propagate, omit, raise"),
        ({"batch": [[1.0]], "threads": 0}, ValueError, "at least 1"),
    ],
)
def test_wrong_arguments_say_what_to_do(arguments, error, message):
    with pytest.raises(error, match=message):
        sn.measure(**arguments)


def test_threads_can_be_set_by_the_environment(monkeypatch):
    monkeypatch.setenv("STREAMNORM_THREADS", "many")
    with pytest.raises(ValueError, match="STREAMNORM_THREADS must be a whole number"):
        sn.measure([[1.0]])
    monkeypatch.setenv("STREAMNORM_THREADS", "3")
    assert sn.measure([[1.0]]).count.tolist() == [1]
