"""The bars: what every run is held against."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.data import LAYOUTS
from benchmarks.peers import OURS, OURS_TWO

READING = "of reading"
AT_MOST = "× at most"
UPDATE = "update of (32, 16)"
TABLES = [name for name in LAYOUTS if name != "NCHW (·, 3, 60, 60)"]
IMAGES = ["NCHW (·, 3, 60, 60)", "NHWC (·, 60, 60, 3)"]
WITH_NAN = [f"10 % NaN left out, {layout}" for layout in LAYOUTS]
EXACT_TABLES = ["NHWC (·, 60, 60, 3)", "(N, 3)", "(N, 64)", "(N, 768)", "(N, 4096)"]
EXACT_IMAGES = ["NCHW (·, 3, 60, 60)", "NHWC (·, 60, 60, 3)"]
EXACT_ALL = ["NCHW (·, 3, 60, 60)", "(N, 1)", *EXACT_TABLES]
VIEWS = ("NHWC of NCHW", "x.T", "x[::2] of (N, 64)", "x[:, :, 8:-8, 8:-8]")


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes
    ----------
    what : str
    bar : float
    value : callable
        ``value(results)`` -> list of (value, where); empty if it was not measured.
    unit : str
        "of reading", "×", or one of which less is better: "s", "µs", "MB", "KiB", "× at most".
    """

    what: str
    bar: float
    value: Callable
    unit: str

    def verdict(self, results):
        """Return the worst value, where it was, and whether it reaches the bar; None if unknown."""
        values = self.value(results)
        if not values:
            return None
        less = self.unit in ("s", "µs", "MB", "KiB", AT_MOST)
        worst, where = (max if less else min)(values)
        return worst, where, worst <= self.bar if less else worst >= self.bar


def shares(question, rows, *columns):
    """Value: shares of the speed of reading, of several rows and columns."""

    def value(results):
        found = [(results.find(question, row, c), row, c) for row in rows for c in columns]
        return [(r.share, f"{row} {column}".strip()) for r, row, column in found if r]

    return value


def missing(what, *columns):
    """Value: shares of the speed of reading of all layouts with a mask or with NaN."""

    def value(results):
        found = [r for r in results.of("missing") if r.row.startswith(what) and r.column in columns]
        return [(r.share, f"{r.row} {r.column}") for r in found]

    return value


def times(question, peer, ours, rows=("",), *, by_row):
    """Value: how many times as long a peer takes for the same bytes.

    Peers are rows, or columns of the same row.
    """

    def value(results):
        found = []
        for row in rows:
            places = ((row, peer), (row, ours)) if by_row else ((peer, ""), (ours, ""))
            theirs, mine = (results.find(question, *place) for place in places)
            if theirs and mine:
                found.append((mine.speed / theirs.speed, row or peer))
        return found

    return value


def seconds(question, row, column, scale=1.0, minus=None):
    """Value: seconds, less those of another row if given."""

    def value(results):
        record = results.find(question, row, column)
        base = results.find(question, minus, column) if minus else None
        if record is None or (minus and base is None):
            return []
        spent = record.seconds - (base.seconds if base else 0)
        return [(scale * spent / record.info.get("calls", 1), row)]

    return value


def exact(rows, *columns):
    return shares("exact", rows, *columns)


def noted(row, column):
    """Value: a number that the benchmark noted."""

    def value(results):
        record = results.find("exact", row, column)
        return [(record.info["noted"], f"{row}, {column}")] if record else []

    return value


def times_bare(results):
    """Value: how many updates of an Accumulator a step of running normalization takes."""
    found = [r for r in results.of("running") if "times_bare" in r.info]
    return [(r.info["times_bare"], r.row) for r in found]


def more_memory(question, row):
    """Value: megabytes more than before."""

    def value(results):
        record = results.find(question, row, "streamnorm")
        return [(record.info["more_memory"] / 1e6, row)] if record else []

    return value


def quicker_folder(other):
    """Value: how many times as long another way takes for the folder of pictures."""

    def value(results):
        rows = {r.row for r in results.of("images") if "500" in r.row}
        pairs = [
            (results.find("images", r, other), results.find("images", r, "streamnorm"))
            for r in rows
        ]
        return [(a.seconds / b.seconds, a.row) for a, b in pairs if a and b]

    return value


def stream(peer):
    return times("stream", peer, OURS_TWO.name, by_row=False)


def beside(peer, rows):
    return times("peers", peer, "ours", rows, by_row=True)


def named(rows, dtype):
    return [f"{row}, {dtype}" for row in rows]


BARS = (
    Bar("batches of 5.5 MB, 1 thread", 0.70, shares("stream", [OURS.name], ""), READING),
    Bar("batches of 5.5 MB, 2 threads", 0.65, shares("stream", [OURS_TWO.name], ""), READING),
    Bar("calls of 68 MiB and more, 2 threads", 0.80,
        shares("stream", ["streamnorm, 2 threads, calls of 68 MiB",
                          "streamnorm, 2 threads, calls of 337 MiB"], ""), READING),
    Bar("beside the shortcut", 60, stream("torch, mean of batch std (the shortcut)"), "×"),
    Bar("beside partial_fit", 100, stream("scikit-learn, partial_fit"), "×"),
    Bar("beside float32 sum and sum of squares", 4,
        stream("torch, float32 sum and sum of squares"), "×"),
    Bar("beside np.var", 8, stream("np.var and np.mean of batches, pooled"), "×"),
    Bar("tables and channels last, float32", 0.60, shares("layouts", TABLES, "float32"), READING),
    Bar("the same on 2 threads", 0.60,
        shares("layouts", TABLES, "float32, 2 threads"), READING),
    Bar("beside torch.var_mean", 15, beside("var_mean", named(TABLES, "float32")), "×"),
    Bar("beside partial_fit, tables", 20, beside("partial_fit", named(TABLES, "float32")), "×"),
    Bar("beside polars, (N, 64)", 2,
        times("tables", "polars, columns", "streamnorm, 2 threads", by_row=False), "×"),
    Bar("float64, any layout", 0.80, shares("layouts", LAYOUTS, "float64"), READING),
    Bar("the same on 2 threads", 0.80, shares("layouts", LAYOUTS, "float64, 2 threads"), READING),
    Bar("uint8 images", 0.60, shares("layouts", IMAGES, "uint8"), READING),
    Bar("the same on 2 threads", 0.60, shares("layouts", IMAGES, "uint8, 2 threads"), READING),
    Bar("int16 and uint16 images", 0.65, shares("layouts", IMAGES, "int16", "uint16"), READING),
    Bar("beside x.float() / 255", 50, beside("float_over_255", named(IMAGES, "uint8")), "×"),
    Bar("float16 and bfloat16, any layout", 0.45,
        shares("layouts", LAYOUTS, "float16", "bfloat16"), READING),
    Bar("mask, float32 and float64", 0.45, missing("mask", "float32", "float64"), READING),
    Bar("mask, 8 and 16 bits", 0.45, missing("mask", "uint8", "int16", "float16"), READING),
    Bar("NaN left out, float32 and float64", 0.45,
        missing("10 % NaN", "float32", "float64"), READING),
    Bar("NaN left out, float16", 0.45, missing("10 % NaN", "float16"), READING),
    Bar("beside np.nanstd", 20,
        times("missing", "np.nanstd, float32", "float32, 2 threads", WITH_NAN, by_row=True), "×"),
    Bar("views, of the lines touched: float32", 0.40,
        shares("views", VIEWS, "float32"), READING),
    Bar("the same, float64", 0.40, shares("views", VIEWS, "float64"), READING),
    Bar("the same, uint8 and float16", 0.40,
        shares("views", VIEWS, "uint8", "float16"), READING),
    Bar(UPDATE, 10, seconds("small", UPDATE, "streamnorm", 1e6), "µs"),
    Bar("beside gymnasium", 1.5,
        times("small", "gymnasium RunningMeanStd", "streamnorm", [UPDATE], by_row=True),
        "×"),
    Bar("merge of 1,000,000 parts", 5,
        seconds("small", "merge of 1,000,000 parts of 3 channels", "streamnorm"), "s"),
    Bar("RunningNormalize, beside a bare update", 3, times_bare, AT_MOST),
    Bar("image folder, beside decoding only", 0.95, quicker_folder("decode only"), "of decoding"),
    Bar("image folder, beside a DataLoader", 3,
        quicker_folder("DataLoader and NumPy, averaged"), "×"),
    Bar("first answer, nothing cached", 2.0,
        seconds("start", "first measure, nothing cached", "seconds"), "s"),
    Bar("first answer, kernel cached", 0.8,
        seconds("start", "first measure, kernel cached", "seconds"), "s"),
    Bar("import, above NumPy", 0.1,
        seconds("start", "import streamnorm", "seconds", minus="import numpy"), "s"),
    Bar("exact, float32 NCHW and contiguous", 0.40,
        exact(["NCHW (·, 3, 60, 60)", "(N, 1)"], "float32", "float32, Gauss", "float32, 2 threads"),
        READING),
    Bar("exact, beside torch.var_mean", 8,
        times("exact", "torch.var_mean", "float32", ["NCHW (·, 3, 60, 60)", "(N, 1)"],
              by_row=True), "×"),
    Bar("exact, float32 tables and channels last", 0.30,
        exact(EXACT_TABLES, "float32", "float32, 2 threads"), READING),
    Bar("exact, 8- and 16-bit integers", 0.60,
        exact(EXACT_IMAGES, "uint8", "int8", "int16", "uint16"), READING),
    Bar("exact, float16 and bfloat16", 0.30,
        exact(EXACT_ALL, "float16", "bfloat16"), READING),
    Bar("exact, float64", 0.15, exact(EXACT_ALL, "float64"), READING),
    Bar("exact, lognormal, σ = 4", 0.05,
        exact(EXACT_ALL, "float32, lognormal", "float64, lognormal"), READING),
    Bar("exact, merge of 100,000 parts", 2,
        seconds("exact", "merge of 100,000 parts of 3 channels", "float32"), "s"),
    Bar("the same, float64", 2,
        seconds("exact", "merge of 100,000 parts of 3 channels", "float64"), "s"),
    Bar("exact, state of a channel, float32", 1, noted("state of a channel", "float32"), "KiB"),
    Bar("the same, float64", 4, noted("state of a channel", "float64"), "KiB"),
    Bar("20 GB, above one batch", 30, more_memory("memory", "20 GB in batches of 5.5 MB"), "MB"),
)  # fmt: skip
