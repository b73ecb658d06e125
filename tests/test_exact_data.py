"""Real data, exactly: one digest whatever is done to them, and certified values to the last bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from real_data import NIST, column_of, nist_values, peer_cases

import streamnorm as sn
from streamnorm.kernels.machine import JIT_OFF

SETS = ("CIFAR-10", "Fashion-MNIST", "cancelling")


@pytest.fixture(scope="module")
def sets(request):
    """For every set its samples and their channel axis."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = cancelling() if name == "cancelling" else real(name)
        return made[name]

    def real(name):
        fixture = "cifar" if name == "CIFAR-10" else "fashion"
        # Fashion-MNIST has one channel over everything: the axis of one that is added.
        images = np.asarray(request.getfixturevalue(fixture))
        return images if name == "CIFAR-10" else images[..., None]

    return get


def cancelling():
    """Rows of float32 whose sum is 2**-30 of what they add up from."""
    rng = np.random.default_rng(8)
    large = (rng.normal(size=(200_000, 3)) * 10.0 ** rng.integers(0, 12, (200_000, 3))).astype("f4")
    small = rng.normal(size=(1000, 3)).astype("f4")
    return rng.permutation(np.concatenate([large, -large, small]))


def measure(samples, **options):
    return sn.measure(samples, channel_axis=-1, exact=True, **options)


def merged_at_random(parts, rng):
    """Merge in a random order, in a tree of random shape and of two to four at a time."""
    parts = [parts[k] for k in rng.permutation(len(parts))]
    while len(parts) > 1:
        some = min(int(rng.integers(2, 5)), len(parts))
        at = int(rng.integers(len(parts) - some + 1))
        parts[at : at + some] = [sn.merge(parts[at : at + some])]
    return parts[0]


@pytest.mark.proof
@pytest.mark.data
@pytest.mark.parametrize("name", SETS)
def test_10_000_random_trees_over_single_samples_have_one_digest(sets, name):
    samples = sets(name)[:: len(sets(name)) // 8][:8]
    parts = [measure(samples[k : k + 1]) for k in range(8)]
    rng = np.random.default_rng(1)
    digests = {merged_at_random(parts, rng).digest() for _ in range(10_000)}
    assert digests == {measure(samples).digest()}


@pytest.mark.proof
@pytest.mark.data
@pytest.mark.parametrize("name", SETS)
def test_100_measurements_in_new_orders_sizes_and_threads_have_one_digest(sets, name):
    samples = sets(name)
    whole = measure(samples)
    rng = np.random.default_rng(2)
    for _ in range(100):
        threads = int(rng.choice([1, 2, 3, 7]))
        cuts = np.sort(rng.choice(len(samples) + 1, int(rng.integers(1, 40)), replace=False))
        accumulator = sn.Accumulator(channel_axis=-1, exact=True, threads=threads)
        for chosen in np.split(rng.permutation(len(samples)), cuts):
            accumulator.update(samples[chosen])
        assert accumulator.moments.digest() == whole.digest()
    computed = sn.compute(list(np.array_split(samples, 9)), channel_axis=-1, exact=True, workers=3)
    assert computed == whole


ON_ANOTHER_PROCESSOR = """
import sys
import numpy as np, streamnorm as sn
samples = np.load(sys.argv[1], mmap_mode="r")
accumulator = sn.Accumulator(channel_axis=-1, exact=True)
for batch in np.array_split(samples, 7)[::-1]:
    accumulator.update(batch)
print(accumulator.moments.digest())
"""


@pytest.mark.proof
@pytest.mark.data
@pytest.mark.skipif(JIT_OFF, reason="is about compiled code")
@pytest.mark.parametrize("name", SETS)
def test_every_processor_gives_the_same_digest(sets, name, tmp_path):
    samples = sets(name)
    np.save(tmp_path / "x.npy", samples)
    expected = measure(samples).digest()
    for cpu, features in (("generic", ""), ("haswell", "+avx2,+fma,+f16c"), (None, None)):
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / str(cpu))}
        if cpu is not None:
            environment |= {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": features}
        run = subprocess.run(
            [sys.executable, "-c", ON_ANOTHER_PROCESSOR, tmp_path / "x.npy"],
            capture_output=True, text=True, check=True, env=environment,
            cwd=Path(__file__).parent.parent,
        )  # fmt: skip
        assert run.stdout.strip() == expected


@pytest.mark.data
def test_cifar10_has_its_published_sums(sets):
    whole = measure(sets("CIFAR-10"))
    assert [int(s) for s in whole.sum] == [6415714204, 6295060180, 5829907619]
    assert [int(q) for q in whole.sum_of_squares] == [1007102432534, 971356520230, 891641299129]


@pytest.mark.data
def test_a_class_of_cifar10_is_taken_out_again(sets):
    samples = sets("CIFAR-10")
    whole, first, rest = (measure(x) for x in (samples, samples[:5000], samples[5000:]))
    assert whole - first == rest
    assert (whole - first).digest() == rest.digest()


@pytest.mark.data
@pytest.mark.parametrize("name", NIST)
def test_nist_strd_to_the_last_bit(data, name):
    values = nist_values(data, name)
    certified = json.loads((data / "nist_strd" / "certified.json").read_text())[name]
    exact = certified["exact_of_float64"]
    parts = [measure(part[:, None]) for part in np.array_split(values, 7)]
    total = sn.merge(parts[::-1])
    # Decimals of thirty digits: Python reads each as the nearest float64.
    assert total.mean.tolist() == [float(exact["mean"])]
    assert total.std(ddof=1).tolist() == [float(exact["std"])]


@pytest.mark.data
def test_every_finite_peer_vector_to_the_last_bit(data):
    checked = 0
    for case in peer_cases(data):
        if not (case.get("data") and "exact" in case):
            continue
        total, exact = measure(column_of(case)[:, None]), case["exact"]
        answers = {
            "mean": total.mean, "var_pop": total.variance(), "var_samp": total.variance(1),
            "std_pop": total.std(), "std_samp": total.std(1),
        }  # fmt: skip
        for name, got in answers.items():
            if exact.get(name) is not None:
                assert got.tolist() == [float(exact[name])], (case["id"], name)
                checked += 1
    assert checked >= 150
