"""What all tests and examples have in common."""

import importlib.util
import os

import pytest
from _pytest.doctest import DoctestItem

HAS_TORCH, HAS_TRITON = (importlib.util.find_spec(name) is not None for name in ("torch", "triton"))

# Pytest looks for docstrings everywhere, also in what cannot be imported here.
collect_ignore_glob = []
if not HAS_TORCH:
    collect_ignore_glob += ["streamnorm/nn/*", "streamnorm/engines/torch.py"]
    collect_ignore_glob += ["streamnorm/kernels/device.py", "streamnorm/kernels/torch_*"]
    helpers = ("compile_for_gpu", "datasets", "devices", "ranks")
    collect_ignore_glob += [f"tests/{name}.py" for name in helpers]
if not HAS_TORCH or not HAS_TRITON:
    collect_ignore_glob += ["streamnorm/kernels/triton_*"]

if HAS_TORCH:
    import torch

    # Before any kernel is imported: without a GPU, Triton's interpreter runs it.
    if not torch.cuda.is_available():
        os.environ.setdefault("TRITON_INTERPRET", "1")

_ran = {"triton": 0}


@pytest.fixture(autouse=True)
def _own_folder(request, tmp_path, monkeypatch):
    """Run the examples of docstrings in folders of their own: some of them write files."""
    if isinstance(request.node, DoctestItem):
        monkeypatch.chdir(tmp_path)


def pytest_runtest_logreport(report):
    """Count the tests of Triton's kernels that passed."""
    if report.when == "call" and report.passed and "triton" in report.keywords:
        _ran["triton"] += 1


def pytest_sessionfinish(session):
    """Fail a whole run that was to test Triton's kernels and did not."""
    worker = hasattr(session.config, "workerinput")
    if os.environ.get("STREAMNORM_REQUIRE_TRITON") == "1" and not worker and not _ran["triton"]:
        print("\nno test of Triton's kernels ran; is triton installed?")
        session.exitstatus = 1
