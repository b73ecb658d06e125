"""``python -m benchmarks``: stream 32 batches of (128, 3, 60, 60) float32 through every peer.

Runners take turns, the median of several rounds counts, so that a noisy machine disturbs all alike.
Writes benchmarks/results.json and the table in README.md between its markers.
"""

import argparse
import json
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from benchmarks.peers import RUNNERS, averaged_batches, averaged_images, ours, scikit_learn

ROOT = Path(__file__).parent.parent
SHAPE = (32, 128, 3, 60, 60)
BARS = ((averaged_batches, 20), (averaged_images, 20), (scikit_learn, 40))


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", action="store_true", help="update results.json and README.md")
    rounds = parser.parse_args()
    # NumPy asks the system for large pages, torch does not: on them every runner reads faster.
    values = np.random.default_rng(0).standard_normal(SHAPE, dtype=np.float32)
    batches = list(torch.from_numpy(values))
    seconds = time_in_turns(batches, rounds.rounds)
    errors = {name: relative_errors(run) for name, run in RUNNERS.items()}
    results = {
        "machine": machine(),
        "bytes": 4 * int(np.prod(SHAPE)),
        "seconds": seconds,
        "std_error": errors,
        "read_bandwidth": bandwidth(batches),
    }
    print(table(results))
    print(bars(results))
    if rounds.write:
        write(results)
    return 0


def time_in_turns(batches, rounds):
    """Return the median seconds of every runner."""
    times = {name: [] for name in RUNNERS}
    for turn in range(rounds + 1):
        for name, run in RUNNERS.items():
            # scikit-learn is a hundred times slower: a part of the batches, scaled up.
            part = batches[:4] if run is scikit_learn else batches
            started = time.perf_counter()
            run(part)
            taken = (time.perf_counter() - started) * len(batches) / len(part)
            if turn:
                times[name].append(taken)
    return {name: float(np.median(taken)) for name, taken in times.items()}


def relative_errors(run):
    """Return the largest relative error of the std on normal data with mean 1e4 and σ 1."""
    x = torch.randn((8, 64, 3, 30, 30), generator=torch.Generator().manual_seed(1)) + 1e4
    truth = x.numpy().astype(np.float64).std((0, 1, 3, 4))
    _, std = run(list(x))
    return float(np.abs(np.asarray(std, np.float64) / truth - 1).max())


def bandwidth(batches):
    """Return the bytes per second that a plain integer sum reads, on one thread."""
    words = [batch.numpy().view(np.int64).ravel() for batch in batches]
    taken = []
    for _ in range(5):
        started = time.perf_counter()
        for word in words:
            np.bitwise_xor.reduce(word)
        taken.append(time.perf_counter() - started)
    return sum(word.nbytes for word in words) / float(np.median(taken))


def machine():
    names = ("numpy", "numba", "torch", "scikit-learn", "streamnorm")
    return {
        "python": platform.python_version(),
        "processor": cpu(),
        "threads": len(os.sched_getaffinity(0)),
        "versions": {name: version(name) for name in names},
    }


def cpu():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))


def table(results):
    ours_seconds = results["seconds"][name_of(ours)]
    rows = [
        "| | GB/s | time, of ours | relative error of std at mean 1e4, σ 1 |",
        "|---|---|---|---|",
    ]
    for name, seconds in results["seconds"].items():
        speed = results["bytes"] / seconds / 1e9
        error = results["std_error"][name]
        rows.append(f"| {name} | {speed:.2f} | {seconds / ours_seconds:.1f} × | {error:.0e} |")
    about = results["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    rows.append("")
    rows.append(
        f"{about['processor']}, {about['threads']} threads, Python {about['python']}, {versions}; "
        f"reading the same bytes on one thread: {results['read_bandwidth'] / 1e9:.1f} GB/s."
    )
    return "\n".join(rows)


def bars(results):
    seconds = results["seconds"]
    lines = []
    for runner, bar in BARS:
        name = name_of(runner)
        ratio = seconds[name] / seconds[name_of(ours)]
        verdict = "reached" if ratio >= bar else "NOT reached"
        lines.append(f"{ratio:6.1f} × {name}: bar {bar} ×, {verdict}")
    return "\n".join(lines)


def name_of(runner):
    return next(name for name, run in RUNNERS.items() if run is runner)


def write(results):
    (ROOT / "benchmarks" / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    readme = ROOT / "README.md"
    begin, end = "<!-- benchmark -->", "<!-- /benchmark -->"
    before, _, rest = readme.read_text().partition(begin)
    _, _, after = rest.partition(end)
    readme.write_text(f"{before}{begin}\n{table(results)}\n{end}{after}")


if __name__ == "__main__":
    sys.exit(main())
