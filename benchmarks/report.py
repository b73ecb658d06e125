"""Results -> tables in Markdown, one for each question."""

from benchmarks.bars import BARS
from benchmarks.peers import STREAM
from benchmarks.table_peers import TABLE

QUESTIONS = {
    "stream": "A stream of image batches, (128, 3, 60, 60) float32",
    "tables": "A table in memory, (N, 64) float32",
    "layouts": "Every layout and dtype: share of the speed of reading, one thread unless said",
    "missing": "Masks and NaN: share of the speed of reading, one thread",
    "views": "Views, of the cache lines touched: share of the speed of reading, one thread",
    "exact": "Exact sums: share of the speed of reading, one thread unless said",
    "peers": "What people write instead, in GB/s",
    "small": "Many small things",
    "running": "A step of normalizing by running moments, and how far off the std is in the end",
    "images": "A folder of pictures, decoding included",
    "start": "From nothing to the first answer, a new process",
    "memory": "Peak memory of a stream",
    "growth": "Growth with values, channels (10^8 values) and batches of (32, 16)",
    "settings": "Other numbers in the kernels: share of the speed of reading, one thread",
}

PICTURES = {
    "stream": "speed of every runner on a stream of batches, with the error of its std",
    "layouts": "share of the speed of reading, by layout and dtype",
    "growth": "time and memory against the number of values, channels and batches",
    "settings": "speed with other numbers in the kernels",
}
MARK = "benchmark"


def table(header, rows):
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def pivot(records, show):
    """Return a table with the rows and columns of the records."""
    columns = list(dict.fromkeys(r.column for r in records))
    places = {(r.row, r.column): show(r) for r in records}
    rows = dict.fromkeys(r.row for r in records)
    return table(
        ["", *columns], [[row, *(places.get((row, c), "") for c in columns)] for row in rows]
    )


def share(record):
    return f"{record.share:.2f}"


def gigabytes(record):
    return f"{record.speed / 1e9:.2f}"


def runners(results, question, known):
    """Return the table of those who do the same work; those that are missing too."""
    records = results.of(question)
    ours = max(r.speed for r in records)
    rows = []
    for r in records:
        errors = r.info.get("errors", {})
        shown = [f"{errors[d]:.0e}" if d in errors else "" for d in ("float32", "float64")]
        part = r.info["part"]
        given = "" if part == 1 else f" (on 1/{1 / part:.0f} of the data)"
        of_reading = f"{r.share:.2f}" if r.row.startswith("streamnorm") else ""
        rows.append([r.row + given, gigabytes(r), of_reading, f"{ours / r.speed:.1f} ×", *shown])
    seen = {r.row for r in records}
    rows += [[f"{k.name}: not installed", *[""] * 5] for k in known if k.name not in seen]
    header = [
        "", "GB/s", "of reading", "time, of the quickest", "std error at 10^4, float32",
        "std error at 10^8, float64",
    ]  # fmt: skip
    return table(header, rows)


def times(record):
    each = record.seconds / record.info.get("calls", 1)
    shown = f"{each * 1e6:.1f} µs" if each < 1e-3 else f"{each:.2f} s"
    more = record.info.get("more_memory")
    return shown if more is None else f"{shown}, {more / 1e6:.1f} MB more"


def exactly(record):
    if record.reading:
        return share(record)
    if record.bytes:
        return f"{gigabytes(record)} GB/s"
    return record.info.get("shown", f"{record.seconds:.2f} s")


def settings(records):
    cases = list(records[0].info["shares"])
    rows = [[r.row, *(f"{r.info['shares'][case]:.2f}" for case in cases)] for r in records]
    return table(["", *cases], rows)


def growth(records):
    rows = [
        [
            r.row,
            f"{r.info['size']:,}",
            f"{r.seconds:.2g} s",
            f"{r.info['more_memory'] / 1e6:.2f} MB",
        ]
        for r in records
    ]
    return table(["of", "how many", "time", "peak memory"], rows)


def running(record):
    each = 1e6 * record.seconds / record.info["calls"]
    off = f"std off by {record.info['error']:.0e}"
    if "times_bare" in record.info:
        return f"{record.info['times_bare']:.2f} × the update alone; {off}"
    return f"{each:.1f} µs; {off}"


def answer(results, question):
    """Return the table of one question."""
    records = results.of(question)
    if question in ("stream", "tables"):
        return runners(results, question, STREAM if question == "stream" else TABLE)
    if question == "exact":
        return pivot(records, exactly)
    if question in ("layouts", "missing", "views"):
        return pivot(records, lambda r: share(r) if r.reading else gigabytes(r) + " GB/s")
    if question == "peers":
        return pivot(records, gigabytes)
    if question == "running":
        return pivot(records, running)
    if question == "settings":
        return settings(records)
    if question == "growth":
        return growth(records)
    return pivot(records, times)


def tables(results):
    """Return the tables of all questions that were asked."""
    asked = [q for q in QUESTIONS if results.of(q)]
    return "\n\n".join(
        f"## {QUESTIONS[q]}{_where(results, q)}\n\n{answer(results, q)}" for q in asked
    )


def _where(results, question):
    """Say on what other machine a question was asked."""
    places = [run for run in results.others if run.of(question)]
    return f"\n\nOn another machine: {about(places[0])}" if places else ""


def verdicts(results):
    """Return the table of the bars."""
    rows = []
    for bar in BARS:
        found = bar.verdict(results)
        if found is None:
            rows.append([bar.what, f"{bar.bar:g} {bar.unit}", "", "", "not measured"])
        else:
            value, where, reached = found
            shown = f"{value:.2f}" if value < 10 else f"{value:.0f}"
            rows.append(
                [bar.what, f"{bar.bar:g} {bar.unit}", shown, where,
                 "reached" if reached else "**missed**"]
            )  # fmt: skip
    return table(["bar", "asked", "measured (the worst)", "where", ""], rows)


def about(results):
    """Say on what machine, with which versions."""
    machine = results.machine
    versions = ", ".join(f"{k} {v or 'missing'}" for k, v in machine["versions"].items())
    cache, data = machine["last_level_cache"] >> 20, machine["working_set"] / 1e9
    return (
        f"{machine['processor']}, {machine['processors']} processors, last-level cache "
        f"{cache} MiB, working set {data:.1f} GB; "
        f"Python {machine['python']}, {versions}. Medians of rounds, each in turns with "
        f"a plain read of the same memory by as many threads."
    )


def page(results):
    """Return docs/benchmarks.md."""
    pictures = "\n\n".join(
        f"![{what}](benchmarks/{name}.png)" for name, what in PICTURES.items() if results.of(name)
    )
    return (
        f"# Benchmarks\n\nWritten by `python -m benchmarks --write`. {about(results)}\n\n"
        f"## The bars\n\n{verdicts(results)}\n\n{pictures}\n\n{tables(results)}\n"
    )


def readme_part(results):
    """Return what stands in README.md between the marks."""
    picture = f"![{PICTURES['layouts']}](docs/benchmarks/layouts.png)"
    return f"{answer(results, 'stream')}\n\n{picture}\n\n{about(results)}"
