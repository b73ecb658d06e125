"""MPI and torchrun: four real ranks that read shares of real data, and one that raises."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mpi4py")
pytest.importorskip("torch")
pytestmark = pytest.mark.engine

import engine_data  # noqa: E402 - beside an engine

import streamnorm as sn  # noqa: E402 - last

SCRIPT = str(Path(__file__).with_name("mpi_ranks.py"))
RANKS = 4
TORCHRUN = ["torch.distributed.run", "--standalone", "--max-restarts=0", "--nproc-per-node=4"]


def started(engine, folder, *arguments):
    """Run four ranks; return the finished process."""
    beside = Path(sys.executable).with_name("mpiexec")
    mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec")
    how = {
        "mpi": [mpiexec, "-n", str(RANKS), sys.executable, "-m", "mpi4py"],
        "torch": [sys.executable, "-m", *TORCHRUN],
    }[engine]
    return subprocess.run(
        [*how, SCRIPT, engine, str(folder), *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "STREAMNORM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def found(engine, folder, scenario, *arguments):
    """What all ranks found alike."""
    done = started(engine, folder, scenario, *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    files = [folder / f"{scenario}-{rank}.json" for rank in range(RANKS)]
    answers = [json.loads(file.read_text()) for file in files]
    assert all(answer == answers[0] for answer in answers)
    return answers[0]


@pytest.mark.parametrize("engine", ["mpi", "torch"])
def test_real_data_have_the_digests_of_one_process_on_every_rank(engine, data, tmp_path):
    answers = found(engine, tmp_path, "real", data)
    sea = engine_data.sea(engine_data.sea_path(data))
    expected = {
        "cifar": engine_data.cifar_digest(data / "cifar10" / "train_images.npy"),
        "robots": sn.measure(engine_data.robots(data), exact=True).digest(),
        "sea": sn.measure(sea, channel_axis=None, exact=True, nan_policy="omit").digest(),
    }
    assert {name: answers[f"{name} exact"] for name in expected} == expected
    assert answers["sea omitted"] == 228_240


def test_mpi_and_torchrun_give_the_same_bits_within_the_bound(data, tmp_path):
    by_mpi, by_torch = (found(engine, tmp_path, "real", data) for engine in ("mpi", "torch"))
    assert by_mpi == by_torch
    rows = engine_data.robots(data)
    parts = [sn.measure(rows[rank::RANKS]) for rank in range(RANKS)]
    assert by_mpi["robots rounded"] == sn.merge(parts).rows.tobytes().hex()
    assert engine_data.within_the_bound(sn.merge(parts), rows)


def test_ranks_with_one_row_with_only_nan_and_with_nothing(tmp_path):
    answers = found("mpi", tmp_path, "uneven")
    expected = sn.measure(np.r_[np.arange(10.0), 5.0][:, None], exact=True)
    assert (answers["count"], answers["omitted"]) == (11, 3)
    assert answers["hex"] == (expected + nothing_but_nan()).digest()


def nothing_but_nan():
    return sn.measure(np.full((3, 1), np.nan), exact=True, nan_policy="omit")


def test_labels_of_all_ranks_are_kept(tmp_path):
    assert found("mpi", tmp_path, "labelled")["labels"] == [f"train#{k}" for k in range(RANKS)]


def test_every_rank_says_which_ranks_do_not_fit(tmp_path):
    errors = found("mpi", tmp_path, "refusing")
    assert r"rank(s) 2: 3" in errors["channels"]
    assert "rank(s) 1: ExactMoments" in errors["kinds"]
    assert "train#0 is there twice" in errors["labels"]
    assert "rank(s) 3: neither Moments nor ExactMoments" in errors["types"]
    assert "none of the 4 ranks has a value" in errors["nothing"]


def test_a_rank_that_raises_ends_all_and_nobody_has_a_result(tmp_path):
    begun = time.monotonic()
    done = started("mpi", tmp_path, "raising")
    assert done.returncode != 0
    assert "this rank cannot read its shard" in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert time.monotonic() - begun < 60
