"""The torch module: buffers that keep their precision, in a network."""

import copy

import numpy as np
import pytest

import streamnorm as sn

torch = pytest.importorskip("torch")
nn = pytest.importorskip("streamnorm.nn")
pytestmark = pytest.mark.torch


@pytest.fixture
def moments():
    return sn.measure(np.random.default_rng(0).normal(1e4, 2, (100, 3, 4, 4)))


def test_it_does_what_the_numpy_map_does(moments):
    x = np.random.default_rng(1).normal(1e4, 2, (5, 3, 4, 4)).astype(np.float32)
    numpy_map, module = sn.Normalize.from_moments(moments), nn.Normalize.from_moments(moments)
    np.testing.assert_allclose(module(torch.from_numpy(x)).numpy(), numpy_map(x), atol=1e-6)
    y = module(torch.from_numpy(x))
    np.testing.assert_allclose(module.inverse(y).numpy(), x, rtol=1e-6)


@pytest.mark.parametrize(
    "cast",
    [
        lambda m: m.half(),
        lambda m: m.bfloat16(),
        lambda m: m.float(),
        lambda m: m.to(torch.float16),
    ],
)
def test_casting_the_network_leaves_mean_and_std_alone(moments, cast):
    network = torch.nn.Sequential(
        nn.Normalize.from_moments(moments), torch.nn.Flatten(), torch.nn.Linear(48, 2)
    )
    cast(network)
    assert network[0].mean.dtype == torch.float64
    assert network[0].mean.tolist() == moments.mean.tolist()
    assert network[2].weight.dtype != torch.float64


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_floats_keep_their_dtype(dtype):
    module = nn.Normalize([1.0, 2.0], [1.0, 2.0])
    assert module(torch.ones(4, 2, dtype=dtype)).dtype == dtype
    assert module.inverse(torch.ones(4, 2, dtype=dtype)).dtype == dtype


def test_half_input_is_computed_in_float32():
    """In float16 alone, 60000 - 59000.5 and the mean itself would be rounded to 32."""
    module = nn.Normalize([59000.5], [10.0])
    assert module(torch.tensor([[60000.0]], dtype=torch.float16)).item() == pytest.approx(
        99.95, rel=1e-3
    )


def test_integers_give_float32():
    assert nn.Normalize([1.0], [2.0])(torch.tensor([[3]], dtype=torch.uint8)).dtype == torch.float32


def test_state_dict_round_trip_keeps_every_bit(moments, tmp_path):
    module = nn.Normalize.from_moments(moments)
    torch.save(module.state_dict(), tmp_path / "m.pt")
    other = nn.Normalize(np.zeros(3), np.ones(3))
    other.load_state_dict(torch.load(tmp_path / "m.pt", weights_only=True), strict=True)
    assert torch.equal(other.mean, module.mean)
    assert torch.equal(other.std, module.std)


def test_a_deep_copy_is_independent(moments):
    module = nn.Normalize.from_moments(moments)
    again = copy.deepcopy(module)
    again.mean.zero_()
    assert module.mean.tolist() == moments.mean.tolist()


def test_gradients_pass_through(moments):
    x = torch.randn(2, 3, 4, 4, requires_grad=True)
    nn.Normalize.from_moments(moments)(x).sum().backward()
    expected = (1 / torch.from_numpy(moments.std())).float()
    torch.testing.assert_close(x.grad[0, :, 0, 0], expected)


def test_it_has_no_parameters(moments):
    assert list(nn.Normalize.from_moments(moments).parameters()) == []


def test_any_channel_axis():
    x = torch.arange(24.0).reshape(2, 4, 3)
    module = nn.Normalize.from_moments(sn.measure(x, channel_axis=-1), channel_axis=-1)
    assert module(x).mean(dim=(0, 1)).abs().max() < 1e-6
    assert "3 channels, channel_axis=-1" in repr(module)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="one number per channel"):
        nn.Normalize([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="expected 1 channels"):
        nn.Normalize([1.0], [1.0])(torch.zeros(2, 5))


def test_moving_to_another_device_moves_the_buffers(moments):
    module = nn.Normalize.from_moments(moments).to("meta")
    assert module.mean.device.type == "meta"
    assert module.mean.dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_wide_integers_are_centred_before_they_lose_digits(dtype):
    x = (1_700_000_000 + torch.arange(1000))[:, None].to(dtype)
    m = sn.measure(x)
    expected = (x.double() - m.mean[0]) / m.std()[0]
    torch.testing.assert_close(
        nn.Normalize.from_moments(m)(x).double(), expected, atol=1e-6, rtol=0
    )


def test_complex_tensors_are_refused():
    with pytest.raises(TypeError, match="complex64"):
        nn.Normalize([1.0], [1.0])(torch.zeros(2, 1, dtype=torch.complex64))
