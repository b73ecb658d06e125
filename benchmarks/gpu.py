"""``python -m benchmarks.gpu``: on a machine with a CUDA GPU, check every path, then measure it.

Needs torch, triton, numba and pytest, no network, and less than five minutes. First the tests of
``tests/test_cuda.py``; then speed, as shares of what the device copies (2 x bytes / time, in turns
with each runner), beside what people use. Writes ``benchmarks/gpu_results/<device>.json`` and the
table in README.md. ``--rehearse`` does all of it with little data on the CPU and keeps nothing.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

import numpy as np
import torch

import streamnorm as sn
from benchmarks import gpu_report
from streamnorm.nn import RunningNormalize

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "gpu_results"
GIB = 1 << 30
ROUNDS = 15
CHECKING = 180
"""Seconds that the tests may take."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "uint8": torch.uint8}


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--rehearse", action="store_true", help="little data, on the CPU")
    parser.add_argument("--results", default=RESULTS, help="the folder to keep results in")
    options = parser.parse_args()
    if not options.rehearse and not torch.cuda.is_available():
        print("no CUDA device here; --rehearse goes through it all on the CPU", file=sys.stderr)
        return 2
    failed = 0 if options.rehearse else check()
    measured = measure("cpu" if options.rehearse else "cuda", quick=options.rehearse)
    measured["checked"] = not failed
    print(gpu_report.table([measured]))
    if options.rehearse:
        print(f"\nA rehearsal, kept nowhere: {write(measured, Path(tempfile.mkdtemp()))}")
    else:
        write(measured, Path(options.results))
        print("", gpu_report.verdicts(measured), sep="\n")
        if not failed:
            gpu_report.render(ROOT / "README.md", Path(options.results))
    return failed


def check():
    """Run the tests that need a GPU, some of them at a time; gives whether any failed.

    Nearly all of their time is that of compiling kernels, on one processor each.
    """
    common = [sys.executable, "-m", "pytest", "-q", "-rs", "--noconftest", "-c", os.devnull]
    common += [f"--rootdir={ROOT}", "-p", "no:cacheprovider", "tests/test_cuda.py", "-k"]
    groups = ("what and float", "what and not float", "special", "not (what or special)")
    running = {group: subprocess.Popen([*common, group], cwd=ROOT) for group in groups}
    deadline, failed = time.monotonic() + CHECKING, 0
    for group, process in running.items():
        try:
            code = process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            code = "not finished in time"
        if code:
            print(f"tests of {group!r}: {code}", file=sys.stderr)
            failed = 1
    return failed


def write(measured, folder):
    folder.mkdir(exist_ok=True)
    path = folder / ("-".join(measured["device"].lower().split()) + ".json")
    path.write_text(json.dumps(measured, indent=1) + "\n")
    return path


def measure(device, *, quick):
    """Measure everything, in turns with copies; gives what is kept."""
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else "rehearsal on the CPU",
        "versions": {
            "streamnorm": sn.__version__,
            "torch": torch.__version__,
            "triton": _version_of("triton"),
            "python": platform.python_version(),
        },
        "speed": [
            row
            for dtype in DTYPES
            for layout in ("NCHW", "channels last", "table")
            for row in speeds(images(dtype, layout, device, quick=quick), dtype, layout)
        ],
        "errors": errors(device),
        "update": update_overhead(device),
        "training": training(device, quick=quick),
    }


def _version_of(name):
    try:
        return __import__(name).__version__
    except ImportError:
        return None


def images(dtype, layout, device, *, quick):
    """Return at least 1 GiB of values from 0 to 255; a table has 256 columns."""
    itemsize = torch.empty(0, dtype=DTYPES[dtype]).element_size()
    side = 32 if quick else 224
    count = 4 if quick else -(-GIB // (3 * side * side * itemsize))
    x = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, device=device)
    x = x.to(DTYPES[dtype])
    if layout == "channels last":
        x = x.contiguous(memory_format=torch.channels_last)
    return x.view(-1, 256) if layout == "table" else x


def runners(x, dtype):
    """Return what is timed on one tensor; each gives per-channel numbers."""
    dims = [axis for axis in range(x.ndim) if axis != 1]
    floats = x if x.is_floating_point() else None

    def var_mean():
        return torch.var_mean(x if floats is not None else x.float(), dim=dims, correction=0)

    def sums():
        y = x.float()
        return y.sum(dims), (y * y).sum(dims)

    measured = {
        "streamnorm": lambda: sn.Accumulator().update(x),
        "streamnorm, exact": lambda: sn.Accumulator(exact=True).update(x),
        "torch.var_mean": var_mean,
        "float32 sum and sum of squares": sums,
    }
    if floats is not None and x.is_cuda and dtype != "float64":
        measured["torch.batch_norm_stats"] = lambda: torch.batch_norm_stats(x, 1e-5)
    return measured


def speeds(x, dtype, layout):
    """Time all runners in turns with a copy of the same bytes; gives one row for each."""
    other = torch.empty_like(x)
    work = {"copy": lambda: other.copy_(x)} | runners(x, dtype)
    times = {name: [] for name in work}
    for name, call in work.items():
        try:
            timed(call, x)
        except Exception as error:  # noqa: BLE001 - the others are measured all the same
            print(f"{name} does not take {dtype}, {layout}: {error!r:.500}", file=sys.stderr)
            times.pop(name)
    for _ in range(ROUNDS):
        for name, found in times.items():
            found.append(timed(work[name], x))
    size = x.numel() * x.element_size()
    copy = 2 * size / statistics.median(times.pop("copy"))
    return [
        {
            "runner": name, "dtype": dtype, "layout": layout, "bytes": size,
            "seconds": statistics.median(found), "copy": copy,
            "share": size / statistics.median(found) / copy,
        }
        for name, found in times.items()
    ]  # fmt: skip


@cache
def other_memory(device):
    """Return more than any cache holds."""
    return torch.zeros(GIB // 4, dtype=torch.uint8, device=device)


def timed(call, x):
    """Return the seconds that a call takes on the device, started or not."""
    if not x.is_cuda:
        began = time.perf_counter()
        call()
        return time.perf_counter() - began
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    # Something to do first: what the host needs to start the work is not what is asked here; and
    # what a copy has left in the cache, to be written, is not charged to whoever comes next.
    torch.cuda._sleep(1_000_000)  # noqa: SLF001 - nothing public waits on the device
    other_memory(x.device).amax()
    start.record()
    call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000


def errors(device):
    """Return the relative error of every runner's std for float32 at mean 1e4, std 1."""
    x = torch.from_numpy(np.random.default_rng(0).normal(1e4, 1, (64, 3, 64, 64)).astype("f4"))
    truth = x.numpy().astype(np.longdouble).std((0, 2, 3))
    x = x.to(device)
    dims, n = (0, 2, 3), x.numel() / 3
    total, squares = x.sum(dims).double(), (x * x).sum(dims).double()
    found = {
        "streamnorm": sn.measure(x).std(),
        "streamnorm, exact": sn.measure(x, exact=True).std(),
        "torch.var_mean": torch.var_mean(x, dim=dims, correction=0)[0].sqrt(),
        "float32 sum and sum of squares": (squares / n - (total / n) ** 2).abs().sqrt(),
    }
    if x.is_cuda:
        _, inverse = torch.batch_norm_stats(x, 0.0)
        found["torch.batch_norm_stats"] = 1 / inverse
    stds = {k: v.cpu().numpy() if isinstance(v, torch.Tensor) else v for k, v in found.items()}
    return {name: float(np.abs(std / truth - 1).max()) for name, std in stds.items()}


def update_overhead(device, rounds=5, calls=100):
    """Return the microseconds of the host for calls on a small batch that is on the device.

    The least of some medians, in turns: others on the host only ever add to them.
    """
    x = torch.randn(32, 16, device=device)
    accumulator, module = sn.Accumulator(), RunningNormalize(16).to(device)
    work = {
        "streamnorm": lambda: accumulator.update(x),
        "RunningNormalize": lambda: module(x),
        "torch.var_mean": lambda: torch.var_mean(x, 0),
    }
    found = {name: [] for name in work}
    for _ in range(rounds + 1):
        for name, call in work.items():
            found[name].append(microseconds(call, calls))
            if device == "cuda":
                torch.cuda.synchronize()
    return {name: min(medians[1:]) for name, medians in found.items()}


def microseconds(call, calls):
    """Return the median of so many calls."""
    found = []
    for _ in range(calls):
        began = time.perf_counter()
        call()
        found.append(1e6 * (time.perf_counter() - began))
    return statistics.median(found)


def training(device, *, quick):
    """Return seconds of a training step and how many times as long it takes with an update."""
    networks = {"small": (32, 64, 50), "larger": (128, 128, 10)}
    if quick:
        networks = {"small": (4, 16, 2)}
    return {name: train(device, *sizes) for name, sizes in networks.items()}


def train(device, width, side, steps):
    """Train a network without and with statistics of its input, in turns."""
    torch.manual_seed(0)
    batch = torch.randn(128, 3, side, side, device=device)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, width, 3), torch.nn.ReLU(), torch.nn.Conv2d(width, width, 3, stride=2),
        torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(10),
    ).to(device)  # fmt: skip
    model(batch)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    accumulator = sn.Accumulator()

    def seconds(watched):
        began = time.perf_counter()
        for _ in range(steps):
            if watched:
                accumulator.update(batch)
            optimizer.zero_grad()
            model(batch).square().mean().backward()
            optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - began) / steps

    pairs = [(seconds(False), seconds(True)) for _ in range(10)][1:]
    return {
        "seconds": statistics.median(alone for alone, _ in pairs),
        "ratio": statistics.median(watched / alone for alone, watched in pairs),
    }


if __name__ == "__main__":
    sys.exit(main())
