"""What other tools get wrong (each was seen in one of them), and we must not."""

import numpy as np
import pytest
from oracle import assert_accurate, exact

import streamnorm as sn
from streamnorm import Moments


def test_float32_rows_with_mean_300_and_sigma_1():
    """np.std(axis=0) gives 3.09 here: it adds two million float32 numbers one by one."""
    x = np.random.default_rng(0).normal(300, 1, (2_000_000, 3)).astype(np.float32)
    m = sn.measure(x)
    truth = x.astype(np.float64)
    np.testing.assert_allclose(m.mean, truth.mean(0), rtol=1e-14)
    np.testing.assert_allclose(m.std(), truth.std(0), rtol=1e-12)


def test_three_close_float32_numbers():
    m = sn.measure(np.array([[10000], [10001], [10002]], np.float32))
    assert m.mean.tolist() == [10001.0]
    assert m.variance().tolist() == [2 / 3]


def test_uint8_squares_do_not_wrap():
    x = np.array([[16], [32], [240]], np.uint8)
    assert_accurate(sn.measure(x), [x])


def test_an_all_nan_first_batch_of_a_channel_does_not_poison_it():
    accumulator = sn.Accumulator(nan_policy="omit")
    accumulator.update([[np.nan, 1.0], [np.nan, 2.0]]).update([[3.0, 3.0], [5.0, 4.0]])
    assert accumulator.moments.mean.tolist() == [4.0, 2.5]
    assert accumulator.moments.variance().tolist() == [1.0, 1.25]
    assert accumulator.moments.omitted.tolist() == [2, 0]


def test_merging_an_empty_part_changes_nothing():
    part = sn.measure([[1.0], [2.0]])
    assert sn.merge([sn.measure(np.zeros((0, 1))), part, Moments.empty(1)]) == part


def test_one_sample_parts_are_not_dropped():
    parts = [sn.measure([[float(x)]]) for x in (4, 7, 13, 16)]
    assert sn.merge(parts).variance(ddof=1).tolist() == [30.0]


def test_batches_of_one_after_a_batch_of_a_million():
    rng = np.random.default_rng(0)
    large, small = rng.normal(1e4, 1, (1_000_000, 1)), rng.normal(1e4, 1, (50, 1))
    accumulator = sn.Accumulator().update(large)
    for row in small:
        accumulator.update(row[None])
    everything = np.r_[large, small]
    np.testing.assert_allclose(accumulator.moments.mean, everything.mean(0), rtol=1e-14)
    np.testing.assert_allclose(accumulator.moments.std(), everything.std(0), rtol=1e-11)


def test_the_maximum_of_all_negative_data_is_negative():
    assert sn.measure([[-3.0], [-2.0]]).maximum.tolist() == [-2.0]


def test_many_float32_ones_stay_one():
    """A float32 running sum stops at 2**24."""
    ones = np.ones(2**24 + 1000, np.float32)
    assert sn.measure(ones, channel_axis=None).mean.tolist() == [1.0]


def test_float16_sums_do_not_overflow():
    x = np.full((70_000, 1), 100, np.float16)
    assert sn.measure(x).mean.tolist() == [100.0]


def test_the_shortcut_is_wrong_and_the_pooled_std_is_not():
    """Two batches with means 0 and 10 and std 1: the std of the data is 5.1, not 1."""
    batches = [np.array([[m - 1.0], [m + 1.0]]) for m in (0.0, 10.0)]
    total = sn.merge([sn.measure(b) for b in batches])
    assert total.std().tolist() == [np.sqrt(26.0)]
    assert np.mean([sn.measure(b).std() for b in batches]) == 1.0


@pytest.mark.parametrize("shift", [0.0, 1e6, 2e9])
def test_a_shift_changes_no_variance(shift):
    assert sn.measure(np.arange(5.0)[:, None] + shift).variance().tolist() == [2.0]


def test_a_last_small_batch_weighs_what_it_holds():
    x = np.arange(10.0)[:, None]
    parts = [sn.measure(x[:9]), sn.measure(x[9:])]
    assert sn.merge(parts).mean[0] == float(exact(x).mean)
