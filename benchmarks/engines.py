"""``python -m benchmarks.engines``: each engine's path beside reading and beside what people write.

On float32 of mean 1e4 and σ 1, in files that lie in memory; in turns, medians of the rounds.
Writes benchmarks/engine_results and docs/engines.md. ``--quick`` is a look at little data.
"""

import argparse
import json
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

ROOT = Path(__file__).parent.parent
PAGE, FOLDER = ROOT / "docs" / "engines.md", Path(__file__).parent / "engine_results"
MARK = "engines"
BAR = 1.2
COLUMNS = 8
READING = "reading, and nothing else"
OURS, EXACT = "streamnorm", "streamnorm, exact"


def make(folder, files, rows):
    """Write the data as .npy and as parquet; return its exact moments."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts = []
    for k in range(files):
        data = np.random.default_rng(k).normal(1e4, 1, (rows, COLUMNS)).astype(np.float32)
        np.save(folder / f"{k:03}.npy", data)
        names = [f"c{c}" for c in range(COLUMNS)]
        table = pa.table(dict(zip(names, data.T, strict=True)))
        pq.write_table(table, folder / f"{k:03}.parquet", compression="none", use_dictionary=False)
        parts.append(sn.measure(data, exact=True))
    return sn.merge(parts)


def numbers(found):
    """The stds of a dict of values, or of one."""
    values = found.values() if isinstance(found, dict) else [found]
    return np.concatenate([value.std() for value in values])


def dask_runners(folder):
    import dask
    import dask.array as da
    import distributed

    from streamnorm.engines.dask import compute

    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0")
    client = distributed.Client(cluster)
    files = sorted(map(str, folder.glob("*.npy")))
    shape = np.load(files[0], mmap_mode="r").shape
    read = dask.delayed(np.load)
    array = da.concatenate([da.from_delayed(read(f), shape, "f4") for f in files])

    def nothing():
        # As fused with reading as ours is.
        ones = ((1,) * len(files), (1,))
        array.map_blocks(lambda block: np.array([[len(block)]]), chunks=ones, dtype="i8").compute()

    yield {
        READING: nothing,
        OURS: lambda: numbers(compute(array)),
        EXACT: lambda: numbers(compute(array, exact=True)),
        "dask.array.std": lambda: array.std(axis=0).compute(),
    }
    client.close()
    cluster.close()


def ray_runners(folder):
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    import ray.data
    from ray.data.preprocessors import StandardScaler

    from streamnorm.engines.ray import compute

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    files = sorted(map(str, folder.glob("*.parquet")))
    columns = [f"c{c}" for c in range(COLUMNS)]

    def dataset():
        return ray.data.read_parquet(files, override_num_blocks=len(files))

    def nothing():
        options = {"batch_size": None, "batch_format": "pyarrow"}
        dataset().map_batches(lambda t: {"n": [t.num_rows]}, **options).take_all()

    def std():
        found = dataset().aggregate(*[ray.data.aggregate.Std(c, ddof=0) for c in columns])
        return np.array([found[f"std({c})"] for c in columns])

    def scaler():
        stats = StandardScaler(columns).fit(dataset()).stats_
        return np.array([stats[f"std({c})"] for c in columns])

    yield {
        READING: nothing,
        OURS: lambda: numbers(compute(dataset())),
        EXACT: lambda: numbers(compute(dataset(), exact=True)),
        "Ray Data, Std": std,
        "Ray Data, StandardScaler": scaler,
    }
    ray.shutdown()


def spark_runners(folder):
    os.environ |= {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    from pyspark.ml.feature import VectorAssembler
    from pyspark.ml.stat import Summarizer
    from pyspark.sql import SparkSession
    from pyspark.sql import functions as f

    from streamnorm.engines.spark import compute

    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    spark = builder.config("spark.driver.host", "127.0.0.1").getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    columns = [f"c{c}" for c in range(COLUMNS)]
    df = spark.read.parquet(*sorted(map(str, folder.glob("*.parquet"))))

    def nothing():
        def pass_over(batches):
            for _ in batches:
                pass
            return iter(())

        df.mapInArrow(pass_over, "n long").collect()

    def pop():
        return np.array(df.agg(*[f.stddev_pop(c) for c in columns]).collect()[0])

    def summarizer():
        vectors = VectorAssembler(inputCols=columns, outputCol="v").transform(df)
        row = vectors.select(Summarizer.metrics("variance", "count").summary(f.col("v"))).collect()
        return np.sqrt(row[0][0]["variance"].toArray() * (1 - 1 / row[0][0]["count"]))

    yield {
        READING: nothing,
        OURS: lambda: numbers(compute(df)),
        EXACT: lambda: numbers(compute(df, exact=True)),
        "Spark, stddev_pop": pop,
        "Spark, Summarizer": summarizer,
    }
    spark.stop()


MPI = """
import json, sys, time
import numpy as np
import streamnorm as sn
from mpi4py import MPI
from streamnorm.engines.mpi import all_merge

comm, rounds, files = MPI.COMM_WORLD, int(sys.argv[1]), sys.argv[2:]
mine = files[comm.rank :: comm.size]

def nothing():
    for file in mine:
        np.load(file)
    comm.Barrier()

def ours(exact):
    return all_merge(sn.compute(mine, exact=exact, workers=1))

runs = [nothing, lambda: ours(False), lambda: ours(True)]
values = [run() for run in runs]
times = [[], [], []]
for turn in range(rounds):
    for at in range(3):
        which = (turn + at) % 3
        comm.Barrier()
        begun = time.perf_counter()
        runs[which]()
        times[which].append(comm.allreduce(time.perf_counter() - begun, MPI.MAX))
if comm.rank == 0:
    print(json.dumps([times, [v and v.std().tolist() for v in values]]))
"""


def measure_mpi(folder, truth, rounds):
    """Let two ranks time themselves: what a rank takes is not what to start it takes."""
    mpiexec = Path(sys.executable).with_name("mpiexec")
    command = [
        mpiexec if mpiexec.exists() else "mpiexec",
        "-n",
        "2",
        sys.executable,
        "-m",
        "mpi4py",
    ]
    files = sorted(map(str, folder.glob("*.npy")))
    done = subprocess.run(
        [*map(str, command), "-c", MPI, str(rounds), *files],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    times, stds = json.loads(done.stdout)
    names = (READING, OURS, EXACT)
    return _records(
        "mpi", dict(zip(names, times, strict=True)), dict(zip(names, stds, strict=True)), truth
    )


ENGINES = {"dask": dask_runners, "ray": ray_runners, "spark": spark_runners, "mpi": None}


def measure(engine, folder, truth, rounds):
    """Time every runner of an engine; return rows."""
    if engine == "mpi":
        return measure_mpi(folder, truth, rounds)
    records = []
    for runners in ENGINES[engine](folder):
        results = {name: run() for name, run in runners.items()}
        times = {name: [] for name in runners}
        # Peers by themselves: what they leave behind takes time of whoever comes next.
        ours = [READING, OURS, EXACT]
        for turns in (ours, [name for name in runners if name not in ours]):
            for turn in range(rounds):
                for at in range(len(turns)):
                    name = turns[(turn + at) % len(turns)]
                    begun = time.perf_counter()
                    runners[name]()
                    times[name].append(time.perf_counter() - begun)
        records += _records(engine, times, results, truth)
    return records


def _records(engine, times, results, truth):
    records = []
    for name, seconds in times.items():
        error = None if name == READING else float(np.abs(results[name] / truth - 1).max())
        records.append(
            {
                "engine": engine,
                "runner": name,
                "seconds": statistics.median(seconds),
                "of_reading": statistics.median(seconds) / statistics.median(times[READING]),
                "error": error,
            }
        )
        print(records[-1], flush=True)
    return records


def table(run):
    """Return a run as Markdown."""
    lines = ["|  | seconds | of reading | std error |", "| --- | --- | --- | --- |"]
    for r in sorted(run["records"], key=lambda r: list(ENGINES).index(r["engine"])):
        error = "" if r["error"] is None else f"{r['error']:.0e}"
        row = [f"{r['engine']}: {r['runner']}", f"{r['seconds']:.2f}", f"{r['of_reading']:.2f} ×"]
        lines.append(f"| {' | '.join([*row, error])} |")
    return "\n".join([*lines, "", run["about"]])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="little data, kept nowhere")
    parser.add_argument(
        "--only", choices=ENGINES, help="one engine; the rows of others stay as they are"
    )
    arguments = parser.parse_args()
    files, rows, rounds = (4, 20_000, 1) if arguments.quick else (16, 1_000_000, 9)
    with tempfile.TemporaryDirectory() as made:
        truth = make(Path(made), files, rows).std()
        chosen = [arguments.only] if arguments.only else list(ENGINES)
        records = [r for e in chosen for r in measure(e, Path(made), truth, rounds)]
    names = ("dask", "distributed", "ray", "pyspark", "mpi4py", "pyarrow", "numpy")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    size = files * rows * COLUMNS * 4 / 1e6
    about = (
        f"{size:.0f} MB of float32 (mean 1e4, σ 1) in {files} files that lie in memory; .npy for "
        f"Dask and MPI, parquet for the others; two workers of one thread. Medians of {rounds} "
        f"rounds, streamnorm and reading in turns, and in turns the first. {versions}."
    )
    kept = FOLDER / "engines.json"
    if arguments.only:
        records = pages.with_kept(records, kept, "engine", list(ENGINES))
    run = {"about": about, "records": records}
    print(table(run))
    if arguments.quick:
        return
    pages.keep(kept, run)
    pages.put(PAGE, MARK, table(run))


if __name__ == "__main__":
    main()
