"""What `benchmarks.scale` found -> docs/scale.md and its picture.

What the merge of 10 to 100,000 workers takes is worked out from what one part takes, and a network
that is assumed.
"""

import math
from pathlib import Path

import matplotlib as mpl

from streamnorm.checkpoint import INTERVAL
from streamnorm.origin import new_pass

mpl.use("Agg")
from matplotlib import pyplot as plt

PAGE = Path(__file__).parent.parent / "docs" / "scale.md"
FOLDER = PAGE.parent / "scale"
LATENCY, BANDWIDTH = 100e-6, 1e9
"""Of a message, in seconds, and bytes a second: a cloud network that is not the best."""
FAN_IN = 16
"""Values that one task of a tree merges."""
WORKERS = (10, 100, 1000, 10_000, 100_000)
FORMS = ((3, False), (4096, True))
"""Channels of a part, and whether it is exact: the least and the most."""


def seconds_of(workers, size, each):
    """Seconds of a merge, by way: whoever takes messages takes one after the other."""
    wire = size / BANDWIDTH
    whole = workers * (wire + each)
    levels, left = 0.0, workers
    while left > 1:
        levels += LATENCY + min(left, FAN_IN) * (wire + each)
        left = math.ceil(left / FAN_IN)
    return {
        "star": LATENCY + whole,
        "tree": levels,
        # Headers first, then states.
        "all_merge": 2 * math.ceil(math.log2(workers)) * LATENCY + whole,
    }


def write(found):
    """Write the page and its picture."""
    FOLDER.mkdir(exist_ok=True)
    PAGE.write_text(page(found))
    _draw(found).savefig(
        FOLDER / "merge.png", dpi=130, bbox_inches="tight", metadata={"Software": None}
    )


def _draw(found):
    """Draw the merge of many workers, and the window of a coordinator."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8))
    for way, style in (("star", "-"), ("tree", "--"), ("all_merge", ":")):
        for form, color in zip(FORMS, ("#1b6ca8", "#c0504d"), strict=True):
            times = [seconds_of(workers, *found["cost"][form])[way] for workers in WORKERS]
            name = f"{way}, {form[0]:,} channels" + ", exact" * form[1]
            left.loglog(WORKERS, times, style, color=color, label=name)
    left.set(xlabel="workers", ylabel="seconds of the merge", ylim=(1e-4, 1e7))
    left.legend(fontsize=7, loc="upper left", frameon=False, handlelength=3)
    right.bar(
        [f"{100 * arrival.failing:g} %" for arrival in found["arrivals"]],
        [arrival.window for arrival in found["arrivals"]],
        color="#1b6ca8",
    )
    right.set(xlabel="attempts that fail (1,000 workers)", ylabel="parts that wait, at most")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _table(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _duration(seconds):
    return f"{1000 * seconds:.3g} ms" if seconds < 0.9995 else f"{seconds:.3g} s"


def page(found):
    """Return docs/scale.md."""
    mean, m2 = found["errors"]
    return TEXT.format(
        parts=f"{found['parts']:,}",
        costs=_costs(found["cost"]),
        ways=_ways(found["cost"]),
        arrivals=_arrivals(found["arrivals"]),
        checkpoints=_checkpoints(found["checkpoints"]),
        ends=_ends(found["parts"], *found["errors_1e18"]),
        merging=f"{found['merging']:.1f}",
        labelling=f"{found['labelling']:.1f}",
        mean=f"{mean:.0e}",
        m2=f"{m2:.0e}",
        machine=f"one thread of: {new_pass('', '').cpu}.",
    )


def _form(channels, exact):
    return f"{channels:,}" + (", exact" if exact else "")


def _costs(costs):
    rows = [
        [_form(*form), f"{size:,}", f"{1e6 * each:,.0f}"] for form, (size, each) in costs.items()
    ]
    return _table(["channels", "bytes of a part", "µs to take and merge it"], rows)


def _ways(costs):
    rows = []
    for workers in WORKERS:
        for form in FORMS:
            size, each = costs[form]
            times = map(_duration, seconds_of(workers, size, each).values())
            center = f"{workers * size / 1e6:,.3f}".rstrip("0").rstrip(".")
            rows.append([f"{workers:,}", _form(*form), f"{workers - 1:,}", *times, center])
    header = ["workers", "channels", "messages", "star", "tree", "all_merge", "MB at the centre"]
    return _table(header, rows)


def _arrivals(arrivals):
    header = [
        "attempts that fail", "attempts", "doubles dropped", "window, parts", "window, MB",
        "seconds merging", "same bits",
    ]  # fmt: skip
    rows = [
        [
            f"{100 * a.failing:g} %", f"{a.attempts:,}", f"{a.doubles:,}", f"{a.window:,}",
            f"{a.window * a.bytes / 1e6:.2f}", f"{a.seconds:.1f}", "yes" if a.same else "NO",
        ]
        for a in arrivals
    ]  # fmt: skip
    return _table(header, rows)


def _checkpoints(checkpoints):
    header = ["files", "channels", "MB", "ms to write", "seconds between two", "share of the time"]
    rows = []
    for (files, channels), (size, seconds) in checkpoints.items():
        between = max(INTERVAL, 100 * seconds)
        rows.append(
            [
                f"{files:,}", f"{channels:,}", f"{size / 1e6:.2f}", f"{1000 * seconds:,.0f}",
                f"{between:.1f}", f"{100 * seconds / between:.2f} %",
            ]
        )  # fmt: skip
    return _table(header, rows)


def _ends(parts, mean, m2):
    figures = {"parts": f"{parts:,}", "far_mean": f"{mean:.0e}", "far_m2": f"{m2:.0e}"}
    rows = [[cell.format(**figures) for cell in line] for line in ENDS]
    return _table(["what", "ends at", "then"], rows)


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
send it; to unpickle it is most of the time for a few channels.

## The merge of many workers

Seconds until one place (star, tree), or every rank (`all_merge`), has the result. *Star*: all parts
go to one process, as with Ray's data sets and Spark; *tree*: sixteen at a time, as with Dask; with
`all_merge` every rank gathers all parts, so each takes as long as the centre of a star. Messages
are those of a star or a tree; with `all_merge` every rank sends at least 2 log2(workers).

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
