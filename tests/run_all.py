"""Everything that has to pass: linters, types, tests, and the coverage of all of them together.

``./run test`` calls this; ``./run test proofs`` runs what takes long, ``./run test engines`` what
starts engines; other arguments go to pytest and then only pytest runs.
"""

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
PYTHON = sys.executable
HAS_TORCH = importlib.util.find_spec("torch") is not None
SPREAD = ("-n", "2", "--dist", "worksteal")
REQUIRED = {"STREAMNORM_REQUIRE_TRITON": "1"} if HAS_TORCH and sys.platform == "linux" else {}
# What only tensors reach: not asked to be covered where there is no torch.
OF_TORCH = [
    "streamnorm/nn/*",
    "streamnorm/engines/torch.py",
    *(f"streamnorm/kernels/{name}.py" for name in ("device", "raw", "torch_*", "triton_*")),
    *(f"streamnorm/{name}.py" for name in ("packing", "pending", "running")),
]
# What only engines reach: covered by their own tests.
OF_ENGINES = [
    f"streamnorm/engines/{name}.py"
    for name in ("answers", "dask", "dask_sources", "mpi", "partitions", "ray", "spark")
]
# Compiled kernels cannot be seen by coverage: these tests run once more without compilation.
INTERPRETED = [
    "tests/test_kernels.py",
    "tests/test_interpreted.py",
    "tests/test_exact_interpreted.py",
]


def step(title, *command, **environment):
    """Run one command; stop everything if it fails."""
    print(f"\n== {title}", flush=True)
    started = time.perf_counter()
    code = subprocess.run(command, cwd=ROOT, env=os.environ | environment, check=False).returncode
    verdict = "ok" if code == 0 else f"FAILED ({code})"
    print(f"-- {title}: {verdict}, {time.perf_counter() - started:.0f} s", flush=True)
    if code:
        sys.exit(code)


def proofs(arguments):
    step("proofs", PYTHON, "-m", "pytest", "-q", "-m", "proof", *SPREAD, *arguments, **REQUIRED)


def engines(arguments):
    """Run the tests of engines one after the other: each starts processes of its own."""
    cover = (PYTHON, "-m", "coverage", "run", "-m", "pytest", "-q")
    step("what engines have in common", *cover, "tests/test_engines.py", "tests/test_arrow.py")
    step("engines", *cover, "-m", "engine", *arguments, STREAMNORM_REQUIRE_ENGINES="1")
    step("combine coverage", PYTHON, "-m", "coverage", "combine", "-q")
    step("coverage", PYTHON, "-m", "coverage", "report", f"--include={','.join(OF_ENGINES)}")


def suite():
    step("lint", PYTHON, "-m", "ruff", "check", ".")
    step("format", PYTHON, "-m", "ruff", "format", "--check", ".")
    if HAS_TORCH:
        step("types", PYTHON, "-m", "mypy")
    # Numba's cache does not see a change in a file that a kernel imports from.
    for old in [*ROOT.glob(".coverage*"), *ROOT.glob("streamnorm/kernels/__pycache__/*.nb?")]:
        old.unlink()
    cover = (PYTHON, "-m", "coverage", "run", "-m", "pytest", "-q")
    # NumPy scalars warn where compiled code does not: an infinity is met on purpose.
    quiet = ("-W", "ignore::RuntimeWarning")
    step("kernels, interpreted", *cover, *SPREAD, *quiet, *INTERPRETED, NUMBA_DISABLE_JIT="1")
    step("tests", *cover, *SPREAD, "-m", "not proof and not engine", **REQUIRED)
    step("combine coverage", PYTHON, "-m", "coverage", "combine", "-q")
    omit = OF_ENGINES + ([] if HAS_TORCH else OF_TORCH)
    step("coverage", PYTHON, "-m", "coverage", "report", f"--omit={','.join(omit)}")


def main(arguments):
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    if arguments[:1] == ["proofs"]:
        proofs(arguments[1:])
    elif arguments[:1] == ["engines"]:
        engines(arguments[1:])
    elif arguments:
        step("tests", PYTHON, "-m", "pytest", *arguments)
    else:
        suite()


if __name__ == "__main__":
    main(sys.argv[1:])
