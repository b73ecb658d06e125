"""On a real GPU: every kernel, the streams, and that nobody waits. Needs pytest and NumPy only."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import streamnorm as sn  # noqa: E402 - needs torch
from streamnorm.kernels import device  # noqa: E402 - the same

if not torch.cuda.is_available():
    pytest.skip("no CUDA GPU here", allow_module_level=True)
pytestmark = pytest.mark.cuda

FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("bool", "uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
SHAPES = {
    "NCHW": ((64, 3, 57, 61), 1),
    "whole NCHW": ((32, 3, 64, 64), 1),
    "channels last": ((40_001, 3), 1),
    "table": ((3001, 257), 1),
    "wide table": ((600, 4096), 1),
    "small": ((32, 16), 1),
    "one channel": ((100_001, 1), 1),
    "last axis": ((30, 31, 32, 33), -1),
    # So large that a program reads more than four tiles.
    "large NCHW": ((256, 3, 128, 129), 1),
    "large whole NCHW": ((256, 3, 128, 128), 1),
    "large channels last": ((4_000_001, 3), 1),
    "large table": ((60_001, 256), 1),
}


@pytest.fixture(params=["triton", "plain torch"])
def kernels(request, monkeypatch):
    """Measure by Triton's kernels, or by those of plain torch."""
    chosen = device.plain if request.param == "plain torch" else device.triton_kernels()
    if chosen is None:
        pytest.skip("triton is not installed")
    monkeypatch.setattr(device, "_kernels_for", lambda _: chosen)
    return request.param


def values(dtype, shape, seed=0):
    rng = np.random.default_rng(seed)
    if dtype in FLOATS:
        x = torch.from_numpy(rng.normal(50, 9, shape))
        return x.to(getattr(torch, dtype))
    return torch.from_numpy(rng.integers(0, 2 if dtype == "bool" else 100, shape)).to(
        getattr(torch, dtype)
    )


def assert_close(there, here):
    assert np.array_equal(there.count, here.count)
    assert np.array_equal(there.omitted, here.omitted)
    assert np.array_equal(there.minimum, here.minimum, equal_nan=True)
    assert np.array_equal(there.maximum, here.maximum, equal_nan=True)
    np.testing.assert_allclose(there.mean, here.mean, rtol=1e-14)
    np.testing.assert_allclose(there.std(), here.std(), rtol=1e-13)


# Every case is a kernel to compile: all shapes for some dtypes, all dtypes for some shapes.
CASES = [
    (dtype, name)
    for dtype in (*FLOATS, *INTEGERS)
    for name in SHAPES
    if dtype in ("float32", "uint8")
    or name in ("NCHW", "channels last", "table")
    or (dtype == "bfloat16" and name.startswith("large"))
]


@pytest.mark.parametrize(("dtype", "name"), CASES)
def test_the_gpu_gives_what_the_cpu_gives(kernels, dtype, name):
    shape, axis = SHAPES[name]
    x = values(dtype, shape)
    there = x.cuda()
    assert_close(sn.measure(there, channel_axis=axis), sn.measure(x, channel_axis=axis))
    digest = sn.measure(x, channel_axis=axis, exact=True).digest()
    assert sn.measure(there, channel_axis=axis, exact=True).digest() == digest


@pytest.mark.parametrize("policy", ["propagate", "omit"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("name", ["NCHW", "channels last", "table"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_special_values_and_masks(kernels, dtype, name, exact, masked, policy):
    shape, axis = SHAPES[name]
    x = values(dtype, shape)
    odd = torch.from_numpy(np.random.default_rng(1).random(shape))
    x[odd < 0.001] = torch.nan
    x.select(axis, 0)[odd.select(axis, 0) > 0.999] = torch.inf
    mask = torch.from_numpy(np.random.default_rng(2).random(shape) < 0.7) if masked else None
    options = {"channel_axis": axis, "nan_policy": policy, "exact": exact}
    here = sn.measure(x, mask=mask, **options)
    there = sn.measure(x.cuda(), mask=None if mask is None else mask.cuda(), **options)
    if exact:
        assert here == there
    else:
        assert_close(there, here)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_exact_sums_of_any_bits(kernels, dtype):
    kind = getattr(torch, dtype)
    size = torch.empty(0, dtype=kind).element_size()
    raw = np.random.default_rng(3).integers(0, 256, 30_000 * size, np.uint8)
    x = torch.from_numpy(raw).view(kind).view(-1, 3)
    assert sn.measure(x.cuda(), exact=True).digest() == sn.measure(x, exact=True).digest()


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("name", ["large whole NCHW", "large channels last", "large table"])
def test_exact_sums_of_values_far_from_the_first_ones(kernels, dtype, name):
    shape, axis = SHAPES[name]
    x = values(dtype, shape) * 1e-9
    x.view(-1)[x.numel() // 2 :] *= 1e20
    x.view(-1)[-7000:-3000] *= 1e-30
    digest = sn.measure(x, channel_axis=axis, exact=True).digest()
    assert sn.measure(x.cuda(), channel_axis=axis, exact=True).digest() == digest


@pytest.mark.parametrize("scale", [1e300, 1e160, 1e-310])
def test_the_ends_of_float64(kernels, scale):
    x = torch.from_numpy(np.random.default_rng(0).choice([-1.0, 0.25, 1.0], (5000, 3)) * scale)
    here, there = sn.measure(x), sn.measure(x.cuda())
    np.testing.assert_allclose(there.mean, here.mean, rtol=0, atol=1e-14 * scale + 1e-323)
    np.testing.assert_allclose(there.m2, here.m2, rtol=1e-12)


def test_a_far_shift_and_cancellation(kernels):
    column = torch.from_numpy(1e8 + np.random.default_rng(0).normal(size=(200_000, 1)))
    mask = torch.arange(200_000)[:, None] >= 5000
    measured = sn.measure(column.cuda(), mask=mask.cuda())
    truth = column.numpy()[5000:].astype(np.longdouble)
    assert measured.mean[0] == pytest.approx(float(truth.mean()), rel=4e-15)
    # 2e-15 of the condition number, 1e8.
    assert measured.std()[0] == pytest.approx(float(truth.std()), rel=2e-7)


@pytest.mark.parametrize("exact", [False, True])
def test_the_same_bits_from_run_to_run(kernels, exact):
    x = values("float32", (256, 3, 128, 128)).cuda()
    runs = [sn.measure(x, exact=exact) for _ in range(5)]
    assert all(run == runs[0] for run in runs)


@pytest.mark.parametrize("options", [{}, {"exact": True}, {"nan_policy": "omit"}], ids=str)
def test_nothing_waits_for_the_gpu_until_it_is_read(kernels, options):
    x = values("float32", (32, 16)).cuda()
    accumulator = sn.Accumulator(**options)
    accumulator.update(x)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(100):
            accumulator.update(x)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert accumulator.moments.count.tolist() == [101 * 32] * 16


def test_batches_of_several_streams_are_merged_in_their_order(kernels):
    batches = [values("float32", (20_000, 8), seed).cuda() for seed in range(12)]
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in range(3)]
    accumulator = sn.Accumulator()
    for k, batch in enumerate(batches):
        with torch.cuda.stream(streams[k % 3]):
            torch.cuda._sleep(1_000_000 * (3 - k % 3))
            accumulator.update(batch)
    assert accumulator.moments == sn.merge([sn.measure(batch) for batch in batches])


def test_a_tensor_that_the_stream_is_still_writing_is_measured_afterwards(kernels):
    x = torch.zeros(1000, 4, device="cuda")
    accumulator = sn.Accumulator()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(10_000_000)
        x += 3
        accumulator.update(x)
    assert accumulator.moments.mean.tolist() == [3.0] * 4


def test_more_than_two_billion_values(kernels):
    if torch.cuda.get_device_properties(0).total_memory < 20 << 30 or kernels != "triton":
        pytest.skip("for Triton's kernels, and needs memory")
    x = torch.zeros(2**31 + 48, 1, dtype=torch.uint8, device="cuda")
    x[-5:] = 2
    measured = sn.measure(x)
    assert (measured.count.tolist(), measured.maximum.tolist()) == ([2**31 + 48], [2.0])
    assert measured.mean.tolist() == pytest.approx([10 / (2**31 + 48)], rel=1e-12)


def test_running_normalization_learns_on_the_gpu_what_it_learns_on_the_cpu(kernels):
    from streamnorm.nn import RunningNormalize

    here, there = RunningNormalize(8), RunningNormalize(8).cuda()
    for seed in range(6):
        x = values("float32", (500, 8), seed)
        torch.testing.assert_close(there(x.cuda()).cpu(), here(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(there.statistics.cpu(), here.statistics, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(there.eval()(x.cuda()).cpu(), here.eval()(x), rtol=1e-5, atol=1e-5)
    there.train().to("cpu")(x)
    here.train()(x)
    torch.testing.assert_close(there.statistics, here.statistics, rtol=1e-12, atol=1e-12)


def test_running_normalization_does_not_wait_for_the_gpu(kernels):
    from streamnorm.nn import RunningNormalize

    module, x = RunningNormalize(16, until=1e9).cuda(), values("float32", (32, 16)).cuda()
    module(x)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(20):
            module(x)
            module.eval()(x)
            module.train()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert module.moments.count.tolist() == [21 * 32] * 16


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32])
def test_normalization_and_folding_on_the_gpu(dtype):
    from streamnorm.nn import Normalize

    x = values("uint8", (4, 3, 16, 16)).to(dtype)
    norm = Normalize.from_moments(sn.measure(x))
    torch.testing.assert_close(norm.cuda()(x.cuda()).cpu(), norm.cpu()(x), rtol=1e-3, atol=1e-3)
    layer = torch.nn.Conv2d(3, 5, 3, padding=1).cuda()
    if dtype == torch.float32:
        folded, norm = norm.fold_into(layer), norm.cuda()
        expected = layer(norm(x.cuda()))
        torch.testing.assert_close(folded(x.cuda()), expected, rtol=1e-2, atol=1e-2)
    assert norm.mean.dtype == torch.float64
