"""Results -> pictures for the README and docs/benchmarks.md."""

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt

OURS = "#1b6ca8"
OTHER = "#b9c2c9"


def draw(results, folder):
    """Draw what was measured; gives the files written."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {"stream": stream, "layouts": layouts, "growth": growth, "settings": settings}
    written = []
    for name, picture in pictures.items():
        records = results.of(name)
        if records:
            figure = picture(records)
            written.append(folder / f"{name}.png")
            figure.savefig(written[-1], dpi=130, bbox_inches="tight", metadata={"Software": None})
            plt.close(figure)
    return written


def stream(records):
    """Speed of every runner, with the error of its std beside it."""
    records = sorted(records, key=lambda r: r.speed)
    figure, axes = plt.subplots(figsize=(8.5, 0.36 * len(records) + 1))
    speeds = [r.speed / 1e9 for r in records]
    colors = [OURS if r.row.startswith("streamnorm") else OTHER for r in records]
    axes.barh(range(len(records)), speeds, color=colors)
    axes.set_yticks(range(len(records)), [r.row for r in records])
    axes.set_xscale("log")
    for place, record in enumerate(records):
        error = record.info.get("errors", {}).get("float32")
        note = f" {speeds[place]:.2g}"
        if error is not None:
            note += f"   std off by {error:.0e}"
        axes.text(speeds[place], place, note, va="center", fontsize=8)
    axes.set_xlim(right=max(speeds) * 12)
    axes.set_xlabel("GB/s (log); error of std on data of mean 10⁴, σ 1, float32")
    _plain(axes)
    return figure


def layouts(records):
    """Share of the speed of reading, layout by layout and dtype by dtype."""
    rows = list(dict.fromkeys(r.row for r in records))
    columns = list(dict.fromkeys(r.column for r in records))
    grid = np.full((len(rows), len(columns)), np.nan)
    for r in records:
        grid[rows.index(r.row), columns.index(r.column)] = r.share
    figure, axes = plt.subplots(figsize=(0.8 * len(columns) + 2.5, 0.42 * len(rows) + 1.4))
    axes.imshow(grid, cmap="Blues", vmin=0, vmax=1.1, aspect="auto")
    for (i, j), value in np.ndenumerate(grid):
        if np.isfinite(value):
            color = "white" if value > 0.6 else "black"
            axes.text(j, i, f"{value:.2f}", ha="center", va="center", color=color, fontsize=8)
    axes.set_xticks(range(len(columns)), [c.replace(", ", "\n") for c in columns], fontsize=8)
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.set_title("share of the speed of reading the same bytes", fontsize=10)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def exponent(sizes, values):
    """Return the exponent of growth over the upper half of the sizes, by least squares."""
    half = len(sizes) // 2
    return float(np.polyfit(np.log(sizes[half:]), np.log(values[half:]), 1)[0])


def growth(records):
    """Time and memory against the number of values, channels and batches."""
    axes_names = list(dict.fromkeys(r.row for r in records))
    figure, axes = plt.subplots(
        2, len(axes_names), figsize=(3.6 * len(axes_names), 5.4), squeeze=False
    )
    for column, name in enumerate(axes_names):
        here = [r for r in records if r.row == name]
        sizes = np.array([r.info["size"] for r in here], float)
        for row, (label, values) in enumerate(
            (
                ("seconds", np.array([r.seconds for r in here])),
                ("peak memory, MB", np.array([r.info["more_memory"] / 1e6 for r in here])),
            )
        ):
            part = axes[row, column]
            part.loglog(sizes, values, "o-", color=OURS)
            part.set_title(f"exponent {exponent(sizes, values):.2f}", fontsize=9)
            part.set_xlabel(name)
            part.set_ylabel(label)
            _plain(part)
    figure.tight_layout()
    return figure


def settings(records):
    """What other numbers in the kernels give, of what they give as they are."""
    cases = list(records[0].info["shares"])
    base = records[0].info["shares"]
    figure, axes = plt.subplots(figsize=(9, 0.36 * len(records) + 1.4))
    grid = np.array([[r.info["shares"][c] / base[c] for c in cases] for r in records])
    axes.imshow(grid, cmap="RdBu", vmin=0.5, vmax=1.5, aspect="auto")
    for (i, j), value in np.ndenumerate(grid):
        axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=8)
    axes.set_xticks(range(len(cases)), ["\n".join(c.rsplit(", ", 1)) for c in cases], fontsize=7)
    axes.set_yticks(range(len(records)), [r.row for r in records], fontsize=8)
    axes.set_title("speed, of that with the numbers as they are", fontsize=10)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def _plain(axes):
    axes.spines[["top", "right"]].set_visible(False)
