"""RunningNormalize: the true moments of all that passed, in training, resumed, copied, frozen."""

import copy
import math
import threading
from itertools import pairwise
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import splits, tables

import streamnorm as sn
from streamnorm import running
from streamnorm.kernels import compiled

torch = pytest.importorskip("torch")
nn = pytest.importorskip("streamnorm.nn")
observing = pytest.importorskip("streamnorm.nn.observing")
pytestmark = pytest.mark.torch

FEW = settings(max_examples=20)


def batches(count=12, channels=3, seed=0, offset=50.0):
    rng = np.random.default_rng(seed)
    return [torch.from_numpy(rng.normal(offset, 2, (8, channels))).float() for _ in range(count)]


def trained(seen, **options):
    module = nn.RunningNormalize(seen[0].shape[1], **options)
    for batch in seen:
        module(batch)
    return module


@given(data=st.data())
@FEW
def test_its_statistics_are_the_moments_of_all_batches(data):
    table = data.draw(tables("float32", max_channels=5))
    module = nn.RunningNormalize(table.shape[1])
    for a, b in pairwise(data.draw(splits(len(table)))):
        module(torch.from_numpy(table[a:b].copy()))
    whole = sn.measure(table)
    assert np.array_equal(module.moments.count, whole.count)
    largest = float(np.abs(table).max(initial=0))
    np.testing.assert_allclose(module.moments.mean, whole.mean, rtol=0, atol=1e-13 * largest)
    assert np.array_equal(module.moments.minimum, whole.minimum, equal_nan=True)


def test_a_batch_is_normalized_by_all_seen_and_itself():
    seen = batches()
    module = trained(seen[:-1])
    total = sn.merge([sn.measure(batch) for batch in seen])
    expected = nn.Normalize.from_moments(total)(seen[-1])
    torch.testing.assert_close(module(seen[-1]), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(module.eval()(seen[-1]), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(module.inverse(expected), seen[-1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("axis", [1, -1, -3, (1, 2)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float64, torch.int64])
def test_any_axis_and_dtype(axis, dtype):
    x = torch.randint(0, 100, (5, 4, 3, 2)).to(dtype)
    measured = sn.measure(x, channel_axis=axis)
    module = nn.RunningNormalize(measured.channels, channel_axis=axis)
    y = module(x)
    expected = nn.Normalize.from_moments(measured, channel_axis=axis)(x)
    torch.testing.assert_close(y, expected, rtol=1e-2, atol=1e-2)
    assert y.dtype == expected.dtype
    torch.testing.assert_close(module.eval()(x), expected, rtol=1e-2, atol=1e-2)


def test_in_eval_and_when_frozen_nothing_is_learned():
    module = trained(batches(3))
    before = module.moments
    module.eval()(batches(1, seed=9)[0])
    module.train().freeze()(batches(1, seed=9)[0])
    assert module.moments == before
    module.freeze(frozen=False)(batches(1, seed=9)[0])
    assert module.moments.count.tolist() == [32] * 3


def test_until_so_many_values_and_not_beyond():
    module = trained(batches(12), until=20)
    # The batch that gets there counts whole.
    assert module.moments.count.tolist() == [24] * 3
    assert module.moments == trained(batches(3)).moments


def test_too_few_values_pass_unchanged():
    module = nn.RunningNormalize(3, min_count=20)
    first, second, third = batches(3)
    assert torch.equal(module(first), first)
    assert torch.equal(module.eval()(first), first)
    module.train()(second)
    assert not torch.equal(module(third), third)
    one = nn.RunningNormalize(2)
    assert one(torch.tensor([[5.0, 6.0]])).tolist() == [[5.0, 6.0]]


def test_a_constant_observation_is_only_centred():
    module = trained([torch.full((8, 1), 0.1)] * 20)
    assert module(torch.full((1, 1), 0.1)).abs().item() < 1e-8
    assert module.eval()(torch.tensor([[1.1]])).item() == pytest.approx(1.0)
    assert module.moments.m2.tolist() == [0.0]


@pytest.mark.parametrize("half_life", [1.0, 10.0, 1e4])
def test_forgetting_is_the_weighted_mean_and_variance_of_the_formula(half_life):
    seen = batches(9, channels=2)
    module = trained(seen, half_life=half_life)
    values = torch.cat(seen).double().numpy()
    ages = np.repeat(8.0 * np.arange(len(seen))[::-1], 8)
    weights = 2.0 ** (-ages / half_life)
    mean = np.average(values, axis=0, weights=weights)
    variance = np.average((values - mean) ** 2, axis=0, weights=weights)
    count, got_mean, m2, *_ = module.statistics.numpy()
    np.testing.assert_allclose(count, weights.sum(), rtol=1e-12)
    np.testing.assert_allclose(got_mean, mean, rtol=1e-12)
    np.testing.assert_allclose(m2 / count, variance, rtol=1e-10)
    with pytest.raises(ValueError, match="no moments of a data set"):
        _ = module.moments
    with pytest.raises(ValueError, match="no merging of ranks"):
        module.sync()


@pytest.mark.parametrize("options", [{}, {"half_life": 30.0}, {"until": 70}], ids=str)
def test_training_goes_on_from_a_checkpoint_in_every_bit(options, tmp_path):
    seen = batches(12)
    whole = trained(seen, **options)
    half = trained(seen[:6], **options)
    torch.save(half.state_dict(), tmp_path / "half.pt")
    again = nn.RunningNormalize(3, **options)
    again.load_state_dict(torch.load(tmp_path / "half.pt", weights_only=True), strict=True)
    for batch in seen[6:]:
        last = again(batch)
    assert torch.equal(again.statistics, whole.statistics)
    assert torch.equal(last, again.eval()(batch))


def test_safetensors_and_a_frozen_module_come_back(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    module, again = trained(batches(3)).freeze(), nn.RunningNormalize(3)
    safetensors.save_model(module, str(tmp_path / "m.safetensors"))
    safetensors.load_model(again, str(tmp_path / "m.safetensors"))
    again(batches(1, seed=4)[0])
    assert torch.equal(again.statistics, module.statistics)


def test_a_checkpoint_of_other_channels_is_refused():
    with pytest.raises(RuntimeError, match="size mismatch for statistics"):
        nn.RunningNormalize(4).load_state_dict(nn.RunningNormalize(3).state_dict())


@pytest.mark.parametrize(
    "cast",
    [
        lambda m: m.half(),
        lambda m: m.bfloat16(),
        lambda m: m.to(torch.float16),
        lambda m: m.float(),
    ],
)
def test_casting_the_network_takes_no_digits(cast):
    seen = batches(6)
    network = torch.nn.Sequential(nn.RunningNormalize(3), torch.nn.Linear(3, 2))
    for batch in seen[:3]:
        network(batch)
    cast(network)
    for batch in seen[3:]:
        network[0](batch)
    assert network[0].moments == trained(seen).moments
    assert network[0].statistics.dtype == torch.float64


def test_what_casts_buffers_behind_the_back_takes_no_digits():
    """As mixed precision of FSDP does."""
    seen = batches(6)
    module, whole = trained(seen[:3]), trained(seen)
    module.statistics.data = module.statistics.data.bfloat16()
    for batch in seen[3:]:
        y = module(batch)
    assert module.moments == whole.moments
    assert torch.equal(module.eval()(seen[-1]), y)


def test_a_deep_copy_learns_for_itself():
    module = trained(batches(3))
    other = copy.deepcopy(module)
    other(batches(1, seed=5)[0])
    assert module.moments == trained(batches(3)).moments
    assert other.moments.count.tolist() == [32] * 3


def test_copies_that_follow_buffers_normalize_by_them():
    model = torch.nn.Sequential(nn.RunningNormalize(3), torch.nn.Linear(3, 2))
    follower = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9), use_buffers=True
    )
    seen = batches(20)
    for batch in seen:
        model(batch)
        follower.update_parameters(model)
    there = follower.module[0].eval()(seen[0])
    torch.testing.assert_close(there, model[0].eval()(seen[0]), rtol=0, atol=0.3)
    copied = copy.deepcopy(model)
    model(seen[0] + 7)
    for mine, theirs in zip(copied.buffers(), model.buffers(), strict=True):
        mine.copy_(theirs)
    assert torch.equal(copied[0].eval()(seen[0]), model[0].eval()(seen[0]))


@pytest.mark.parametrize("reentrant", [False, True])
def test_under_gradient_checkpointing_a_batch_counts_once(reentrant):
    from torch.utils.checkpoint import checkpoint

    module, layer = nn.RunningNormalize(3), torch.nn.Linear(3, 2)
    for batch in batches(4):
        x = batch.requires_grad_()
        y = checkpoint(lambda x: layer(module(x)), x, use_reentrant=reentrant)
        y.sum().backward()
        assert x.grad is not None
    assert module.moments == trained(batches(4)).moments


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_under_gradient_checkpointing_gradients_are_those_without(dtype, reentrant):
    """Other batches pass before the backward pass: each is normalized again as it was."""
    from torch.utils.checkpoint import checkpoint

    gradients = []
    for checkpointed in (False, True):
        torch.manual_seed(0)
        module, layer = nn.RunningNormalize(3), torch.nn.Linear(3, 2, dtype=dtype)
        inputs = [batch.to(dtype).requires_grad_() for batch in batches(5)]
        network = torch.nn.Sequential(module, layer)
        outputs = [
            checkpoint(network, x, use_reentrant=reentrant) if checkpointed else network(x)
            for x in inputs
        ]
        sum(y.square().sum() for y in outputs).backward()
        gradients.append(layer.weight.grad)
    torch.testing.assert_close(*gradients)


def test_statistics_that_forget_are_not_loaded_as_if_they_did_not():
    forgetting = trained(batches(6), half_life=20.0)
    with pytest.raises(ValueError, match="load them into a module with the same half_life="):
        nn.RunningNormalize(3).load_state_dict(forgetting.state_dict())


def test_frozen_it_learns_by_no_way():
    module = trained(batches(2)).freeze()
    module.learn(batches(1)[0])
    assert module.moments.count.tolist() == [16] * 3
    assert "frozen=True" in repr(module)


def test_an_infinity_spreads_without_a_warning():
    module = trained(batches(2))
    bad = batches(1)[0]
    bad[0, 1] = torch.inf
    module(bad)
    assert module(batches(1)[0])[:, 1].isnan().all()
    assert module.moments.mean[1] == math.inf


def test_threads_that_share_one_lose_nothing():
    module, batch = nn.RunningNormalize(2000), torch.ones(4, 2000)
    threads = [
        threading.Thread(target=lambda: [module(batch) for _ in range(50)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert module.moments.count.tolist() == [800] * 2000


def test_what_was_normalized_in_inference_mode_can_be_trained_on():
    module, layer = trained(batches(2)).freeze(), torch.nn.Linear(3, 3)
    x = batches(1)[0]
    with torch.inference_mode():
        module.inverse(layer(module(x)))
    module.inverse(layer(module(x))).sum().backward()
    assert layer.weight.grad is not None


def test_buffers_that_are_changed_behind_their_back_are_noticed():
    module, x = trained(batches(2)).eval(), batches(1)[0]
    module(x)
    other = trained(batches(5, seed=3, offset=9.0)).eval()
    module.statistics.data.copy_(other.statistics)
    assert torch.equal(module(x), other(x))
    module.statistics.data = trained(batches(2)).statistics
    assert not torch.equal(module(x), other(x))


@pytest.mark.parametrize("axis", [None, (0, 1), (1, 2)])
def test_several_axes_and_none(axis):
    x = torch.randn(5, 4, 3)
    measured = sn.measure(x, channel_axis=axis)
    module = nn.RunningNormalize(measured.channels, channel_axis=axis, min_count=1)
    expected = nn.Normalize.from_moments(measured, channel_axis=axis)(x)
    torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(module.eval()(x), expected, rtol=1e-4, atol=1e-4)


def test_what_learns_cannot_be_exported():
    with pytest.raises(Exception, match=r"call eval\(\) or freeze\(\) first"):
        torch.export.export(trained(batches(2)), (batches(1)[0],))


def test_made_under_another_default_device_it_starts_on_the_host():
    with torch.device("meta"):
        module = nn.RunningNormalize(3)
    module.load_state_dict(trained(batches(2)).freeze().state_dict())
    assert module(batches(1)[0]).device.type == "cpu"
    assert module.moments.count.tolist() == [16] * 3


def test_gradients_pass_through_but_not_into_the_statistics():
    module = trained(batches(3))
    x = batches(1, seed=3)[0].requires_grad_()
    module(x).sum().backward()
    std = torch.from_numpy(module.moments.std()).float()
    torch.testing.assert_close(x.grad, (1 / std).expand_as(x))
    assert list(module.parameters()) == []


def test_a_step_that_comes_later_does_not_change_an_earlier_gradient():
    module = nn.RunningNormalize(1)
    x = torch.tensor([[1.0], [3.0]], requires_grad=True)
    y = module(x)
    module(torch.tensor([[1000.0], [-1000.0]]))
    y.sum().backward()
    assert x.grad.tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize("policy", ["propagate", "omit", "raise"])
def test_nan_follow_the_policy(policy):
    module, bad = nn.RunningNormalize(2, nan_policy=policy), torch.ones(4, 2)
    module(torch.randn(8, 2))
    bad[1, 0] = torch.nan
    before = module.moments
    if policy == "raise":
        with pytest.raises(ValueError, match=r"NaN in channel\(s\) 0"):
            module(bad)
        assert module.moments == before
    else:
        module(bad)
        assert np.isnan(module.moments.mean).tolist() == [policy == "propagate", False]
        assert module.moments.omitted.tolist() == [int(policy == "omit"), 0]


def test_other_channels_and_bad_options_are_refused():
    module = trained(batches(2))
    before = module.moments
    with pytest.raises(ValueError, match=r"expected 3 channels on axis 1 .* has 4 there"):
        module(torch.ones(8, 4))
    with pytest.raises(ValueError, match="expected 3 channels"):
        module.eval()(torch.ones(8, 4))
    with pytest.raises(TypeError, match="complex64"):
        module.train()(torch.ones(8, 3, dtype=torch.complex64))
    assert module.moments == before
    for name in ("until", "half_life"):
        with pytest.raises(ValueError, match=f"{name} must be above 0, got -1"):
            nn.RunningNormalize(3, **{name: -1})
    with pytest.raises(ValueError, match="min_count must be at least 1, got 0"):
        nn.RunningNormalize(3, min_count=0)
    with pytest.raises(ValueError, match="pass one"):
        nn.RunningNormalize(3, until=100, half_life=10.0)
    with pytest.raises(TypeError, match=r"expected a torch tensor but got a numpy.ndarray"):
        module(np.ones((2, 3)))
    with pytest.raises(ValueError, match="nan_policy must be one of"):
        nn.RunningNormalize(3, nan_policy="drop")


def on_a_device(book):
    """Return a book as it is on devices, in memory of the host."""
    return observing._DeviceBook(book.channels, torch.from_numpy(book.fields))


@pytest.mark.parametrize("options", [{}, {"until": 70}, {"half_life": 30.0}], ids=str)
@pytest.mark.parametrize("policy", ["omit", "raise"])
def test_a_book_on_a_device_learns_what_one_on_the_host_learns(policy, options):
    """With tensors of the host, which come as rows, and with pieces."""
    here, there = (nn.RunningNormalize(3, nan_policy=policy, **options) for _ in range(2))
    there._book = on_a_device(there._book)
    for batch in batches(12):
        torch.testing.assert_close(there(batch), here(batch), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(there.statistics, here.statistics, rtol=1e-12, atol=1e-12)


def test_a_batch_in_pieces_counts_as_one():
    from devices import measured_by

    from streamnorm.kernels import device

    x = torch.from_numpy(np.random.default_rng(0).normal(50, 9, (1000, 1)))
    x[3] = torch.nan
    for options in ({"until": 250}, {"half_life": 100.0}):
        here, there = (nn.RunningNormalize(1, nan_policy="omit", **options) for _ in range(2))
        there._book = on_a_device(there._book)
        here(x)
        device._course_of.cache_clear()
        with (
            measured_by("plain torch"),
            mock.patch.object(type(device.plain), "most_values", 200),
        ):
            there(x)
        torch.testing.assert_close(there.statistics, here.statistics, rtol=1e-12, atol=1e-12)


def test_a_batch_without_values_changes_nothing():
    module = trained(batches(2))
    before = module.moments
    assert module(torch.empty(0, 3)).shape == (0, 3)
    assert module.moments == before


def test_what_is_loaded_is_normalized_with_at_once():
    module, again = trained(batches(2)), nn.RunningNormalize(3)
    again.load_state_dict(module.state_dict())
    center, _, std = again._book.constants(torch.float32)
    np.testing.assert_allclose(center, module.moments.mean, rtol=1e-6)
    np.testing.assert_allclose(std, module.moments.std(), rtol=1e-6)


def test_without_a_process_group_sync_does_nothing():
    module = trained(batches(2))
    before = module.moments
    assert module.sync() is module
    assert module.moments == before


def test_once_it_learns_no_more_it_is_exported_and_compiled():
    module, x = trained(batches(3)).eval(), batches(1)[0]
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(module, (x,), dynamic_shapes=({0: batch},))
    torch.testing.assert_close(program.module()(x[:5]), module(x[:5]))
    compiled_module = torch.compile(module, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled_module(x), module(x))


def test_in_training_compiled_code_around_it_learns_the_same():
    network = torch.nn.Sequential(nn.RunningNormalize(3), torch.nn.Linear(3, 2))
    around = torch.compile(network, backend="eager")
    for batch in batches(5):
        around(batch)
    assert network[0].moments == trained(batches(5)).moments


def test_moved_to_no_device_and_back_it_starts_from_its_checkpoint():
    module = trained(batches(3))
    empty = nn.RunningNormalize(3).to("meta")
    assert empty.eval()(torch.empty(2, 3, device="meta")).shape == (2, 3)
    empty.to_empty(device="cpu").load_state_dict(module.state_dict())
    for one in (module.train(), empty.train()):
        one(batches(1, seed=8)[0])
    assert empty.moments == module.moments


def random_book(rng, channels=16):
    def rows():
        count = rng.integers(0, 3, channels) * rng.integers(1, 50, channels)
        mean = rng.normal(0, 10.0 ** rng.integers(-3, 9), channels)
        m2 = np.where(count > 1, rng.exponential(size=channels) * rng.integers(0, 2, channels), 0)
        low, high = mean - np.sqrt(m2), mean + np.sqrt(m2)
        odd = rng.random(channels) < 0.2
        mean = np.where(odd, rng.choice([np.nan, np.inf, -np.inf, 1e300, -0.0], channels), mean)
        m2 = np.where(np.isfinite(mean), m2, np.nan)
        fields = np.stack([count, mean, m2, low, high, rng.integers(0, 3, channels)])
        fields[1:5, count == 0] = np.array([np.nan, 0, np.nan, np.nan])[:, None]
        return fields

    book = running.start(channels, 2, rng.choice([np.inf, 40]))
    for place in (running.TOTAL, running.NEW, running.BATCH):
        book[place] = rows()
    book[running.DECAY] = rng.choice([1.0, 0.5])
    return book


def constants_of(book):
    """Return what a book says to normalize with: the mean in two pieces of float32, and the std."""
    center, variance = book[running.CENTER], book[running.VARIANCE]
    with np.errstate(all="ignore"):
        head = center.astype(np.float32)
        rest = (center - head).astype(np.float32)
        return np.stack([head, rest, np.sqrt(variance).astype(np.float32)])


@pytest.mark.triton
@given(seed=st.integers(0, 10_000))
@settings(max_examples=15)
def test_a_step_in_one_kernel_has_the_bits_of_numpy(seed):
    launch = pytest.importorskip("streamnorm.kernels.triton_running")
    book = random_book(np.random.default_rng(seed))
    # What kernels for devices measure has no field for what is omitted.
    each = 60
    book[running.BATCH.stop - 1] = each - book[running.BATCH.start]
    place = "cuda" if torch.cuda.is_available() else "cpu"
    there, statistics = torch.from_numpy(book.copy()).to(place), torch.zeros(6, 16).double()
    statistics = statistics.to(place)
    batch = there[running.BATCH][:5].clone()
    with np.errstate(all="ignore"):
        made = launch.step(there, batch, each, statistics).cpu().numpy()
        changed, _ = running.advance(np.where, lambda field: book[field])
    for field, values in changed.items():
        assert np.array_equal(values, there[field].cpu().numpy(), equal_nan=True), field
    assert np.array_equal(statistics.cpu().numpy(), there[:6].cpu().numpy(), equal_nan=True)
    expected = constants_of(there.cpu().numpy())
    assert np.array_equal(made[:2], expected[:2], equal_nan=True)
    np.testing.assert_allclose(made[2], expected[2], rtol=1e-7)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=60)
def test_a_step_has_the_same_bits_in_numpy_compiled_and_torch(seed):
    book = random_book(np.random.default_rng(seed))
    plain, quick, there = book.copy(), book.copy(), torch.from_numpy(book.copy())
    with np.errstate(all="ignore"):
        changed, _ = running.advance(np.where, lambda field: book[field])
    for field, values in changed.items():
        plain[field] = values
    # A batch comes as rows, in which what was omitted is whole, and a book has lanes to spare.
    statistics, made = np.empty((6, 16)), np.empty((3, 16), np.float32)
    compiled.step(running.rows_of_fields(quick[running.BATCH]), quick, statistics, made)
    assert np.array_equal(statistics, quick[running.TOTAL], equal_nan=True)
    assert np.array_equal(made, constants_of(quick), equal_nan=True)
    changed, _ = running.advance(torch.where, there.__getitem__)
    for field, values in {k: v.clone() for k, v in changed.items()}.items():
        there[field] = values
    for other in (quick, there.numpy()):
        assert np.array_equal(plain, other, equal_nan=True)
        assert np.array_equal(np.signbit(plain)[plain == 0], np.signbit(other)[plain == 0])


def test_peers_are_off_where_this_is_not():
    """The first batches, a batch of one, a constant: priors and epsilons in what others keep."""
    gymnasium = pytest.importorskip("gymnasium.wrappers.utils")
    baselines = pytest.importorskip("stable_baselines3.common.running_mean_std")
    seen = [batch.double().numpy() for batch in batches(2, channels=1, offset=1000.0)]
    truth = np.concatenate(seen).std()
    peers = [gymnasium.RunningMeanStd(shape=(1,)), baselines.RunningMeanStd(shape=(1,))]
    module = trained([torch.from_numpy(batch) for batch in seen])
    for peer in peers:
        for batch in seen:
            peer.update(batch)
        # One ten-thousandth of a sample at 0, with variance 1, is in there for good.
        assert math.sqrt(float(peer.var[0])) / truth > 1.2
    assert module.moments.std()[0] == pytest.approx(truth, rel=1e-12)

    alone = nn.RunningNormalize(1)
    first = np.array([[1000.0]])
    assert alone(torch.from_numpy(first)).item() == 1000.0
    for kind in (gymnasium.RunningMeanStd, baselines.RunningMeanStd):
        peer = kind(shape=(1,))
        peer.update(first)
        assert peer.mean[0] != 1000.0 and peer.var[0] > 50

    constant = [np.full((8, 1), 7.0)] * 3
    module = trained([torch.from_numpy(batch) for batch in constant])
    assert (module.moments.mean.tolist(), module.moments.std().tolist()) == ([7.0], [0.0])
    for kind in (gymnasium.RunningMeanStd, baselines.RunningMeanStd):
        peer = kind(shape=(1,))
        for batch in constant:
            peer.update(batch)
        assert peer.mean[0] != 7.0
