"""torch tensors and DataLoaders, and what a loader yields that is not its data set."""

import threading

import numpy as np
import pytest

import streamnorm as sn

torch = pytest.importorskip("torch")
data = torch.utils.data
pytestmark = pytest.mark.torch


def samples(n=10):
    return data.TensorDataset(torch.arange(n * 2.0).reshape(n, 2), torch.zeros(n))


class Stream(data.IterableDataset):
    """Ten numbers; every worker reads them all unless told to share."""

    def __init__(self, sized, shared=False):
        self.shared = shared
        if sized:
            self.__class__ = SizedStream

    def __iter__(self):
        info = data.get_worker_info()
        first, step = (info.id, info.num_workers) if self.shared and info else (0, 1)
        yield from torch.arange(20.0).reshape(10, 2)[first::step]


class SizedStream(Stream):
    def __len__(self):
        return 10


@pytest.mark.parametrize(
    "dtype",
    [
        "bool",
        "uint8",
        "int8",
        "int16",
        "int32",
        "int64",
        "float16",
        "bfloat16",
        "float32",
        "float64",
    ],
)
def test_tensors_of_every_dtype(dtype):
    tensor = torch.arange(24).reshape(2, 3, 4).to(getattr(torch, dtype))
    expected = sn.measure(tensor.to(torch.float64).numpy())
    assert sn.measure(tensor) == expected


def test_a_tensor_is_read_where_it_lies():
    tensor = torch.randn(8, 3, 32, 32, requires_grad=True)
    from streamnorm.arrays import as_array

    array, _, _ = as_array(tensor)
    assert array.ctypes.data == tensor.data_ptr()


def test_channels_last_tensors_are_read_as_they_lie():
    from streamnorm.arrays import as_array
    from streamnorm.layout import Layout

    tensor = torch.randn(8, 3, 32, 32).to(memory_format=torch.channels_last)
    array, _, _ = as_array(tensor)
    layout = Layout.of(array, 1)
    view = layout.flat(layout.arrange(array))
    assert view.shape == (8 * 32 * 32, 3, 1)
    assert np.shares_memory(view, array)
    contiguous = sn.measure(tensor.contiguous())
    np.testing.assert_allclose(sn.measure(tensor).std(), contiguous.std(), rtol=1e-13)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(2, 2).to_sparse(), "dense"),
        (torch.zeros(2, 2, dtype=torch.complex64), "complex64"),
        (torch.zeros(2, 2, device="meta"), "holds no numbers"),
    ],
)
def test_tensors_that_hold_no_numbers_here_are_refused(tensor, message):
    with pytest.raises(TypeError, match=message):
        sn.measure(tensor)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_whole_loader_needs_no_warning(workers):
    total = sn.compute(data.DataLoader(samples(), batch_size=3, shuffle=True, num_workers=workers))
    assert total.count.tolist() == [10, 10]
    assert total.mean.tolist() == [9.0, 10.0]
    assert total.meta.provenance.passes[0].kind == "DataLoader"


def test_dicts_are_chosen_from_by_select():
    loader = data.DataLoader([{"x": torch.ones(2), "y": 1}] * 4, batch_size=2)
    assert sn.compute(loader, select="x").count.tolist() == [4, 4]


def test_drop_last_is_named():
    with pytest.warns(
        sn.StreamnormWarning, match="9 of 10 samples were seen: drop_last=True dropped the last"
    ):
        sn.compute(data.DataLoader(samples(), batch_size=3, drop_last=True))


def test_a_sampler_that_chooses_is_named():
    loader = data.DataLoader(samples(), batch_size=2, sampler=data.SubsetRandomSampler(range(4)))
    with pytest.warns(
        sn.StreamnormWarning, match="4 of 10 samples were seen: the sampler SubsetRandomSampler"
    ):
        sn.compute(loader)


@pytest.mark.parametrize(
    "sampler",
    [
        lambda d: data.RandomSampler(d, replacement=True),
        lambda d: data.WeightedRandomSampler(torch.ones(10), 10),
    ],
)
def test_sampling_with_replacement_is_named(sampler):
    with pytest.warns(sn.StreamnormWarning, match="with replacement"):
        sn.compute(data.DataLoader(samples(), batch_size=2, sampler=sampler(samples())))


@pytest.mark.parametrize(
    ("drop", "message"),
    [(False, "padded 10 samples to 12 .* 2 are counted twice"), (True, "dropped 1 of 10")],
)
def test_distributed_padding_and_dropping_is_named(drop, message):
    sampler = data.DistributedSampler(
        samples(), num_replicas=4 if not drop else 3, rank=0, drop_last=drop
    )
    with pytest.warns(sn.StreamnormWarning, match=message):
        sn.compute(data.DataLoader(samples(), batch_size=3, sampler=sampler))


def test_an_even_distributed_sampler_needs_no_warning():
    sampler = data.DistributedSampler(samples(), num_replicas=2, rank=1)
    assert sn.compute(data.DataLoader(samples(), sampler=sampler)).count.tolist() == [5, 5]


@pytest.mark.filterwarnings("ignore:Length of IterableDataset")
@pytest.mark.parametrize("sized", [True, False])
def test_an_iterable_dataset_repeated_by_its_workers_is_named(sized):
    loader = data.DataLoader(Stream(sized), batch_size=5, num_workers=2)
    cause = "each of the 2 workers read the whole" if sized else "did each read the whole"
    with pytest.warns(sn.StreamnormWarning, match=cause):
        assert sn.compute(loader).count.tolist() == [20, 20]


def test_a_shared_iterable_dataset_needs_no_warning():
    total = sn.compute(data.DataLoader(Stream(False, shared=True), batch_size=5, num_workers=2))
    assert total.count.tolist() == [10, 10]


@pytest.mark.parametrize("claimed", [8, 12])
@pytest.mark.filterwarnings("ignore:Length of IterableDataset")
def test_an_iterable_dataset_of_another_length_is_named(claimed):
    stream = SizedStream(True)
    stream.__class__ = type("Wrong", (SizedStream,), {"__len__": lambda self: claimed})
    with pytest.warns(
        sn.StreamnormWarning, match=f"gave 10 samples although its length is {claimed}"
    ):
        sn.compute(data.DataLoader(stream, batch_size=5))


@pytest.mark.parametrize(
    "loader",
    [
        lambda: data.DataLoader(
            samples(), batch_sampler=data.BatchSampler(data.SequentialSampler(samples()), 3, True)
        ),
        lambda: data.DataLoader(SizedStream(True), batch_size=3, drop_last=True),
        lambda: data.DataLoader(
            samples(),
            batch_size=2,
            drop_last=True,
            sampler=data.DistributedSampler(samples(), num_replicas=2, rank=0),
        ),
    ],
)
def test_drop_last_is_named_wherever_it_hides(loader):
    with pytest.warns(sn.StreamnormWarning, match="samples were seen: drop_last=True"):
        sn.compute(loader())


def test_a_sampler_of_batches_is_named():
    loader = data.DataLoader(samples(), batch_sampler=[[0, 1], [1, 2]])
    with pytest.warns(sn.StreamnormWarning, match="4 of 10 samples were seen: the sampler list"):
        sn.compute(loader)


def test_a_transform_that_flattens_does_not_confuse_the_count():
    total = sn.compute(
        data.DataLoader(samples(), batch_size=5), transform=lambda b: b.reshape(-1, 1)
    )
    assert total.count.tolist() == [20]


@pytest.mark.parametrize("context", ["fork", "forkserver", "spawn"])
def test_workers_of_every_kind_measure_while_kernels_run_in_the_parent(context):
    from loader_data import Measured

    big = np.random.default_rng(0).normal(size=(2**20, 3)).astype(np.float32)
    expected, found, done = sn.measure(big), [], threading.Event()

    def measure_on():
        while not done.is_set():
            found.append(sn.measure(big, threads=2))

    parent = threading.Thread(target=measure_on)
    parent.start()
    try:
        loader = data.DataLoader(
            Measured(), batch_size=16, num_workers=2, multiprocessing_context=context
        )
        accumulator = sn.Accumulator()
        means = [mean for _, mean in accumulator.watch(loader, select=0)]
    finally:
        done.set()
        parent.join()
    assert all(moments == expected for moments in found)
    assert accumulator.moments.mean.tolist() == [31.5] * 3
    assert torch.equal(torch.cat(means)[:, 0], torch.arange(64.0).double())
