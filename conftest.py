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

# Files of engines, by what they cannot be imported without.
ENGINES = {"dask": "distributed", "mpi": "mpi4py", "ray": "ray", "spark": "pyspark"}
for engine, needed in ENGINES.items():
    if importlib.util.find_spec(needed) is None:
        collect_ignore_glob += [f"streamnorm/engines/{engine}*.py"]

_ran = {"triton": 0} | dict.fromkeys(ENGINES, 0)


@pytest.fixture(autouse=True)
def _own_folder(request, tmp_path, monkeypatch):
    """Run the examples of docstrings in folders of their own: some of them write files."""
    if isinstance(request.node, DoctestItem):
        monkeypatch.chdir(tmp_path)


def pytest_collection_modifyitems(items):
    """Count the examples of engines among their tests."""
    for item in items:
        room, name = item.path.parent.name, item.path.stem
        if isinstance(item, DoctestItem) and room == "engines" and name in ENGINES:
            item.add_marker(pytest.mark.engine)


def pytest_runtest_logreport(report):
    """Count the tests of Triton's kernels, and of each engine, that passed."""
    if report.when == "call" and report.passed:
        _ran["triton"] += "triton" in report.keywords
        for engine in ENGINES:
            _ran[engine] += f"tests/test_engine_{engine}.py" in report.nodeid


def pytest_sessionfinish(session):
    """Fail a whole run that was to test Triton's kernels, or every engine, and did not."""
    if hasattr(session.config, "workerinput"):
        return
    required = ["triton"] * (os.environ.get("STREAMNORM_REQUIRE_TRITON") == "1")
    required += [*ENGINES] * (os.environ.get("STREAMNORM_REQUIRE_ENGINES") == "1")
    for name in required:
        if not _ran[name]:
            print(f"\nno test of {name} ran; is it installed?")
            session.exitstatus = 1
