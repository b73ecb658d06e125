"""Ranks that merge: real processes, by torchrun and by hand, with gloo."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
if not torch.distributed.is_available():
    pytest.skip("this torch has no torch.distributed", allow_module_level=True)
ranks = pytest.importorskip("ranks")

import streamnorm as sn  # noqa: E402 - needs torch
from streamnorm import packing  # noqa: E402 - the same
from streamnorm.engines.ranks import agreed  # noqa: E402 - the same
from streamnorm.engines.torch import all_merge  # noqa: E402 - the same

pytestmark = [pytest.mark.torch, pytest.mark.timeout(180)]

SCRIPT = str(Path(ranks.__file__))
ALONE = ["--standalone", "--max-restarts", "0"]
SCENARIOS = ["merging", "refusing", "syncing", "training", "sharding"]


def environment():
    return os.environ | {"OMP_NUM_THREADS": "1", "STREAMNORM_THREADS": "1"}


@pytest.fixture(scope="module", params=[2, 4])
def found(request, tmp_path_factory):
    """Return what so many ranks found, by scenario and rank."""
    folder, count = tmp_path_factory.mktemp("ranks"), request.param
    command = [sys.executable, "-m", "torch.distributed.run", *ALONE, f"--nproc-per-node={count}"]
    done = subprocess.run(
        [*command, SCRIPT, str(folder), *SCENARIOS],
        env=environment(), capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return {
        name: [json.loads((folder / f"{name}-{rank}.json").read_text()) for rank in range(count)]
        for name in SCENARIOS
    }


def everyone_found(found, name, key):
    """Return what all ranks found alike."""
    answers = [answer[key] for answer in found[name]]
    assert all(answer == answers[0] for answer in answers)
    return answers[0]


def test_every_rank_has_the_bits_of_a_merge_in_the_order_of_ranks(found):
    count = len(found["merging"])
    expected = sn.merge([sn.measure(ranks.share(rank)) for rank in range(count)])
    merged = everyone_found(found, "merging", "rounded")
    assert merged["bits"] == expected.rows.tobytes().hex()
    assert merged["names"] == ["a", "b", "c"]


def test_exact_values_of_ranks_have_the_digest_of_all_data(found):
    rows = sum(ranks.SIZES[: len(found["merging"])])
    assert everyone_found(found, "merging", "exact") == digest(ranks.table()[:rows])
    assert everyone_found(found, "merging", "wider") == digest(ranks.table()[:rows])


def digest(data):
    return sn.measure(data, exact=True).digest()


def test_ranks_that_have_nothing_and_ranks_that_are_left_out(found):
    assert everyone_found(found, "merging", "nothing here") == digest(ranks.share(0))
    both = [answer["some ranks"] for answer in found["merging"]]
    whole = digest(np.concatenate([ranks.share(0), ranks.share(1)]))
    assert both == [whole, whole, *[None] * (len(both) - 2)]


def test_what_does_not_fit_is_refused_on_every_rank_which_are_named(found):
    others = ", ".join(map(str, range(1, len(found["refusing"]))))
    expected = {
        "channels": f"different numbers of channels (rank(s) 0: 4; rank(s) {others}: 3)",
        "kinds": f"(rank(s) 0: Moments; rank(s) {others}: ExactMoments)",
        "nothing": "ranks has a value",
        "no value": f"(rank(s) 0: a value; rank(s) {others}: neither Moments nor ExactMoments)",
        "forgetting": "with half_life= there is no merging of ranks",
        "names": "channel names differ",
        "beginnings": "began with different statistics",
    }
    for key, words in expected.items():
        said = everyone_found(found, "refusing", key)
        assert said.startswith("ValueError: ") and words in said, said
    assert everyone_found(found, "refusing", "no channels") == "nothing"


def trained(count, steps=8):
    return sn.merge(
        sn.measure(ranks.batches(rank, step)) for step in range(steps) for rank in range(count)
    )


@pytest.mark.parametrize("when", ["at every step", "at the end", "resumed"])
def test_however_often_ranks_sync_every_sample_counts_once(found, when):
    expected = trained(len(found["syncing"]))
    together = everyone_found(found, "syncing", when)
    assert together["count"] == expected.count.tolist()
    np.testing.assert_allclose(together["mean"], expected.mean, rtol=1e-13)
    np.testing.assert_allclose(together["m2"], expected.m2, rtol=1e-12)


def test_ddp_which_hands_around_the_buffers_of_rank_0_takes_nothing_away(found):
    count = len(found["training"])
    for rank, answer in enumerate(found["training"]):
        rows = [len(ranks.batches(rank, step)) + 1 for step in range(8)]
        assert answer["own"]["count"] == [sum(rows)] * 3
    together = everyone_found(found, "training", "together")
    ones = sn.measure(np.ones((8 * count, 3)))
    expected = trained(count) + ones
    assert together["count"] == expected.count.tolist()
    np.testing.assert_allclose(together["mean"], expected.mean, rtol=1e-13)


def test_fsdp_which_casts_buffers_takes_no_digits(found):
    for rank, answer in enumerate(found["sharding"]):
        seen = [ranks.batches(rank, step).float() for step in range(4)]
        expected = sn.measure(torch.cat([*seen, torch.ones(4, 3)]))
        assert answer["dtype"] == "torch.bfloat16"
        assert answer["moments"]["count"] == expected.count.tolist()
        np.testing.assert_allclose(answer["moments"]["mean"], expected.mean, rtol=1e-12)


def test_where_a_rank_dies_the_others_say_so_within_the_time_out(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = environment() | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            [sys.executable, SCRIPT, str(tmp_path), "dying"],
            env=shared | {"RANK": str(rank), "WORLD_SIZE": "3"},
            stderr=subprocess.PIPE,
        )
        for rank in range(3)
    ]
    codes = [process.wait(timeout=60) for process in processes]
    for process in processes:
        process.stderr.close()
    assert codes == [0, 3, 0]
    for rank in (0, 2):
        answer = json.loads((tmp_path / f"dying-{rank}.json").read_text())
        assert f"rank {rank} could not gather from all 3 ranks: is one gone" in answer["said"]
        assert answer["seconds"] < 25


def test_without_a_process_group_there_is_nobody_to_merge_with():
    with pytest.raises(RuntimeError, match="there is no process group"):
        all_merge(sn.Moments.empty(3))


@pytest.mark.parametrize("names", [None, ("red", "ä", "green")])
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_packed_values_come_back_in_every_bit(exact, dtype, names):
    value = sn.measure(np.random.default_rng(0).normal(size=(5, 3)).astype(dtype), exact=exact)
    value = value.with_meta(names=names)
    form = agreed([packing.header_of(value), packing.header_of(None)])
    data = packing.pack(value, form)
    assert len(data) == form.size == len(packing.pack(None, form))
    again = packing.unpack(data, form)
    assert again == value and again.meta.names == names
    assert packing.unpack(packing.pack(None, form), form) == type(value).empty(3)


def test_other_versions_of_packed_values_are_refused():
    mine = packing.header_of(sn.Moments.empty(3))
    with pytest.raises(ValueError, match=r"rank\(s\) 0, 2: 1; rank\(s\) 1: 9"):
        agreed([mine, mine._replace(version=9), mine])
