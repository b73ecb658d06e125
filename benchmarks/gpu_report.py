"""What was measured on GPUs -> the part of README.md that tells of it, and verdicts."""

import json

from benchmarks import pages

MARK = "gpu"
NOT_YET = "Not measured on a GPU yet: `python -m benchmarks.gpu` on a machine with one."
OURS, EXACT, VAR_MEAN = "streamnorm", "streamnorm, exact", "torch.var_mean"
BARS = {OURS: 0.85, EXACT: 0.35}
"""Of the speed at which the device copies."""
OVERHEAD = 30
TIMES_VAR_MEAN = 3


def load(folder):
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def _lines(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def table(runs):
    """Return the tables of all devices, or that there are none."""
    return "\n\n".join(map(_of_device, runs)) if runs else NOT_YET


def _of_device(run):
    places = {(r["runner"], r["dtype"], r["layout"]): r for r in run["speed"]}
    columns = list(dict.fromkeys((r["dtype"], r["layout"]) for r in run["speed"]))
    names = list(dict.fromkeys(r["runner"] for r in run["speed"]))
    rows = [
        [
            name,
            *(f"{places[name, *c]['share']:.2f}" if (name, *c) in places else "" for c in columns),
            f"{run['errors'][name]:.0e}",
        ]
        for name in names
    ]
    header = ["", *(f"{dtype}, {layout}" for dtype, layout in columns), "std error at 1e4"]
    copy = max(r["copy"] for r in run["speed"]) / 1e9
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    update = run["update"]
    steps = " and ".join(
        f"{step['ratio']:.3f} times as long in a {name} network ({1000 * step['seconds']:.1f} ms)"
        for name, step in run["training"].items()
    )
    tests = "The tests passed" if run["checked"] else "TESTS FAILED"
    about = (
        f"{run['device']}, which copies {copy:.0f} GB/s (read and written); {versions}. Shares of "
        f"that, on 1 GiB and more, in turns with copies. An `update` takes {update[OURS]:.0f} µs "
        f"of the host (`torch.var_mean` {update[VAR_MEAN]:.0f}), a step of `RunningNormalize` "
        f"{update['RunningNormalize']:.0f}. A training step with an update takes {steps} as "
        f"without. {tests} there."
    )
    return f"{_lines(header, rows)}\n\n{about}"


def verdicts(run):
    """Return, bar for bar, what was reached."""
    found = [
        (f"{r['runner']}, {r['dtype']}, {r['layout']}: of copying", r["share"], BARS[r["runner"]])
        for r in run["speed"]
        if r["runner"] in BARS and (r["layout"] != "table" or r["runner"] == EXACT)
    ]
    places = {(r["runner"], r["dtype"], r["layout"]): r["seconds"] for r in run["speed"]}
    for dtype in ("uint8", "bfloat16"):
        for layout in ("NCHW", "channels last"):
            ours, theirs = (places.get((name, dtype, layout)) for name in (OURS, VAR_MEAN))
            if ours and theirs:
                words = f"{dtype}, {layout}: times torch.var_mean"
                found.append((words, theirs / ours, TIMES_VAR_MEAN))
    lines = [f"{_word(value >= bar)} {what} {value:.2f} (bar {bar})" for what, value, bar in found]
    overhead = run["update"][OURS]
    words = f"update: {overhead:.0f} µs of the host (bar {OVERHEAD})"
    lines.append(f"{_word(overhead <= OVERHEAD)} {words}")
    return "\n".join(lines)


def _word(reached):
    return "reached" if reached else "MISSED "


def render(readme, folder):
    """Replace what stands between the markers."""
    pages.put(readme, MARK, table(load(folder)))
