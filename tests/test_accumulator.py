"""The fold: state, snapshots, sharing, pickling."""

import copy
import pickle
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import streamnorm as sn
from streamnorm import partial
from streamnorm import stacks as fold


def filled(batches=5):
    accumulator = sn.Accumulator()
    for k in range(batches):
        accumulator.update(np.full((2, 3), float(k)))
    return accumulator


def test_update_returns_itself():
    accumulator = sn.Accumulator()
    assert accumulator.update([[1.0]]) is accumulator


def test_a_snapshot_does_not_change_when_more_is_seen():
    accumulator = filled()
    before = accumulator.moments
    remembered = before.mean.tolist(), before.count.tolist()
    accumulator.update(np.full((2, 3), 1e9))
    assert (before.mean.tolist(), before.count.tolist()) == remembered


def test_another_number_of_channels_is_refused_and_changes_nothing():
    accumulator = filled()
    before = accumulator.moments
    with pytest.raises(
        ValueError, match=r"the batch has 4 channels \(shape \(2, 4\).*holds \(3,\)"
    ):
        accumulator.update(np.zeros((2, 4)))
    assert accumulator.moments == before


def test_a_nan_under_raise_changes_nothing():
    accumulator = sn.Accumulator(nan_policy="raise").update([[1.0]])
    with pytest.raises(ValueError, match="NaN"):
        accumulator.update([[np.nan]])
    assert accumulator.moments.count.tolist() == [1]


def test_several_kept_axes_must_stay_the_same():
    accumulator = sn.Accumulator(channel_axis=(1, 2)).update(np.zeros((5, 2, 3)))
    with pytest.raises(ValueError, match="6 channels"):
        accumulator.update(np.zeros((5, 3, 2)))
    assert accumulator.moments.channel_shape == (2, 3)


def test_before_the_first_batch_the_channels_must_be_given():
    with pytest.raises(ValueError, match="no batch seen yet"):
        _ = sn.Accumulator().moments
    assert sn.Accumulator(channels=4).moments == sn.Moments.empty(4)
    with pytest.raises(ValueError, match="3 channels"):
        sn.Accumulator(channels=4).update(np.zeros((2, 3)))


def test_masks_are_taken_per_batch():
    accumulator = sn.Accumulator().update([[1.0], [5.0]], mask=[[True], [False]]).update([[3.0]])
    assert accumulator.moments.mean.tolist() == [2.0]
    assert accumulator.moments.omitted.tolist() == [1]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
def test_a_copy_goes_on_with_the_same_bits(copied):
    original = filled()
    again = copied(original)
    for accumulator in (original, again):
        accumulator.update(np.full((2, 3), 0.3))
    assert again.moments == original.moments


def test_it_says_where_the_numbers_came_from():
    entry = filled().moments.meta.provenance.passes[0]
    assert (entry.kind, entry.dtype, entry.report.read) == ("batches", "float64", 5)


def test_repr_shows_batches_and_moments():
    assert repr(sn.Accumulator()) == "Accumulator(0 batches: nothing yet)"
    assert repr(filled()).startswith("Accumulator(5 batches: Moments(C=3, n=10, ")


def test_threads_that_share_one_lose_nothing():
    accumulator = sn.Accumulator()
    barrier = threading.Barrier(8)

    def feed(k):
        barrier.wait()
        for _ in range(200):
            accumulator.update(np.full((3, 1), float(k)))

    threads = [threading.Thread(target=feed, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert accumulator.moments.count.tolist() == [8 * 200 * 3]
    np.testing.assert_allclose(accumulator.moments.mean, [3.5], rtol=1e-13)


@pytest.mark.parametrize("channels", [1, 3, 1000, 5000])
def test_few_parts_wait_for_the_merge_tree_and_none_of_very_many_channels(channels):
    stack = fold.Stack()
    for _ in range(100):
        stack.push(partial.empty(channels), some=True)
        assert len(stack._waiting) < 32
        assert len(stack._waiting) * channels <= 4096


@pytest.mark.parametrize("merges", range(8))
def test_what_an_interruption_leaves_is_not_counted_twice(monkeypatch, merges):
    interrupted = filled(11)
    merge_into, done = fold._merge_into(), []

    def stop(total, rows):
        done.append(rows)
        if len(done) == merges + 1:
            raise KeyboardInterrupt
        merge_into(total, rows)

    monkeypatch.setattr(fold, "_merge_into", lambda: stop)
    with pytest.raises(KeyboardInterrupt):
        _ = interrupted.moments
    assert (interrupted.moments.count <= filled(11).moments.count).all()


@given(st.integers(0, 70))
def test_memory_is_logarithmic_in_the_number_of_batches(batches):
    entries = filled(batches)._stack.held
    assert len(entries) == batches.bit_count()


@pytest.mark.parametrize(
    ("axis", "shape"), [(None, (3, 4)), ((), (3, 4)), ((0, 1), (3, 4, 5)), ((1,), (3, 4))]
)
def test_streams_under_any_channel_axis_are_the_merge_of_their_batches(axis, shape):
    batches = np.random.default_rng(0).normal(size=(5, *shape))
    accumulator = sn.Accumulator(channel_axis=axis)
    for batch in batches:
        accumulator.update(batch)
    expected = sn.merge(sn.measure(batch, channel_axis=axis) for batch in batches)
    assert accumulator.moments == expected == sn.compute(batches.tolist(), channel_axis=axis)


def test_empty_batches_change_no_bit_wherever_they_come():
    batches = [np.full((2, 3), v) for v in (0.1, 0.7, 1e9, -3.3, 0.2)]
    expected = sn.merge(sn.measure(batch) for batch in batches)
    none = np.zeros((0, 3))
    strewn = [none, batches[0], none, none, *batches[1:3], none, *batches[3:], none]
    assert sn.merge(sn.measure(batch) for batch in strewn) == expected
    assert sn.compute(strewn) == expected
    accumulator = sn.Accumulator()
    for batch in strewn:
        accumulator.update(batch)
    assert accumulator.moments == expected


def test_watching_a_loop_measures_its_batches_and_hands_them_on_unchanged():
    loader = [{"image": np.full((4, 2), float(k)), "label": k} for k in range(5)]
    accumulator = sn.Accumulator()
    seen = list(accumulator.watch(loader, select="image"))
    assert all(batch is given for batch, given in zip(seen, loader, strict=True))
    assert accumulator.moments == sn.merge(sn.measure(batch["image"]) for batch in loader)


def test_a_loop_that_is_left_has_counted_what_it_had():
    accumulator = sn.Accumulator()
    for k, batch in enumerate(accumulator.watch([np.ones((4, 2))] * 9)):
        # A batch belongs to the loop: it has been measured by now.
        batch[...] = 100
        if k == 2:
            break
    assert accumulator.moments.count.tolist() == [12, 12]


@pytest.mark.parametrize(
    ("select", "value"), [(1, 2.0), (lambda batch: batch[0] * 3, 3.0), (None, 1.0)]
)
def test_watching_selects_as_compute_does(select, value):
    pairs = [(np.ones((4, 2)), np.full((4, 2), 2.0))] * 3
    accumulator = sn.Accumulator()
    for _ in accumulator.watch(pairs, select=select):
        pass
    assert accumulator.moments.mean.tolist() == [value, value]


def test_watching_dicts_asks_which():
    with pytest.raises(ValueError, match="pass select= one of them"):
        next(sn.Accumulator().watch([{"x": np.ones((4, 2))}]))
