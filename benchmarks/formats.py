"""``python -m benchmarks.formats``: files beside reading them, scikit-learn's scaler, memory.

In turns, medians of the rounds; every question with a peer, and accuracy beside speed. Writes
benchmarks/format_results and docs/formats.md. ``--quick`` is a look at little data.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

import streamnorm as sn
from benchmarks import pages
from streamnorm.origin import new_pass

ROOT = Path(__file__).parent.parent
PAGE, FOLDER = ROOT / "docs" / "formats.md", Path(__file__).parent / "format_results"
MARK = "formats"
WORKERS = 2


def in_turns(runners, rounds):
    """Run all in turns; return the seconds of each, and what each gave last."""
    times, results = {name: [] for name in runners}, {}
    for turn in range(rounds + 1):
        for at in range(len(runners)):
            name = list(runners)[(turn + at) % len(runners)]
            begun = time.perf_counter()
            results[name] = runners[name]()
            # The first round warms caches and compilers.
            if turn:
                times[name].append(time.perf_counter() - begun)
    return times, results


def records_of(question, times, baseline, bar, errors):
    """Rows of a question: seconds, and the share of the baseline's speed, the median of rounds."""
    rows = []
    for name, seconds in times.items():
        shares = [b / s for b, s in zip(times[baseline], seconds, strict=True)]
        row = {
            "question": question,
            "runner": name,
            "seconds": statistics.median(seconds),
            "speed": statistics.median(shares),
            "bar": bar.get(name),
            "error": errors.get(name),
        }
        print(row, flush=True)
        rows.append(row)
    return rows


# Pictures


def pictures(folder, count):
    from PIL import Image

    rng = np.random.default_rng(0)
    for k in range(count):
        coarse = rng.integers(0, 255, (375 // 16, 500 // 16, 3), np.uint8)
        soft = Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC)
        noisy = np.clip(soft + rng.normal(0, 10, (375, 500, 1)), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{k:04d}.jpg", quality=90)


def decoding(folder, decoder, then=None):
    """Decode every picture with as many threads; do nothing else but `then` with its pixels."""
    from concurrent.futures import ThreadPoolExecutor

    import simplejpeg
    from PIL import Image

    def decode(path):
        if decoder == "simplejpeg":
            return simplejpeg.decode_jpeg(path.read_bytes(), "RGB")
        with Image.open(path) as picture:
            return np.asarray(picture)

    def group(paths):
        for path in paths:
            pixels = decode(path)
            if then is not None:
                then(pixels)

    paths = sorted(folder.iterdir())
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(group, [paths[i : i + 16] for i in range(0, len(paths), 16)]))


def loader_and_numpy(folder):
    """What tutorials write: a DataLoader, and means of the batches' stds."""
    import torch
    from PIL import Image

    class Pictures(torch.utils.data.Dataset):
        paths = sorted(folder.iterdir())

        def __len__(self):
            return len(self.paths)

        def __getitem__(self, index):
            with Image.open(self.paths[index]) as picture:
                return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255

    loader = torch.utils.data.DataLoader(Pictures(), batch_size=32, num_workers=WORKERS)
    return np.mean([batch.numpy().std(axis=(0, 2, 3)) for batch in loader], axis=0) * 255


def of_pictures(folder, quick):
    from streamnorm.sources import jpeg

    pictures(folder, 60 if quick else 400)
    truth = sn.compute(folder, exact=True, progress=False).std()
    rows = []
    simplejpeg = jpeg._simplejpeg  # noqa: SLF001 - to hide it
    for decoder in ("Pillow", "simplejpeg"):
        jpeg._simplejpeg = simplejpeg if decoder == "simplejpeg" else lambda: None  # noqa: SLF001
        reading = f"decoding by {decoder}, and nothing else"
        runners = {
            reading: lambda d=decoder: decoding(folder, d),
            "decoding and measuring, and nothing else": lambda d=decoder: decoding(
                folder, d, lambda pixels: sn.measure(pixels, channel_axis=-1, threads=1)
            ),
            "streamnorm": lambda: sn.compute(folder, workers=WORKERS, progress=False).std(),
        }
        if decoder == "Pillow":
            runners["DataLoader and NumPy, mean of stds"] = lambda: loader_and_numpy(folder)
        times, results = in_turns(runners, 3 if quick else 11)
        errors = {n: _error(r, truth) for n, r in results.items() if r is not None}
        question = f"photographs of 500 × 375, {decoder}"
        rows += records_of(question, times, reading, {"streamnorm": 0.95}, errors)
    jpeg._simplejpeg = simplejpeg  # noqa: SLF001
    return rows


def _error(got, truth):
    return float(np.abs(np.asarray(got) / truth - 1).max())


# Parquet


def parquet(path, rows, groups):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    names = [f"c{c}" for c in range(16)]
    schema = pa.schema([(name, pa.float32()) for name in names])
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=False) as writer:
        for _ in range(groups):
            data = rng.normal(1e4, 1, (rows // groups, 16)).astype(np.float32)
            writer.write_table(pa.table(dict(zip(names, data.T, strict=True)), schema))


def scan(path):
    import pyarrow.dataset as ds

    for batch in ds.dataset(path).to_batches():
        assert batch.num_rows >= 0


def pandas_std(path):
    import pandas as pd

    return pd.read_parquet(path).std(ddof=0).to_numpy()


def duckdb_std(path):
    import duckdb

    columns = ", ".join(f"stddev_pop(c{c})" for c in range(16))
    return np.array(duckdb.sql(f"select {columns} from '{path}'").fetchall()[0])


def stds(values):
    return np.concatenate([value.std() for value in values.values()])


def of_parquet(folder, quick):
    path = folder / "t.parquet"
    parquet(path, 400_000 if quick else 8_000_000, 4 if quick else 64)
    truth = stds(sn.compute(path, exact=True, progress=False))
    reading = "pyarrow's scan, and nothing else"
    runners = {
        reading: lambda: scan(path),
        "streamnorm": lambda: stds(sn.compute(path, workers=WORKERS, progress=False)),
        "pandas, all in memory": lambda: pandas_std(path),
        "DuckDB, stddev_pop": lambda: duckdb_std(path),
    }
    times, results = in_turns(runners, 3 if quick else 9)
    errors = {n: _error(r, truth) for n, r in results.items() if r is not None}
    question = f"Parquet of 16 float32 columns, {path.stat().st_size / 1e6:.0f} MB"
    return records_of(question, times, reading, {"streamnorm": 0.8}, errors)


# scikit-learn


def of_scalers(quick):
    from sklearn.preprocessing import StandardScaler as Theirs

    from streamnorm.sklearn import StandardScaler

    x = np.random.default_rng(0).normal(300, 2, (65_536, 64)).astype(np.float32)
    truth = sn.measure(x, exact=True).std()
    ours, theirs = StandardScaler().fit(x), Theirs().fit(x)
    fitting = {
        "scikit-learn": lambda: Theirs().partial_fit(x).scale_,
        "streamnorm": lambda: StandardScaler().partial_fit(x).scale_,
    }
    rounds = 9 if quick else 41
    times, results = in_turns(fitting, rounds)
    errors = {name: _error(result, truth) for name, result in results.items()}
    rows = records_of(
        "partial_fit of (65536, 64) float32", times, "scikit-learn", {"streamnorm": 20}, errors
    )
    right = (x.astype(float) - ours.mean_) / truth
    mapping = {
        "scikit-learn": lambda: theirs.transform(x),
        "streamnorm": lambda: ours.transform(x),
    }
    times, results = in_turns(mapping, rounds)
    errors = {name: float(np.abs(result - right).max()) for name, result in results.items()}
    question = "transform of (65536, 64) float32 (error absolute)"
    return rows + records_of(question, times, "scikit-learn", {"streamnorm": 1}, errors)


# Memory


def zarr_store(path, megabytes):
    import zarr

    store = zarr.create_array(
        path, shape=(megabytes, 512, 512), chunks=(16, 512, 512), dtype="f4", compressors=None
    )
    rng = np.random.default_rng(0)
    block = rng.normal(1e4, 1, (16, 512, 512)).astype(np.float32)
    for start in range(0, megabytes, 16):
        store[start : start + 16] = block


_PEAK = """
import re, sys, time
import streamnorm as sn
begun = time.perf_counter()
value = sn.compute(sys.argv[1], workers=2, progress=False)
seconds = time.perf_counter() - begun
# Not getrusage: that also knows the process that started this one.
peak = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())
print(int(peak[1]) / 1024, seconds)
"""


def of_memory(folder, quick):
    """Peak memory of a process that measures a little, and of one that measures a lot."""
    rows = []
    small, large = (64, 256) if quick else (320, 5120)
    for name, suffix, make in (
        ("Parquet", ".parquet", lambda p, mb: parquet(p, mb * 16_384, max(mb // 16, 1))),
        ("zarr", ".zarr", zarr_store),
    ):
        peaks = {}
        for megabytes in (small, large):
            path = folder / f"{megabytes}{suffix}"
            make(path, megabytes)
            command = [sys.executable, "-c", _PEAK, str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            peaks[megabytes], seconds = map(float, done.stdout.split())
            subprocess.run(["rm", "-r", str(path)], check=True)
            row = {
                "question": f"peak memory, {name}",
                "runner": f"{megabytes:,} MB of float32",
                "seconds": seconds,
                "megabytes": peaks[megabytes],
            }
            print(row, flush=True)
            rows.append(row)
    return rows


def table(run):
    """Return a run as Markdown."""
    lines = [
        "|  | seconds | speed, of the first row | bar | std error |",
        "| --- | --- | --- | --- | --- |",
    ]
    for r in (r for r in run["records"] if "speed" in r):
        error = "" if r["error"] is None else f"{r['error']:.0e}"
        bar = "" if r["bar"] is None else f"{r['bar']:g}"
        name = f"{r['question']}: {r['runner']}"
        lines.append(f"| {name} | {r['seconds']:.3g} | {r['speed']:.2f} | {bar} | {error} |")
    lines += ["", "|  | peak memory, MB | seconds |", "| --- | --- | --- |"]
    for r in (r for r in run["records"] if "megabytes" in r):
        name = f"{r['question'].removeprefix('peak memory, ')}: {r['runner']}"
        lines.append(f"| {name} | {r['megabytes']:.0f} | {r['seconds']:.1f} |")
    return "\n".join([*lines, "", run["about"]])


QUESTIONS = {
    "pictures": of_pictures,
    "parquet": of_parquet,
    "scalers": lambda _, quick: of_scalers(quick),
    "memory": of_memory,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="little data, kept nowhere")
    parser.add_argument("--only", choices=QUESTIONS, help="one question; other rows stay")
    arguments = parser.parse_args()
    chosen = [arguments.only] if arguments.only else list(QUESTIONS)
    records = []
    for name in chosen:
        with tempfile.TemporaryDirectory() as made:
            asked = QUESTIONS[name](Path(made), arguments.quick)
            records += [{"group": name, **row} for row in asked]
    names = ("numpy", "pillow", "simplejpeg", "pyarrow", "pandas", "duckdb", "scikit-learn", "zarr")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    about = (
        f"{new_pass('', '').cpu}, {os.cpu_count()} processors, {WORKERS} workers; files lie in "
        f"memory; medians "
        f"of rounds, in turns; speeds are ratios within a round. {versions}."
    )
    kept = FOLDER / "formats.json"
    if arguments.only:
        records = pages.with_kept(records, kept, "group", list(QUESTIONS))
    run = {"about": about, "records": records}
    print(table(run))
    if arguments.quick:
        return
    pages.keep(kept, run)
    pages.put(PAGE, MARK, table(run))


if __name__ == "__main__":
    main()
