"""The torch module: buffers that keep their precision, in a network."""

import copy
import fractions

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


@pytest.mark.filterwarnings("ignore:.*quantized tensor creation")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x: x.to(torch.complex64), "complex64"),
        (lambda x: x.to_sparse(), "expected a dense tensor but got layout torch.sparse_coo"),
        (lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.quint8), "a quantized tensor"),
    ],
)
def test_tensors_without_plain_real_numbers_are_refused(make, message):
    for module in (nn.Normalize([1.0], [1.0]), nn.RunningNormalize(1)):
        with pytest.raises(TypeError, match=message):
            module(make(torch.zeros(2, 1)))


def test_a_state_file_is_enough(moments, tmp_path):
    sn.save(moments, tmp_path / "train.json")
    module = nn.Normalize.from_file(tmp_path / "train.json", channel_axis=-1)
    assert module.mean.tolist() == moments.mean.tolist()
    assert module.channel_axis == -1
    with pytest.raises(TypeError, match=r"of a state file load\(path\) gives"):
        nn.Normalize.from_moments("train.json")


def test_statistics_of_values_from_0_to_1_serve_bytes():
    pictures = torch.randint(0, 256, (50, 3, 8, 8), dtype=torch.uint8)
    scaled = sn.measure(pictures, exact=True).affine(fractions.Fraction(1, 255))
    module = nn.Normalize.from_moments(scaled, scale=255)
    of_bytes = nn.Normalize.from_moments(sn.measure(pictures))
    torch.testing.assert_close(module(pictures), of_bytes(pictures), rtol=1e-6, atol=1e-6)
    assert module.inverse(module(pictures)).round().to(torch.uint8).equal(pictures)
    with pytest.raises(ValueError, match="scale must be a finite number above 0, got 0"):
        nn.Normalize([0.0], [1.0], scale=0)


@pytest.mark.parametrize("policy", ["unit", 0.5])
def test_constant_channels_are_divided_by_one_or_by_the_floor(policy):
    constant = sn.measure(torch.full((9, 1), 4.0))
    module = nn.Normalize.from_moments(constant, zero_variance=policy)
    assert module(torch.tensor([[5.0]])).item() == (1.0 if policy == "unit" else 2.0)


def test_autocast_changes_nothing(moments):
    module, x = nn.Normalize.from_moments(moments), torch.randn(2, 3, 4, 4) * 2 + 1e4
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(module(x), module(x))
        assert module(x).dtype == torch.float32
        halves = module(x.bfloat16())
    assert torch.equal(module(x), module(x.clone()))
    assert halves.dtype == torch.bfloat16


def test_nan_pass_through_under_autocast_and_stay_where_they_are(moments):
    module, x = nn.Normalize.from_moments(moments), torch.full((2, 3, 4, 4), 1e4)
    x[1, 2, 0, 0] = torch.nan
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(module(x).isnan(), x.isnan())


def test_a_changed_buffer_is_noticed():
    module, x = nn.Normalize([1.0], [1.0]), torch.tensor([[3.0]])
    assert module(x).item() == 2
    module.mean.fill_(2.0)
    assert module(x).item() == 1
    module.load_state_dict({"mean": torch.tensor([0.0]), "std": torch.tensor([2.0])})
    assert module(x).item() == 1.5


@pytest.mark.parametrize("assign", [False, True])
def test_a_checkpoint_in_half_precision_leaves_the_buffers_float64(assign):
    module = nn.Normalize([1.0], [1.0])
    halves = {"mean": torch.tensor([2.0]).half(), "std": torch.tensor([4.0]).half()}
    module.load_state_dict(halves, assign=assign)
    assert (module.mean.dtype, module.std.tolist()) == (torch.float64, [4.0])


def test_what_casts_buffers_behind_the_back_takes_no_digits(moments):
    """As mixed precision of FSDP does: it sets the data of buffers."""
    module, x = nn.Normalize.from_moments(moments), torch.full((1, 3, 2, 2), 1e4)
    before = module(x)
    for buffer in module.buffers():
        buffer.data = buffer.data.bfloat16()
    assert torch.equal(module(x), before)


def test_a_checkpoint_of_other_channels_is_refused(moments):
    module = nn.Normalize([1.0], [1.0])
    with pytest.raises(RuntimeError, match="size mismatch for mean"):
        module.load_state_dict(nn.Normalize.from_moments(moments).state_dict())


def test_safetensors_keep_every_bit(moments, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    module, other = nn.Normalize.from_moments(moments), nn.Normalize([0.0] * 3, [1.0] * 3)
    safetensors.save_model(module, str(tmp_path / "m.safetensors"))
    safetensors.load_model(other, str(tmp_path / "m.safetensors"))
    assert torch.equal(other.mean, module.mean) and torch.equal(other.std, module.std)


def test_a_module_made_without_memory_is_filled_by_its_checkpoint(moments):
    module = nn.Normalize.from_moments(moments)
    empty = nn.Normalize([0.0] * 3, [1.0] * 3).to("meta")
    assert empty(torch.empty(2, 3, 4, 4, device="meta")).shape == (2, 3, 4, 4)
    empty.to_empty(device="cpu").load_state_dict(module.state_dict())
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(empty(x), module(x))


def test_on_a_device_without_float64_the_buffers_stay_on_the_host(moments):
    """As `.to("mps")` does it, which refuses float64."""
    module = nn.Normalize.from_moments(moments)

    def refuse(tensor):
        if tensor.dtype == torch.float64:
            message = "Cannot convert a MPS Tensor to float64 dtype"
            raise TypeError(message)
        return tensor

    module._apply(refuse)
    assert module.mean.tolist() == moments.mean.tolist()


class Network(torch.nn.Module):
    def __init__(self, moments, channel_axis=1):
        super().__init__()
        self.normalize = nn.Normalize.from_moments(moments, channel_axis=channel_axis)
        self.layer = torch.nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.layer(self.normalize(x))


@pytest.mark.parametrize("axis", [1, -3])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_it_is_exported_with_a_dynamic_batch(moments, dtype, axis):
    network = Network(moments, axis).eval()
    x = torch.randint(0, 255, (4, 3, 8, 8)).to(dtype)
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(network, (x,), dynamic_shapes=({0: batch},))
    more = torch.randint(0, 255, (7, 3, 8, 8)).to(dtype)
    torch.testing.assert_close(program.module()(more), network(more))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_it_is_compiled_into_one_graph(moments):
    network = Network(moments)
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    x = torch.randn(2, 3, 8, 8) + 1e4
    torch.testing.assert_close(compiled(x), network(x))
    normalize = torch.compile(network.normalize, fullgraph=True)
    torch.testing.assert_close(normalize(x), network.normalize(x))


@pytest.mark.filterwarnings("ignore")
def test_onnxruntime_computes_the_same(moments, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    network, x = Network(moments).eval(), torch.randn(2, 3, 8, 8) + 1e4
    batch = torch.export.Dim("batch", min=2)
    made = torch.onnx.export(
        network, (x,), dynamo=True, dynamic_shapes=({0: batch},), verbose=False
    )
    made.save(str(tmp_path / "network.onnx"))
    session = runtime.InferenceSession(str(tmp_path / "network.onnx"))
    more = torch.randn(5, 3, 8, 8) + 1e4
    (there,) = session.run(None, {session.get_inputs()[0].name: more.numpy()})
    np.testing.assert_allclose(there, network(more).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_it_is_the_last_step_of_a_pipeline_of_transforms(moments):
    """Steps are called one after the other, for images with and without a batch."""
    steps = [lambda x: x.flip(-1), nn.Normalize.from_moments(moments, channel_axis=-3)]

    def pipeline(image):
        for step in steps:
            image = step(image)
        return image

    images = torch.randn(5, 3, 4, 4) + 1e4
    alone = torch.stack([pipeline(image) for image in images])
    assert torch.equal(pipeline(images), alone)


def test_it_maps_over_a_batch_and_under_a_functional_call(moments):
    module, x = nn.Normalize.from_moments(moments, channel_axis=-3), torch.randn(5, 3, 4, 4)
    assert torch.equal(torch.vmap(module)(x), module(x))
    other = {"mean": torch.zeros(3).double(), "std": torch.ones(3).double()}
    assert torch.equal(torch.func.functional_call(module, other, (x,)), x)
    assert not torch.equal(module(x), x)


PADDINGS = ("zeros", "reflect", "replicate", "circular")


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("mode", PADDINGS)
@pytest.mark.parametrize("padding", [0, (2, 1), "same", "valid"])
def test_folded_into_a_convolution_it_is_the_same_function(padding, mode, groups):
    torch.manual_seed(0)
    norm = nn.Normalize([1.0, -2.0, 30.0, 0.1], [2.0, 0.5, 9.0, 1.0])
    layer = torch.nn.Conv2d(
        4, 8, (3, 4), padding=padding, padding_mode=mode, groups=groups, dilation=(1, 2),
        dtype=torch.float64,
    )  # fmt: skip
    weight = layer.weight.detach().clone()
    x = torch.randn(2, 4, 12, 14, dtype=torch.float64) * 5
    folded = norm.fold_into(layer)
    torch.testing.assert_close(folded(x), layer(norm(x)), rtol=1e-12, atol=1e-12)
    assert torch.equal(layer.weight, weight)
    pads = mode == "zeros" and padding not in (0, "valid")
    assert isinstance(folded, torch.nn.Sequential if pads else torch.nn.Conv2d)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_folding_serves_every_number_of_axes_and_layers_without_bias(dimensions, bias):
    kind = getattr(torch.nn, f"Conv{dimensions}d")
    layer = kind(3, 5, 3, padding=1, bias=bias, stride=2)
    norm = nn.Normalize([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], channel_axis=-1 - dimensions)
    x = torch.randn(2, 3, *[9] * dimensions)
    torch.testing.assert_close(norm.fold_into(layer)(x), layer(norm(x)), rtol=1e-4, atol=1e-5)


def test_folding_serves_linear_layers_and_exports():
    norm, layer = nn.Normalize([1.0, 2.0], [3.0, 4.0], channel_axis=-1), torch.nn.Linear(2, 7)
    x = torch.randn(5, 2)
    torch.testing.assert_close(norm.fold_into(layer)(x), layer(norm(x)), rtol=1e-5, atol=1e-6)
    norm, layer = nn.Normalize([1.0], [3.0]), torch.nn.Conv2d(1, 2, 3, padding=1)
    folded, image = norm.fold_into(layer), torch.randn(1, 1, 6, 6)
    program = torch.export.export(folded, (image,))
    torch.testing.assert_close(program.module()(image), layer(norm(image)), rtol=1e-4, atol=1e-5)


def test_borders_of_zeros_are_refused_under_strict():
    norm = nn.Normalize([1.0], [3.0])
    with pytest.raises(ValueError, match="pads with zeros"):
        norm.fold_into(torch.nn.Conv2d(1, 2, 3, padding=1), strict=True)
    norm.fold_into(torch.nn.Conv2d(1, 2, 3), strict=True)


@pytest.mark.parametrize(
    ("mean", "dtype", "refused"),
    [
        (1e4, torch.float32, True),
        (1e3, torch.float32, False),
        (1e4, torch.float64, False),
        (3.0, torch.bfloat16, True),
        (0.5, torch.float16, True),
    ],
)
def test_folding_is_refused_where_digits_would_be_lost(mean, dtype, refused):
    norm, layer = nn.Normalize([mean], [1.0]), torch.nn.Conv2d(1, 2, 3, dtype=dtype)
    if not refused:
        norm.fold_into(layer)
        return
    with pytest.raises(ValueError, match=r"could be wrong by .* keep the Normalize"):
        norm.fold_into(layer)
    assert norm.fold_into(layer, tol=1) is not layer


class Doubled(torch.nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def hooked():
    layer = torch.nn.Linear(3, 4)
    layer.register_forward_pre_hook(lambda module, inputs: inputs)
    return layer


@pytest.mark.parametrize("make", [lambda: Doubled(3, 4), hooked])
def test_layers_that_do_more_than_their_weights_say_are_refused(make):
    norm = nn.Normalize([0.0] * 3, [1.0] * 3, channel_axis=-1)
    with pytest.raises(TypeError, match="does more than its weights and its bias say"):
        norm.fold_into(make())
    with pytest.raises(ValueError, match="more than tol=nan"):
        norm.fold_into(torch.nn.Linear(3, 4), tol=float("nan"))


def test_no_channel_axis_is_one_channel_over_everything():
    x = torch.randn(3, 4)
    module = nn.Normalize.from_moments(sn.measure(x, channel_axis=None), channel_axis=None)
    assert module(x).std(correction=0).item() == pytest.approx(1)
    torch.testing.assert_close(module.inverse(module(x)), x)


@pytest.mark.parametrize(
    ("layer", "error", "message"),
    [
        (torch.nn.ReLU(), TypeError, "got ReLU"),
        (torch.nn.ConvTranspose2d(3, 4, 3), TypeError, "got ConvTranspose2d"),
        (torch.nn.Conv2d(5, 4, 3), ValueError, "5 inputs but 3 channels"),
        (torch.nn.Linear(3, 4), ValueError, "build it with channel_axis=-1"),
        (torch.nn.LazyConv2d(4, 3), TypeError, "has no weights yet"),
        (
            torch.nn.utils.parametrizations.weight_norm(torch.nn.Conv2d(3, 4, 3)),
            TypeError,
            "is parametrized",
        ),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, torch.nn.Module) else "",
)
def test_layers_that_cannot_take_the_folding_are_refused(layer, error, message):
    norm = nn.Normalize([0.0] * 3, [1.0] * 3, channel_axis=-3)
    with pytest.raises(error, match=message):
        norm.fold_into(layer)
