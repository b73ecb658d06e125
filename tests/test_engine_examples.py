"""The examples of engines run as their first lines say, and print what is true."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]

EXAMPLES = Path(__file__).parent.parent / "examples" / "engines"


def run(*command):
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True, text=True, timeout=150, check=False, env=os.environ,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize(
    ("needed", "name"),
    [("distributed", "with_dask"), ("ray", "with_ray"), ("pyspark", "with_spark")],
)
def test_an_example_has_the_digest_of_one_process(needed, name):
    pytest.importorskip(needed)
    assert "the same digest: True" in run(sys.executable, EXAMPLES / f"{name}.py")


def test_ranks_of_mpi_have_the_digest_of_one_process():
    pytest.importorskip("mpi4py")
    mpiexec = Path(sys.executable).with_name("mpiexec")
    command = [sys.executable, "-m", "mpi4py", EXAMPLES / "with_mpi.py"]
    said = run(mpiexec if mpiexec.exists() else "mpiexec", "-n", 4, *command)
    assert said.count("7,021 rows in all, the digest of one process: True") == 4
