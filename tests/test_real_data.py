"""Certified, published and exactly computed values of real data (tests/DATA.md says which)."""

import json
from fractions import Fraction

import numpy as np
import pytest
from oracle import assert_accurate
from real_data import NIST, column_of, nist_values, peer_cases

import streamnorm as sn
from streamnorm import Moments

pytestmark = pytest.mark.data

EPS = 2.0**-52
CIFAR_MEAN = np.array([0.4913996786151960784, 0.4821584083946078431, 0.4465309144454656863])
CIFAR_STD = np.array([0.2470322324632820090, 0.2434851280000555435, 0.2615878417279645055])


def assert_cifar(moments):
    assert moments.count.tolist() == [51_200_000] * 3
    np.testing.assert_allclose(moments.mean / 255, CIFAR_MEAN, rtol=1e-13)
    np.testing.assert_allclose(moments.std() / 255, CIFAR_STD, rtol=1e-13)


@pytest.mark.parametrize("batch", [1, 2, 37, 128, 4096, 50_000])
def test_cifar10_from_batches_of_any_size(cifar, batch):
    accumulator = sn.Accumulator(channel_axis=-1)
    for start in range(0, len(cifar), batch):
        accumulator.update(cifar[start : start + batch])
    assert_cifar(accumulator.moments)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_cifar10_in_any_order(cifar, seed):
    order = np.random.default_rng(seed).permutation(len(cifar))
    accumulator = sn.Accumulator(channel_axis=-1)
    for chosen in np.array_split(order, 50):
        accumulator.update(cifar[np.sort(chosen)])
    assert_cifar(accumulator.moments)


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_cifar10_from_its_file_and_its_memory_map(data, cifar, workers):
    path = data / "cifar10" / "train_images.npy"
    total = sn.compute(path, channel_axis=-1, workers=workers)
    assert_cifar(total)
    assert sn.compute(cifar, channel_axis=-1, workers=workers) == total


def test_cifar10_from_100_random_unequal_shards(cifar):
    cuts = np.sort(np.random.default_rng(5).choice(50_001, 99, replace=False))
    shards = np.split(np.arange(50_000), cuts)
    parts = [
        sn.measure(cifar[s[0] : s[-1] + 1] if len(s) else cifar[:0], channel_axis=-1)
        for s in shards
    ]
    assert len(parts) == 100
    assert_cifar(sn.merge(parts))


def test_cifar10_from_a_folder_of_png_files(cifar, tmp_path):
    from PIL import Image

    for number, image in enumerate(cifar):
        if number % 1000 == 0:
            (tmp_path / f"{number // 1000:02}").mkdir()
        path = tmp_path / f"{number // 1000:02}" / f"{number:05}.png"
        Image.fromarray(image).save(path, compress_level=0)
    total = sn.compute(tmp_path)
    assert_cifar(total)
    assert total.meta.report.read == 50_000


@pytest.mark.torch
@pytest.mark.parametrize("loader_workers", [0, 2])
def test_cifar10_from_a_dataloader(cifar, loader_workers):
    torch = pytest.importorskip("torch")
    images = torch.from_numpy(np.ascontiguousarray(cifar.transpose(0, 3, 1, 2)))
    labels = torch.zeros(len(images))
    dataset = torch.utils.data.TensorDataset(images, labels)
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=512, shuffle=True, num_workers=loader_workers
    )
    assert_cifar(sn.compute(loader))


def assert_fashion(total):
    n, s, q = 7_840_000, 573_469_082, 105_272_563_536
    assert total.count.tolist() == [n]
    np.testing.assert_allclose(total.mean[0], s / n, rtol=1e-13)
    variance = float(Fraction(n * q - s * s, n * n))
    np.testing.assert_allclose(total.variance()[0], variance, rtol=2e-13)
    np.testing.assert_allclose(total.mean[0] / 255, 0.286849280712, rtol=1e-11)
    np.testing.assert_allclose(total.std()[0] / 255, 0.352444153247, rtol=1e-11)


@pytest.mark.parametrize("batch", [1, 37, 1000, 10_000])
@pytest.mark.parametrize("seed", [None, 1])
def test_fashion_mnist_from_batches_of_any_size_and_order(fashion, batch, seed):
    images = fashion if seed is None else np.random.default_rng(seed).permutation(fashion)
    accumulator = sn.Accumulator(channel_axis=None)
    for start in range(0, len(images), batch):
        accumulator.update(images[start : start + batch])
    assert_fashion(accumulator.moments)


def test_fashion_mnist_from_memory_file_shards_and_pictures(fashion, tmp_path):
    from PIL import Image

    assert_fashion(sn.compute(fashion, channel_axis=None))
    np.save(tmp_path / "x.npy", fashion)
    assert_fashion(sn.compute(tmp_path / "x.npy", channel_axis=None))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert_fashion(sn.compute(mapped, channel_axis=None))
    cuts = np.sort(np.random.default_rng(5).choice(10_001, 99, replace=False))
    assert_fashion(sn.merge(sn.measure(p, channel_axis=None) for p in np.split(fashion, cuts)))
    (tmp_path / "pictures").mkdir()
    for number, image in enumerate(fashion):
        path = tmp_path / "pictures" / f"{number:05}.png"
        Image.fromarray(image).save(path, compress_level=0)
    assert_fashion(sn.compute(tmp_path / "pictures"))


@pytest.mark.torch
@pytest.mark.parametrize("loader_workers", [0, 2])
def test_fashion_mnist_from_a_dataloader(fashion, loader_workers):
    torch = pytest.importorskip("torch")
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(fashion.copy())[:, None])
    loader = torch.utils.data.DataLoader(dataset, batch_size=256, num_workers=loader_workers)
    assert_fashion(sn.compute(loader))


@pytest.fixture(scope="module")
def episodes(data):
    """Robot episodes: arrays of (frames, 26) float32, and the published statistics of each."""
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = data / "lerobot_g1"
    with (folder / "meta" / "episodes_stats.jsonl").open() as lines:
        published = [json.loads(line)["stats"] for line in lines]
    arrays = []
    for path in sorted(folder.glob("data/*/*.parquet")):
        table = parquet.read_table(path)
        arrays.append({k: np.stack(table[k].to_numpy()) for k in ("observation.state", "action")})
    return arrays, published


@pytest.mark.parametrize("stream", ["observation.state", "action"])
def test_robot_episodes_recomputed_and_their_published_statistics_merged(episodes, stream):
    arrays, published = episodes
    frames = np.concatenate([arrays_of[stream] for arrays_of in arrays])
    assert frames.shape == (35_965, 26) and frames.dtype == np.float32
    total = sn.merge([sn.measure(arrays_of[stream]) for arrays_of in arrays])
    assert_accurate(total, list(frames.T))
    shuffled = np.random.default_rng(3).permutation(frames)
    cuts = np.sort(np.random.default_rng(4).choice(len(frames), 60, replace=False))
    assert_accurate(sn.compute(np.split(shuffled, cuts)), list(frames.T))
    parts = [
        Moments.from_mean_std(
            stats["count"][0], stats["mean"], stats["std"], 0, stats["min"], stats["max"]
        )
        for stats in (entry[stream] for entry in published)
    ]
    merged = sn.merge(parts)
    np.testing.assert_array_equal(merged.minimum, total.minimum)
    np.testing.assert_array_equal(merged.maximum, total.maximum)
    moving = total.std() > 0
    np.testing.assert_allclose(merged.std()[moving], total.std()[moving], rtol=1e-5)
    scale = np.maximum(np.abs(total.mean), total.std())
    assert (np.abs(merged.mean - total.mean) <= 1e-4 * scale).all()


def streamed(values):
    accumulator = sn.Accumulator()
    for value in values:
        accumulator.update([[value]])
    return accumulator.moments


def batched(values):
    cuts = np.sort(np.random.default_rng(0).choice(len(values), min(len(values), 9), replace=False))
    accumulator = sn.Accumulator()
    for batch in np.split(values, cuts):
        accumulator.update(batch[:, None])
    return accumulator.moments


def merged(values):
    return sn.merge([sn.measure(part[:, None]) for part in np.array_split(values, 7)])


@pytest.mark.parametrize("way", [streamed, batched, merged])
@pytest.mark.parametrize("name", NIST)
def test_nist_strd(data, name, way):
    values = nist_values(data, name)
    exact = json.loads((data / "nist_strd" / "certified.json").read_text())[name][
        "exact_of_float64"
    ]
    mean, std = Fraction(exact["mean"]), Fraction(exact["std"])
    kappa = float(1 + (mean / std) ** 2) ** 0.5
    moments = way(values)
    got = Fraction(float(moments.std(ddof=1)[0]))
    assert abs(got / std - 1) <= max(2e-14, 4 * kappa * EPS)
    assert abs(Fraction(float(moments.mean[0])) / mean - 1) <= 1e-14


def test_every_finite_peer_vector_is_within_its_bound(data):
    checked = 0
    for case in peer_cases(data):
        if case.get("data") and "exact" in case:
            values = column_of(case)
            assert_accurate(sn.measure(values[:, None]), [values])
            assert_accurate(
                streamed(values) if values.dtype.kind == "f" else sn.measure(values[:, None]),
                [values],
            )
            checked += 1
    assert checked >= 40


@pytest.mark.parametrize(
    ("case", "mean"),
    [
        ("pg-inf-1_inf", np.inf),
        ("pg-inf-inf_1", np.inf),
        ("pg-inf-inf_inf", np.inf),
        ("pg-inf--inf_inf", np.nan),
        ("commons-max-inf", np.inf),
        ("commons-max-neginf", -np.inf),
        ("commons-max-both", np.nan),
        ("duckdb-inf", None),
    ],
)
def test_peer_vectors_with_infinities(data, case, mean):
    values = column_of(next(c for c in peer_cases(data) if c["id"] == case))
    m = sn.measure(values[:, None])
    if mean is not None:
        np.testing.assert_array_equal(m.mean, [mean])
    assert np.isnan(m.std()[0])


@pytest.mark.parametrize("case", ["duckdb-1e301", "commons-nonfinite-M2"])
def test_where_the_sum_of_squares_overflows_the_std_is_infinite(data, case):
    """Infinite, not NaN and no error: the variance is known to be beyond float64."""
    values = column_of(next(c for c in peer_cases(data) if c["id"] == case))
    m = sn.measure(values[:, None])
    assert np.isfinite(m.mean[0])
    assert m.std().tolist() == [np.inf]


def test_postgres_combine_vectors(data):
    """Their state is (n, Σx, M2)."""
    case = next(c for c in peer_cases(data) if c["id"] == "pg-combine")

    def state(numbers):
        n, total, m2 = numbers
        return Moments([n], [total / n if n else 0.0], [float(m2)])

    for step in case["published"]:
        if "merged" in step:
            assert state(step["a"]) + state(step["b"]) == state(step["merged"])


def test_generated_peer_vectors(data):
    m = sn.measure(np.full((2_000_000, 1), 1e12) + np.tile([[0.0], [1.0]], (1_000_000, 1)))
    np.testing.assert_allclose(m.variance(), [0.25], rtol=1e-3)
    half = sn.measure(np.tile([[0.5], [1.5]], (250_000, 1)))
    assert half.mean.tolist() == [1.0]
    assert half.variance().tolist() == [0.25]
