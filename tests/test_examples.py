"""The examples run as their first lines say, and print what is true."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytestmark = [pytest.mark.torch, pytest.mark.timeout(120)]

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(*command, folder):
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_input_normalization_draws_why_it_matters(tmp_path):
    pytest.importorskip("matplotlib")
    said = run(EXAMPLES / "input_normalization.py", "--pictures", 256, folder=tmp_path)
    assert (tmp_path / "input_normalization.png").stat().st_size > 20_000
    rates = [
        float(line.split("rate ")[1].split()[0]) for line in said.splitlines() if "rate " in line
    ]
    raw, normalized = rates
    assert normalized > 100 * raw


@pytest.mark.parametrize("ranks", [2, 3])
def test_train_ddp_has_the_same_numbers_on_every_rank(ranks, tmp_path):
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    said = run(*launcher, EXAMPLES / "train_ddp.py", folder=tmp_path)
    assert said.count(" 5003 in all, std [0.9994, 40.1449]") == ranks
