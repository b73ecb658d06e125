"""``python -m benchmarks.scale``: merging beyond what can be run here, with the real merge code.

A coordinator takes a million parts in random order, with failures and doubles; what the merge of
10 to 100,000 workers takes is worked out from what one part takes here, and a network that is
assumed. Writes docs/scale.md and its pictures. ``--quick`` takes ten thousand parts, kept nowhere.
"""

import argparse
import math
import pickle
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import streamnorm as sn
from benchmarks import scale_report
from benchmarks.scale_report import FAN_IN
from streamnorm.checkpoint import Checkpoint
from streamnorm.folding import Fold
from streamnorm.labels import Label, united
from streamnorm.reading import Plan, outcomes
from streamnorm.sources.items import Choice
from streamnorm.sources.registry import open_source
from streamnorm.stacks import Stack

CHANNELS = 3


@dataclass(frozen=True)
class Arrival:
    """What a coordinator saw.

    Attributes
    ----------
    failing : float
        The share of attempts that die and are made again.
    parts, attempts, doubles : int
        Parts there are, attempts that were made, finished ones that were not needed.
    window, bytes : int
        Parts that waited for an earlier one, at most, and what one of them takes.
    seconds : float
        Merging alone.
    same : bool
        Whether the bits are those of a merge in order.
    """

    failing: float
    parts: int
    attempts: int
    doubles: int
    window: int
    bytes: int
    seconds: float
    same: bool


def make_parts(number, each):
    """Moments of as many parts, of `each` values a channel, as rows; means differ by σ / 10."""
    random = np.random.default_rng(0)
    rows = np.zeros((number, CHANNELS), sn.Moments.empty(1).rows.dtype)
    rows["count"] = each
    rows["mean"] = random.normal(1e4, 0.1, rows.shape)
    rows["m2"] = random.chisquare(100, rows.shape) / 100 * each
    rows["minimum"], rows["maximum"] = rows["mean"] - 6, rows["mean"] + 6
    return rows


def errors(rows, merged):
    """How far mean and m2 are off, against sums rounded once."""
    off = []
    for c in range(CHANNELS):
        n, means, m2 = float(rows["count"][0, c]), rows["mean"][:, c], rows["m2"][:, c]
        mean = math.fsum(means) / len(means)
        total = math.fsum([*m2.tolist(), *(n * (means - mean) ** 2).tolist()])
        off.append((abs(merged.mean[c] / mean - 1), abs(merged.m2[c] / total - 1)))
    return tuple(max(column) for column in zip(*off, strict=True))


def coordinate(rows, failing, workers, expected):
    """Let parts arrive as workers finish them, and push them in their order."""
    random = np.random.default_rng(1)
    number = len(rows)
    attempts = random.geometric(1 - failing, number)
    # A worker takes the next part when it is free: parts end about in order, late ones much later.
    begun = np.arange(number) / workers
    ended = begun + attempts * random.lognormal(0, 0.5, number)
    doubled = np.flatnonzero(random.random(number) < 0.01)
    order = np.concatenate([np.arange(number), doubled])
    at = np.concatenate([ended, ended[doubled] + random.exponential(1, doubled.size)])
    arrivals = order[np.argsort(at, kind="stable")].tolist()

    stack, waiting, turn, most, seconds, doubles = Stack(), {}, 0, 0, 0.0, 0
    for index in arrivals:
        if index < turn or index in waiting:
            doubles += 1
            continue
        waiting[index] = rows[index].copy()
        most = max(most, len(waiting))
        begun_merging = time.perf_counter()
        while turn in waiting:
            stack.push(waiting.pop(turn), some=True)
            turn += 1
        seconds += time.perf_counter() - begun_merging
    same = stack.fold(CHANNELS).tobytes() == expected
    return Arrival(
        failing, number, int(attempts.sum()), doubles, most, rows[0].nbytes, seconds, same
    )


def cost(channels, exact):
    """Bytes of a part as it is sent, and seconds to unpack and merge one."""
    data = np.random.default_rng(0).normal(1e4, 1, (64, channels)).astype(np.float32)
    value = sn.measure(data, exact=exact)
    sent = pickle.dumps(value)
    begun, rounds = time.perf_counter(), max(3, 20_000 // channels)
    for _ in range(rounds):
        sn.merge([pickle.loads(sent) for _ in range(FAN_IN)])
    return len(sent), (time.perf_counter() - begun) / rounds / FAN_IN


def checkpoint_cost(files, channels, folder):
    """Bytes of a checkpoint of a pass over so many files, and seconds to write it."""
    batch = np.random.default_rng(0).normal(size=(8, channels)).astype(np.float32)
    opened, plan = open_source([batch] * 1000, Choice()), Plan(Choice())
    fold = Fold(opened, plan)
    for outcome in outcomes(opened, plan, 1):
        fold.add(outcome)
    identity = {
        "how": {},
        "looks": [],
        "inputs": [[f"train/{k // 1000}/{k:09}.jpg", k] for k in range(files)],
    }
    times = []
    for _ in range(3):
        kept = Checkpoint(folder / "c", identity)
        begun = time.perf_counter()
        kept.keep(fold)
        times.append(time.perf_counter() - begun)
    return (folder / "c").stat().st_size, sorted(times)[1]


def run(number):
    """Simulate; return everything that the page tells."""
    rows = make_parts(number, 10**15 // number)
    begun = time.perf_counter()
    values = [sn.Moments.of_rows(part.copy()) for part in rows]
    made = time.perf_counter() - begun
    begun = time.perf_counter()
    merged = sn.merge(values)
    merging = time.perf_counter() - begun
    expected = merged.rows.tobytes()
    labels = [Label("train", f"{k:07}") for k in np.random.default_rng(2).permutation(number)]
    begun = time.perf_counter()
    united(labels)
    labelling = time.perf_counter() - begun
    arrivals = [coordinate(rows, f, 1000, expected) for f in (0.0, 0.01, 0.1, 0.5)]
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = {
            (files, channels): checkpoint_cost(files, channels, Path(folder))
            for files in (1000, 20_000, number)
            for channels in (3, 4096)
        }
    far = make_parts(number, 10**18 // number)
    beyond = sn.merge([sn.Moments.of_rows(part.copy()) for part in far])
    return {
        "parts": number,
        "made": made,
        "merging": merging,
        "labelling": labelling,
        "errors": errors(rows, merged),
        "errors_1e18": errors(far, beyond),
        "arrivals": arrivals,
        "checkpoints": checkpoints,
        "cost": {
            (channels, exact): cost(channels, exact)
            for channels in (3, 768, 4096)
            for exact in (False, True)
        },
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="ten thousand parts, kept nowhere")
    quick = parser.parse_args().quick
    found = run(10_000 if quick else 1_000_000)
    print(scale_report.page(found))
    if not quick:
        scale_report.write(found)


if __name__ == "__main__":
    main()
