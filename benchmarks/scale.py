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

import matplotlib as mpl
import numpy as np

import streamnorm as sn
from streamnorm.checkpoint import INTERVAL, Checkpoint
from streamnorm.folding import Fold
from streamnorm.labels import Label, united
from streamnorm.origin import new_pass
from streamnorm.reading import Plan, outcomes
from streamnorm.sources.items import Choice
from streamnorm.sources.registry import open_source
from streamnorm.stacks import Stack

mpl.use("Agg")
from matplotlib import pyplot as plt

PAGE = Path(__file__).parent.parent / "docs" / "scale.md"
FOLDER = PAGE.parent / "scale"
LATENCY, BANDWIDTH = 100e-6, 1e9
"""Of a message, in seconds, and bytes a second: a cloud network that is not the best."""
FAN_IN = 16
WORKERS = (10, 100, 1000, 10_000, 100_000)
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
    window : int
        Parts that waited for an earlier one, at most.
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
    return Arrival(failing, number, int(attempts.sum()), doubles, most, seconds, same)


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
    opened = open_source([batch] * 1000, "auto", Choice())
    fold = Fold(opened, skips=False, stack=Stack())
    for outcome in outcomes(opened, Plan(), 1):
        fold.add(outcome)
    identity = {"how": {}, "inputs": [[f"train/{k // 1000}/{k:09}.jpg", k] for k in range(files)]}
    times = []
    for _ in range(3):
        kept = Checkpoint(folder / "c", identity)
        begun = time.perf_counter()
        kept.keep(fold)
        times.append(time.perf_counter() - begun)
    return (folder / "c").stat().st_size, sorted(times)[1]


def seconds_of(workers, size, each):
    """Seconds of a merge, by way: messages one after the other at whoever takes them."""
    message = LATENCY + size / BANDWIDTH
    levels = max(1, math.ceil(math.log(workers, FAN_IN)))
    return {
        "star": workers * (size / BANDWIDTH + each) + LATENCY,
        "tree": levels * (FAN_IN * (message + each)),
        "all_merge": math.ceil(math.log2(workers)) * LATENCY + workers * (size / BANDWIDTH + each),
    }


def run(number):
    """Simulate; return everything that the page tells."""
    rows = make_parts(number, 10**15 // number)
    begun = time.perf_counter()
    values = [sn.Moments.of_partial(part.copy()) for part in rows]
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
    beyond = sn.merge([sn.Moments.of_partial(part.copy()) for part in far])
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


def draw(found, folder):
    """Draw the merge of many workers, and the window of a coordinator."""
    folder.mkdir(exist_ok=True)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8))
    for way, style in (("star", "-"), ("tree", "--"), ("all_merge", ":")):
        for (channels, exact), color in (((3, False), "#1b6ca8"), ((4096, True), "#c0504d")):
            size, each = found["cost"][channels, exact]
            times = [seconds_of(workers, size, each)[way] for workers in WORKERS]
            name = f"{way}, {channels:,} channels" + (", exact" if exact else "")
            left.loglog(WORKERS, times, style, color=color, marker=".", label=name)
    left.set(xlabel="workers", ylabel="seconds of the merge", ylim=(1e-4, 1e6))
    left.legend(fontsize=7, loc="upper left", frameon=False)
    failing = [100 * arrival.failing for arrival in found["arrivals"]]
    right.bar(
        [f"{share:g} %" for share in failing],
        [arrival.window for arrival in found["arrivals"]],
        color="#1b6ca8",
    )
    right.set(xlabel="attempts that fail (1,000 workers)", ylabel="parts that wait, at most")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(folder / "merge.png", dpi=130, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)


def _table(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _duration(seconds):
    return f"{1000 * seconds:.3g} ms" if seconds < 0.9995 else f"{seconds:.3g} s"


def page(found):
    """Return docs/scale.md."""
    costs = [
        [f"{c:,}{', exact' if e else ''}", f"{size:,}", f"{1e6 * each:,.0f}"]
        for (c, e), (size, each) in found["cost"].items()
    ]
    ways = []
    for workers in WORKERS:
        for channels, exact in ((3, False), (4096, True)):
            size, each = found["cost"][channels, exact]
            seconds = seconds_of(workers, size, each)
            ways.append(
                [
                    f"{workers:,}",
                    f"{channels:,}{', exact' if exact else ''}",
                    f"{workers - 1:,}",
                    *(_duration(seconds[way]) for way in ("star", "tree", "all_merge")),
                    f"{workers * size / 1e6:,.3f}".rstrip("0").rstrip("."),
                ]
            )
    arrivals = [
        [
            f"{100 * a.failing:g} %",
            f"{a.attempts:,}",
            f"{a.doubles:,}",
            f"{a.window:,}",
            f"{a.window * CHANNELS * 48 / 1e6:.2f}",
            f"{a.seconds:.1f}",
            "yes" if a.same else "NO",
        ]
        for a in found["arrivals"]
    ]
    mean, m2 = found["errors"]
    far_mean, far_m2 = found["errors_1e18"]
    figures = {
        "parts": f"{found['parts']:,}",
        "far_mean": f"{far_mean:.0e}",
        "far_m2": f"{far_m2:.0e}",
    }
    ends = [[cell.format(**figures) for cell in line] for line in ENDS]
    return TEXT.format(
        parts=figures["parts"],
        checkpoints=_table(
            ["files", "channels", "MB", "ms to write", "seconds between two", "share of the time"],
            [
                [
                    f"{files:,}",
                    f"{channels:,}",
                    f"{size / 1e6:.2f}",
                    f"{1000 * seconds:,.0f}",
                    f"{max(INTERVAL, 100 * seconds):.1f}",
                    f"{100 * seconds / max(INTERVAL, 100 * seconds):.2f} %",
                ]
                for (files, channels), (size, seconds) in found["checkpoints"].items()
            ],
        ),
        ends=_table(["what", "ends at", "then"], ends),
        merging=f"{found['merging']:.1f}",
        labelling=f"{found['labelling']:.1f}",
        mean=f"{mean:.0e}",
        m2=f"{m2:.0e}",
        costs=_table(["channels", "bytes of a part", "µs to take and merge it"], costs),
        ways=_table(
            ["workers", "channels", "messages", "star", "tree", "all_merge", "MB at the centre"],
            ways,
        ),
        arrivals=_table(
            [
                "attempts that fail",
                "attempts",
                "doubles dropped",
                "window, parts",
                "window, MB",
                "seconds merging",
                "same bits",
            ],
            arrivals,
        ),
        machine=f"one thread of: {new_pass('', '').cpu}.",
    )


ENDS = [
    ["a count", "2^63 − 1 = 9.2e18 values a channel", "`OverflowError`, in every merge"],
    [
        "a count as float64, by which the merge weighs",
        "exact up to 2^53 = 9.0e15",
        "rounded by 1e-16: {parts} parts of 1e18 values, mean off by {far_mean}, m2 by {far_m2}",
    ],
    ["m2", "1.8e308", "infinite, and so are variance and std"],
    [
        "limbs of exact sums",
        "2^63 − 1 of the largest float32 (narrow grid) or float64 (wide)",
        "never: the count ends first; [exact.md](exact.md) has the proof",
    ],
    ["limbs added without a carry", "2^30 additions", "carried every 1,025"],
    [
        "labels",
        "none",
        "0.3 KB a shard; ranges of the same files that adjoin are one",
    ],
]
TEXT = """# How far it goes

What cannot be run here is simulated, with the merge code that the library runs
(`python -m benchmarks.scale`): a million parts of a billion values each, 1e15 values a channel in
all; workers that finish in any order, die, and finish twice. A network is assumed where one is
needed: 100 µs a message, 1 GB/s.

## A part

{costs}

A part is as large for a batch as for a petabyte. Pickled, with its names and provenance, as engines
send it.

## The merge of many workers

Seconds until one place (star, tree), or every rank (`all_merge`), has the result. *Star*: all parts
go to one process, as with Ray's data sets and Spark; *tree*: sixteen at a time, as with Dask; with
`all_merge` every rank gathers all parts, so each takes as long as the centre of a star.

{ways}

![seconds of a merge by workers, and parts that wait by failures](scale/merge.png)

A star serves 100,000 workers of three channels within seconds. For thousands of channels at tens of
thousands of workers use what merges by a tree; `all_merge` is for as many ranks as train together.

## A coordinator that takes {parts} parts

1,000 workers; parts arrive as they are finished, 1 % of them twice; an attempt that dies is made
again. The coordinator pushes them in their order onto the stack that `Accumulator` and `compute`
use, so those that come early wait.

{arrivals}

The bits are those of `merge(parts)` in order, whatever failed. `merge` of all {parts} values takes
{merging} s, to refuse what is named twice among as many labels {labelling} s. Against sums rounded
once, the mean is off by {mean} and m2 by {m2} (relative).

## A checkpoint

Of a pass over so many files, whose names and sizes it holds. The next one is written 5 s later, or
a hundred times as long as this one took.

{checkpoints}

## Where numbers end

{ends}

1e15 values a channel are below 2^53, and four orders below where counts end.

Measured on {machine}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="ten thousand parts, kept nowhere")
    quick = parser.parse_args().quick
    found = run(10_000 if quick else 1_000_000)
    print(page(found))
    if not quick:
        draw(found, FOLDER)
        PAGE.write_text(page(found))


if __name__ == "__main__":
    main()
