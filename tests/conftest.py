"""Where the real data is, and how hard Hypothesis looks."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))

settings.register_profile(
    "streamnorm",
    deadline=None,
    max_examples=60,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("streamnorm")

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def data():
    """The folder of real data; see tests/DATA.md."""
    named = os.environ.get("STREAMNORM_DATA")
    if not named:
        pytest.skip("STREAMNORM_DATA is not set: no real data to test on (see tests/DATA.md)")
    folder = Path(named)
    # Set but missing is a failure: a typing error must not turn the proofs off.
    assert folder.is_dir(), f"STREAMNORM_DATA names {folder}, which is no folder"
    return folder


@pytest.fixture(scope="session")
def cifar(data):
    """CIFAR-10 train images, memory-mapped, uint8 (50000, 32, 32, 3)."""
    import numpy as np

    return np.load(data / "cifar10" / "train_images.npy", mmap_mode="r")


@pytest.fixture(scope="session")
def fashion(data):
    """Fashion-MNIST test images, uint8 (10000, 28, 28)."""
    import gzip

    import numpy as np

    with gzip.open(data / "fashion_mnist" / "t10k-images-idx3-ubyte.gz") as file:
        return np.frombuffer(file.read(), np.uint8, offset=16).reshape(10_000, 28, 28)


@pytest.fixture
def untraced():
    """Return an environment without coverage, whose own lock an interrupt can leave locked."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}


@pytest.fixture
def streamnorm_command():
    """Run the command line in a real process."""
    import subprocess

    def run(*arguments, **options):
        return subprocess.run(
            [sys.executable, "-m", "streamnorm", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            **options,
        )

    return run
