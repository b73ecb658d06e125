"""Statistics of tensors on a device: the laws, the edges, and that nobody waits for it."""

import contextlib
import copy
import pickle
from itertools import pairwise
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import agree, commutes, identity

torch = pytest.importorskip("torch")
from devices import DEVICE, KITS, NAMES, measured_by, tensor_of  # noqa: E402 - needs torch
from oracle import assert_accurate, exact_sums  # noqa: E402 - the same
from problems import PROBLEMS  # noqa: E402 - the same
from strategies import (  # noqa: E402 - the same
    DTYPES,
    LAYOUTS,
    bit_patterns,
    patterns,
    splits,
    tables,
)

import streamnorm as sn  # noqa: E402 - the same
from streamnorm import pending, stacks, tensors  # noqa: E402 - the same
from streamnorm.kernels import device  # noqa: E402 - the same

pytestmark = pytest.mark.torch

FEW = settings(max_examples=8)
"""Examples, since an interpreted kernel takes tens of milliseconds."""
per_kit = pytest.mark.parametrize(
    "kit",
    [
        pytest.param(KITS[name], id=name, marks=[pytest.mark.triton] if name == "triton" else [])
        for name in NAMES
    ],
)
per_dtype = pytest.mark.parametrize("dtype", DTYPES)


def largest(table):
    finite = np.abs(table[np.isfinite(table)].astype(np.float64)) if table.size else np.zeros(1)
    return float(finite.max(initial=0.0))


@per_kit
@per_dtype
@given(data=st.data())
@FEW
def test_any_split_is_within_the_bound_of_the_truth_and_merging_is_lawful(kit, dtype, data):
    table = data.draw(tables(dtype))
    parts = [kit.measure(table[a:b]) for a, b in pairwise(data.draw(splits(len(table))))]
    assert_accurate(sn.merge(parts), list(table.T))
    identity(parts[0])
    commutes(parts[0], parts[-1])


SHAPES = (
    (3, 2, 5),
    (1, 1, 5000),
    (700, 3, 1),
    (2, 3, 1100),
    (7, 5, 49),
    (300, 20, 1),
    (40, 17, 3),
    (2, 600, 1),
    (5, 16, 7),
)
"""(outer, channel, inner): runs, few channels and lanes; whole tiles and torn ones."""


@per_kit
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    ("dtype", "masked"),
    [
        *((dtype, False) for dtype in ("float32", "uint8", "int16", "uint32", "float64")),
        *((dtype, True) for dtype in ("float32", "uint8")),
    ],
)
def test_every_shape_of_a_deal_gives_what_the_host_gives(kit, shape, masked, dtype):
    rng = np.random.default_rng(3)
    block = (rng.normal(20, 9, shape) % 100).astype(dtype)
    mask = rng.random(shape) < 0.7 if masked else None
    agree(kit.measure(block, mask=mask), sn.measure(block, mask=mask), largest=100)
    digest = sn.measure(block, mask=mask, exact=True).digest()
    assert kit.measure(block, mask=mask, exact=True).digest() == digest


@per_kit
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_every_layout_gives_what_the_host_gives(kit, layout):
    table = np.random.default_rng(5).normal(300, 9, (64, 3)).astype(np.float32)
    array = layout.build(table)
    agree(
        kit.measure(array, channel_axis=layout.axis),
        sn.measure(array, channel_axis=layout.axis),
        largest=400,
    )


@per_kit
@pytest.mark.parametrize("policy", ["propagate", "omit"])
@pytest.mark.parametrize("exact", [False, True])
@given(data=st.data())
@FEW
def test_special_values_are_what_they_are_on_the_host(kit, exact, policy, data):
    dtype = data.draw(st.sampled_from(["float16", "float32", "float64"]))
    table = data.draw(tables(dtype, special=True))
    mask = np.random.default_rng(0).random(table.shape) < data.draw(st.sampled_from([0, 0.8, 1]))
    options = {"nan_policy": policy, "mask": mask, "exact": exact}
    here, there = sn.measure(table, **options), kit.measure(table, **options)
    if exact:
        assert here == there
        assert np.array_equal(here.minimum, there.minimum, equal_nan=True)
        assert np.array_equal(here.maximum, there.maximum, equal_nan=True)
    else:
        agree(here, there, largest=largest(table))


@per_kit
@per_dtype
@given(data=st.data())
@FEW
def test_exact_sums_of_any_bits_are_those_of_the_host(kit, dtype, data):
    table = data.draw(bit_patterns(dtype))
    here, there = sn.measure(table, exact=True), kit.measure(table, exact=True)
    assert here.digest() == there.digest()
    assert here.finite_minimum == there.finite_minimum
    assert here.finite_maximum == there.finite_maximum


@per_kit
def test_exact_sums_of_bfloat16_of_any_bits_are_those_of_the_host(kit):
    bits = np.random.default_rng(1).integers(0, 2**16, (600, 3)).astype(np.uint16)
    tensor = torch.from_numpy(bits).view(torch.bfloat16)
    assert kit.measure(tensor, exact=True).digest() == sn.measure(tensor, exact=True).digest()


@per_kit
@pytest.mark.parametrize("shape", [(2, 2, 4000), (4000, 3, 1)], ids=str)
@pytest.mark.parametrize("later", [1e-30, 1e20])
def test_exact_sums_find_values_far_from_the_first_ones(kit, shape, later):
    """Of other programs; within one, see tests/test_programs.py."""
    block = np.random.default_rng(4).normal(1, 1, shape).astype(np.float32) * np.float32(1e-9)
    flat = block.reshape(-1)
    flat[flat.size // 2 :] *= np.float32(later)
    flat[-7:-3] *= np.float32(1e-12)
    assert kit.measure(block, exact=True).digest() == sn.measure(block, exact=True).digest()


@per_kit
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exact_sums_are_those_of_rationals(kit, dtype):
    column = patterns(dtype, np.random.default_rng(2), (500, 1))
    there = kit.measure(column, exact=True)
    _, total, squares = exact_sums(column)
    assert (there.sum, there.sum_of_squares) == ((total,), (squares,))


@per_kit
@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
def test_hard_cases_are_within_the_bound(kit, problem):
    if problem.name == "long stream" and kit.name == "triton" and DEVICE == "cpu":
        pytest.skip("200,000 values take the interpreter too long")
    column = problem.column()
    assert_accurate(kit.measure(column), [column[:, 0]])


@per_kit
@pytest.mark.parametrize("constant", [0.1, -1e300, 1.7e308, 5e-324, 3.0, 1e-160, -0.0])
def test_a_constant_channel_has_its_value_as_mean_and_m2_zero(kit, constant):
    measured = kit.measure(np.full((3000, 1), constant))
    assert measured.mean.tolist() == [constant]
    assert measured.m2.tolist() == [0.0]
    assert not np.signbit([measured.mean, measured.minimum]).any() or constant < 0


@per_kit
def test_a_shift_that_is_far_off_is_found_out(kit):
    """The first values of a channel are not valid, so nothing is known of its mean."""
    column = 1e8 + np.random.default_rng(0).normal(size=(9000, 1))
    mask = np.arange(9000)[:, None] >= 2500
    assert_accurate(_without_omitted(kit.measure(column, mask=mask)), [column[2500:, 0]])


def _without_omitted(moments):
    return sn.Moments(moments.count, moments.mean, moments.m2, moments.minimum, moments.maximum)


@per_kit
def test_the_same_bits_come_from_run_to_run(kit):
    x = np.random.default_rng(0).normal(5, 2, (9, 3, 40, 40)).astype(np.float32)
    assert kit.measure(x) == kit.measure(x)


@per_kit
@pytest.mark.parametrize("exact", [False, True])
def test_accumulator_merge_and_compute_give_the_same_bits(kit, exact):
    batches = np.random.default_rng(0).normal(5, 2, (9, 40, 3)).astype(np.float32)
    merged = sn.merge(kit.measure(batch, exact=exact) for batch in batches)
    accumulator = sn.Accumulator(exact=exact)
    with measured_by(kit.name):
        for batch in batches:
            accumulator.update(tensor_of(batch))
        assert accumulator.moments == merged
        # One worker: Triton's interpreter does not run on two threads at a time.
        tensors_there = [tensor_of(batch) for batch in batches]
        assert sn.compute(tensors_there, exact=exact, workers=1) == merged


@pytest.mark.parametrize("name", NAMES)
def test_batches_here_and_there_are_merged_in_their_order(name):
    """Host and device by turns: what waits on the device goes first."""
    batches = 10.0 ** np.arange(6)[:, None, None] * np.random.default_rng(0).normal(size=(6, 9, 1))
    accumulator, parts = sn.Accumulator(), []
    for k, batch in enumerate(batches):
        if k % 3 == 0:
            parts.append(sn.measure(batch))
            accumulator.update(batch)
        else:
            parts.append(KITS[name].measure(batch))
            with measured_by(name):
                accumulator.update(tensor_of(batch))
    assert accumulator.moments == sn.merge(parts)


@per_kit
def test_a_whole_tensor_is_computed_in_slices(kit):
    x = np.random.default_rng(0).normal(5, 2, (40, 3, 9)).astype(np.float32)
    with measured_by(kit.name):
        total = sn.compute(tensor_of(x), channel_axis=1, workers=1)
        agree(total, sn.measure(x), largest=20)
        some = sn.compute(tensor_of(x), channel_axis=1, indices=[1, 5], workers=1)
    agree(some, sn.measure(x[[1, 5]]), largest=20)


WAITING = (
    "cpu",
    "numpy",
    "tolist",
    "item",
    "__bool__",
    "__int__",
    "__float__",
    "__array__",
    "nonzero",
)
"""Methods of a tensor that make the host wait for what a device has computed."""


@pytest.mark.parametrize("options", [{}, {"exact": True}, {"nan_policy": "omit"}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8, torch.int64])
def test_nobody_waits_for_the_device_until_the_moments_are_read(dtype, options):
    """Of plain torch; tests/test_cuda.py asks CUDA itself for both kernels."""
    batch = (torch.randn(16, 4) * 9).to(dtype).to(DEVICE)
    accumulator, waits = sn.Accumulator(**options), []

    def counted(name):
        method = getattr(torch.Tensor, name)
        return lambda *args, **kwargs: (waits.append(name), method(*args, **kwargs))[1]

    with measured_by("plain torch"), contextlib.ExitStack() as patches:
        for name in WAITING:
            patches.enter_context(mock.patch.object(torch.Tensor, name, counted(name)))
        for _ in range(stacks._MOST_PENDING - 1):
            accumulator.update(batch)
        assert waits == []
        moments = accumulator.moments
        assert waits == ["cpu", "numpy"]
        assert accumulator.moments == moments
        assert waits == ["cpu", "numpy"]


def test_an_interrupt_while_parts_are_taken_loses_and_doubles_none():
    accumulator = sn.Accumulator()
    with measured_by("plain torch"):
        for k in range(4):
            accumulator.update(torch.full((2, 3), float(k), device=DEVICE))
        taken = accumulator._stack._take

        def interrupted(rows):
            accumulator._stack._take = taken
            raise KeyboardInterrupt

        accumulator._stack._take = interrupted
        with pytest.raises(KeyboardInterrupt):
            _ = accumulator.moments
        accumulator.update(torch.full((2, 3), 9.0, device=DEVICE))
        # The one that was in hand when it was interrupted is lost, as ever.
        assert accumulator.moments.count.tolist() == [8] * 3


def test_after_an_interrupted_fetch_the_next_batch_fetches_all():
    accumulator, batch = sn.Accumulator(), torch.ones(2, 3, device=DEVICE)
    with measured_by("plain torch"):
        for _ in range(stacks._MOST_PENDING - 1):
            accumulator.update(batch)
        with (
            mock.patch.object(stacks, "fetch", side_effect=KeyboardInterrupt),
            pytest.raises(KeyboardInterrupt),
        ):
            accumulator.update(batch)
        accumulator.update(batch)
        pending, fetched = accumulator._stack._there
        assert (pending, fetched) == ([], [])
        assert accumulator.moments.count.tolist() == [2 * stacks._MOST_PENDING + 2] * 3


def test_a_full_buffer_is_fetched_once():
    batch = torch.ones(2, 3, device=DEVICE)
    accumulator = sn.Accumulator()
    with (
        measured_by("plain torch"),
        mock.patch.object(stacks, "fetch", wraps=pending.fetch) as fetch,
    ):
        for _ in range(2 * stacks._MOST_PENDING + 3):
            accumulator.update(batch)
        assert fetch.call_count == 2
        assert accumulator.moments.count.tolist() == [4 * stacks._MOST_PENDING + 6] * 3


@pytest.mark.parametrize("again", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
def test_an_accumulator_with_batches_on_the_device_can_be_copied(again):
    accumulator = sn.Accumulator()
    with measured_by("plain torch"):
        accumulator.update(torch.ones(2, 3, device=DEVICE))
    assert again(accumulator).moments == accumulator.moments


@per_kit
def test_nan_that_are_refused_leave_the_state_unchanged(kit):
    accumulator = sn.Accumulator(nan_policy="raise")
    good, bad = torch.ones(4, 2), torch.ones(4, 2)
    bad[2, 1] = torch.nan
    with measured_by(kit.name):
        accumulator.update(good.to(DEVICE))
        before = accumulator.moments
        with pytest.raises(ValueError, match=r"NaN in channel\(s\) 1"):
            accumulator.update(bad.to(DEVICE))
    assert accumulator.moments == before


@per_kit
def test_empty_tensors_give_empty_channels(kit):
    for exact in (False, True):
        measured = kit.measure(torch.empty(0, 3, 5), exact=exact)
        assert measured.count.tolist() == [0, 0, 0]
        assert np.isnan(measured.mean).all()


@per_kit
def test_a_tensor_that_needs_a_gradient_is_measured_outside_of_the_graph(kit):
    x = torch.ones(3, 2, requires_grad=True)
    assert kit.measure(x * 2).mean.tolist() == [2.0, 2.0]
    assert x.grad is None


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("policy", ["propagate", "omit"])
def test_a_device_without_float64_is_read_by_the_host(exact, policy):
    x = torch.from_numpy(np.random.default_rng(0).normal(5, 2, (50, 3, 7)).astype(np.float32))
    x[3, 1, 2] = torch.nan
    mask = torch.rand(50, 3, 7) < 0.8
    options = {"exact": exact, "nan_policy": policy}
    with (
        measured_by("plain torch"),
        mock.patch.object(device, "_kernels_for", return_value=None),
    ):
        there = sn.measure(x, mask=mask, **options)
    here = sn.measure(x, mask=mask, **options)
    assert there == here


def test_a_device_without_float64_is_known_by_what_it_refuses():
    device._has_float64.cache_clear()
    with mock.patch.object(torch, "zeros", side_effect=TypeError("no float64 here")):
        assert not device._has_float64("mps")
    device._has_float64.cache_clear()
    assert device._has_float64("cpu")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x: x.to_sparse(), "dense"),
        (lambda x: x.to(torch.complex64), "complex64"),
        (lambda x: x.to("meta"), "holds no numbers"),
        (lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.quint8), "quantized"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*quantized tensor creation")
def test_tensors_that_hold_no_numbers_are_refused(make, message):
    tensor = make(torch.zeros(2, 2))
    with measured_by("plain torch"), mock.patch.object(tensors, "_elsewhere", return_value=True):
        with pytest.raises(TypeError, match=message):
            sn.measure(tensor)
        with pytest.raises(TypeError, match=message):
            sn.compute(tensor)


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (np.ones((4, 2), bool), TypeError, "the mask is a ndarray"),
        (torch.ones(4, 2, dtype=torch.bool, device="meta"), TypeError, "the mask is on meta"),
        (torch.ones(4, 2, device=DEVICE), TypeError, "mask must be boolean"),
        (torch.ones(3, dtype=torch.bool, device=DEVICE), ValueError, "cannot be broadcast"),
    ],
)
def test_masks_that_do_not_fit_are_refused(mask, error, message):
    with measured_by("plain torch"), pytest.raises(error, match=message):
        sn.measure(torch.ones(4, 2, device=DEVICE), mask=mask)


def test_a_channel_axis_that_does_not_exist_is_refused():
    with measured_by("plain torch"), pytest.raises(ValueError, match="channel_axis 5"):
        sn.measure(torch.ones(4, 2, device=DEVICE), channel_axis=5)
