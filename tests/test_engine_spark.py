"""Spark on Java 17: columns of every kind, groups, tasks that fail, executors that die."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyspark")
pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

import engine_data  # noqa: E402 - beside an engine
import pandas as pd  # noqa: E402 - of an engine
import pyspark  # noqa: E402 - an engine
from pyspark.ml.linalg import Vectors  # noqa: E402 - the same
from pyspark.sql import SparkSession  # noqa: E402 - the same

import streamnorm as sn  # noqa: E402 - last
from streamnorm import StreamnormWarning  # noqa: E402 - the same
from streamnorm.engines import spark as engine  # noqa: E402 - the same

RNG = np.random.default_rng(0)
HERE = os.path.dirname(__file__)


def session(master, **options):
    """Start Spark; one that runs already is stopped."""
    os.environ |= {"PYSPARK_PYTHON": sys.executable, "PYTHONPATH": HERE}
    os.environ |= {"SPARK_LOCAL_IP": "127.0.0.1"}
    if (running := SparkSession.getActiveSession()) is not None:
        running.stop()
    builder = SparkSession.builder.master(master).config("spark.ui.enabled", "false")
    # A task takes Spark itself 30 ms; half of that without plans that adapt, and by Unix sockets.
    quick = {
        "spark.driver.host": "127.0.0.1",
        "spark.sql.adaptive.enabled": "false",
        "spark.python.unix.domain.socket.enabled": "true",
    }
    for name, value in (quick | options).items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    return spark


@pytest.fixture(scope="module")
def spark():
    """Two threads; a task may fail three times."""
    spark = session("local[2,4]")
    yield spark
    spark.stop()


def numbers(spark, partitions=5):
    """Thousand rows: a scalar, an array and a text, and their arrays."""
    scalars = RNG.normal(100, 1, 60)
    places = RNG.normal(3, 1, (60, 4))
    rows = [(float(s), p.tolist(), "w") for s, p in zip(scalars, places, strict=True)]
    df = spark.createDataFrame(rows, "s double, p array<double>, `a.word` string")
    return df.repartition(partitions), scalars[:, None], places


def test_columns_of_scalars_and_arrays(spark):
    df, scalars, places = numbers(spark)
    with pytest.warns(StreamnormWarning, match=r"not numeric: 'a\.word'") as warned:
        found = engine.compute(df, exact=True)
    assert any(w.filename == __file__ for w in warned)
    assert list(found) == ["s", "p"]
    assert found["s"] == sn.measure(scalars, exact=True)
    assert found["p"] == sn.measure(places, exact=True)
    assert engine.compute(df, columns="p").channels == 4


def test_columns_with_dots_and_backticks_in_their_names(spark):
    df = spark.createDataFrame([(1.0, 2)], "`a.b` double, `c``d` int")
    assert {n: v.mean[0] for n, v in engine.compute(df).items()} == {"a.b": 1.0, "c`d": 2.0}


def test_rounded_values_are_merged_in_the_order_of_partitions(spark):
    value = engine.compute(spark.range(0, 100_000, 1, 9), columns="id")
    edges = [100_000 * k // 9 for k in range(10)]
    parts = [np.arange(a, b)[:, None] for a, b in pairwise(edges)]
    expected = sn.merge([sn.merge(map(sn.measure, batched(part))) for part in parts])
    assert value.rows.tobytes() == expected.rows.tobytes()
    assert value.meta.report.read == 9


def batched(part):
    """Rows come in Arrow batches of ten thousand."""
    return [part[at : at + 10_000] for at in range(0, len(part), 10_000)]


def test_vectors_dense_and_sparse(spark):
    rows = [(Vectors.dense([1.0, 2.0]),), (Vectors.sparse(2, [0], [3.0]),)]
    value = engine.compute(spark.createDataFrame(rows, ["f"]), columns="f", exact=True)
    assert value == sn.measure([[1.0, 2.0], [3.0, 0.0]], exact=True)


def test_binary_images_by_a_decode_function(spark):
    from PIL import Image

    def encoded(k):
        pixels = np.random.default_rng(k).integers(0, 256, (5 + k, 6, 3), np.uint8)
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, "png")
        return data.getvalue()

    def decode(data):
        return np.asarray(Image.open(io.BytesIO(data)))

    files = [encoded(k) for k in range(6)]
    df = spark.createDataFrame([(data,) for data in [*files, None]], "content binary")
    with pytest.warns(StreamnormWarning, match="1 rows were skipped, as they are null"):
        value = engine.compute(df, columns="content", decode=decode, exact=True)
    parts = [sn.measure(decode(data), channel_axis=-1, exact=True) for data in files]
    assert value == sn.merge(parts)
    assert value.meta.report.skipped == 1


def test_nulls_are_omitted_and_counted(spark):
    rows = [(1.0, [1, 2]), (None, [3, None]), (2.5, None)]
    found = engine.compute(spark.createDataFrame(rows, "x double, l array<int>"))
    assert (found["x"].count.tolist(), found["x"].omitted.tolist()) == ([2], [1])
    assert (found["l"].count.tolist(), found["l"].omitted.tolist()) == ([2, 1], [1, 2])


def test_a_partition_of_lists_that_are_all_null_is_omitted(spark):
    df = spark.range(0, 8, 1, 4).selectExpr("if(id < 2 or id > 5, null, array(1.0D, id)) as l")
    value = engine.compute(df, columns="l")
    assert (value.count.tolist(), value.omitted.tolist()) == ([4, 4], [4, 4])
    groups = spark.createDataFrame([("a", [1.0]), ("b", None)], "site string, l array<double>")
    rows = groups.groupBy("site").agg(engine.moments("l").alias("m")).collect()
    by_site = {row.site: row.m for row in rows}
    assert engine.from_bytes(by_site["a"]) == sn.measure([[1.0]])
    assert by_site["b"] is None


def test_statistics_of_groups(spark):
    data = {name: RNG.normal(k, 1 + k, (20, 3)) for k, name in enumerate("abc")}
    rows = [(name, row.tolist(), row[0].item()) for name, part in data.items() for row in part]
    df = spark.createDataFrame(rows, "site string, l array<double>, x double").repartition(7)
    lists, numbers = engine.moments("l", exact=True), engine.moments("x", exact=True)
    grouped = df.groupBy("site").agg(lists.alias("l"), numbers.alias("x")).collect()
    assert len(grouped) == 3
    for row in grouped:
        assert engine.from_bytes(row.l) == sn.measure(data[row.site], exact=True)
        assert engine.from_bytes(row.x) == sn.measure(data[row.site][:, :1], exact=True)


def test_empty_partitions_partitions_of_one_row_and_skewed_ones(spark):
    df = spark.range(0, 1000, 1, 8).where("id < 126 or id = 999")
    expected = sn.measure(np.r_[0:126, 999][:, None], exact=True)
    value = engine.compute(df, columns="id", exact=True)
    assert value == expected
    assert value.meta.report.read == 3


def test_a_partition_of_nan_propagates_or_is_omitted(spark):
    df = spark.range(0, 8, 1, 2).selectExpr("if(id < 4, double('NaN'), double(id)) as x")
    assert np.isnan(engine.compute(df, columns="x").mean[0])
    value = engine.compute(df, columns="x", nan_policy="omit")
    assert (value.count[0], value.omitted[0], value.mean[0]) == (4, 4, 5.5)


@pytest.mark.timeout(900)
def test_ten_thousand_partitions(spark):
    value = engine.compute(spark.range(0, 30_000, 1, 10_000), columns="id", exact=True)
    assert value == sn.measure(np.arange(30_000)[:, None], exact=True)
    assert value.meta.report.read == 10_000


def images_of(path):
    """Return what makes every row a thousand images, as bytes, wherever it runs."""

    def read(batches):
        import pyarrow as pa

        for batch in batches:
            for at in batch.column(0).to_pylist():
                part = engine_data.cifar(path, at * 1000, at * 1000 + 1000)
                yield pa.RecordBatch.from_pydict({"images": [part.tobytes()]})

    return read


def test_cifar_has_the_digest_of_one_process(spark, data):
    path = str(data / "cifar10" / "train_images.npy")
    df = spark.range(0, engine_data.IMAGES // 1000, 1, 6).mapInArrow(
        images_of(path), "images binary"
    )

    def decode(raw):
        return np.frombuffer(raw, np.uint8).reshape(-1, 32, 32, 3)

    value = engine.compute(df, columns="images", decode=decode, exact=True)
    assert value.digest() == engine_data.cifar_digest(path)


def test_robots_have_the_digest_of_one_process_and_are_within_the_bound(spark, data):
    rows = engine_data.robots(data)
    df = spark.read.parquet(*engine_data.episodes(data)).select("`observation.state`")
    value = engine.compute(df, columns="observation.state", exact=True)
    assert value == sn.measure(rows, exact=True)
    assert engine_data.within_the_bound(engine.compute(df, columns="observation.state"), rows)


def test_missing_values_of_a_netcdf_are_nulls(spark, data):
    path = engine_data.sea_path(data)

    def read(batches):
        import pyarrow as pa

        for batch in batches:
            for at in batch.column(0).to_pylist():
                month = pa.array(engine_data.sea(path, at).ravel(), from_pandas=True)
                row = pa.ListArray.from_arrays([0, len(month)], month)
                yield pa.RecordBatch.from_pydict({"tos": row})

    df = spark.range(0, 24, 1, 5).mapInArrow(read, "tos array<float>")
    value = engine.compute(df, columns="tos", channel_axis=None, exact=True)
    sea = engine_data.sea(path)
    assert value == sn.measure(sea, channel_axis=None, nan_policy="omit", exact=True)
    assert value.omitted[0] == 228_240


def failing(first_attempt, seen=None):
    """Return what calls `first_attempt` where a task of partition 3 runs for the first time."""

    def work(batches):
        context = pyspark.TaskContext.get()
        if context.partitionId() == 3 and seen is not None:
            seen.with_name(f"{seen.name}{context.attemptNumber()}").touch()
        if context.partitionId() == 3 and context.attemptNumber() == 0:
            first_attempt()
        yield from batches

    return work


def expected_of(rows, partitions):
    edges = [rows * k // partitions for k in range(partitions + 1)]
    parts = [np.arange(a, b)[:, None] for a, b in pairwise(edges)]
    return sn.merge([sn.measure(part) for part in parts])


def test_a_task_that_fails_on_its_first_attempt_counts_once(spark, tmp_path):
    def fail():
        (tmp_path / "failed").touch()
        raise OSError("the first attempt fails")

    df = spark.range(0, 1000, 1, 8).mapInArrow(failing(fail), "id long")
    value = engine.compute(df, columns="id")
    assert (tmp_path / "failed").exists()
    assert value.rows.tobytes() == expected_of(1000, 8).rows.tobytes()


def test_a_worker_killed_in_a_task_counts_once(spark, tmp_path):
    df = spark.range(0, 1000, 1, 8).mapInArrow(
        failing(lambda: engine_data.die_once(tmp_path, "killed")), "id long"
    )
    value = engine.compute(df, columns="id")
    assert (tmp_path / "killed").exists()
    assert value.rows.tobytes() == expected_of(1000, 8).rows.tobytes()


@pytest.mark.parametrize(
    ("make", "options", "error", "message"),
    [
        ("s double", {"columns": "z"}, ValueError, r"has no column 'z'; it has \['s'\]"),
        ("s string", {"columns": "s"}, TypeError, r"holds no numbers \(in partition \d, column"),
        ("s string", {}, ValueError, r"has no numeric columns, it has \['s'\]"),
        ("s double", {}, ValueError, "column 's' of spark DataFrame is empty"),
        ("s double", {"nan_policy": "no"}, ValueError, "nan_policy must be"),
    ],
)
def test_bad_columns_and_no_rows(spark, make, options, error, message):
    rows = [("a",)] if "string" in make else []
    with pytest.raises(error, match=message):
        engine.compute(spark.createDataFrame(rows, make), **options)


@pytest.mark.parametrize(
    ("partitions", "message"),
    [
        (1, "its lists are of 1 to 2 numbers.*in partition 0"),
        (2, "partition 1 has 2 channels but partition 0 has 1"),
    ],
)
def test_ragged_rows_are_named(spark, partitions, message):
    rows = spark.range(0, 4, 1, partitions)
    df = rows.selectExpr("if(id < 2, array(1.0D), array(1.0D, 2.0D)) as l")
    with pytest.raises(ValueError, match=message):
        engine.compute(df, columns="l")


def test_what_is_no_spark_data_frame_is_named():
    with pytest.raises(TypeError, match="expected a Spark DataFrame, got pandas"):
        engine.compute(pd.DataFrame({"x": [1.0]}))


def test_what_a_decode_function_raises_is_raised_here(spark):
    def decode(data):
        raise ValueError("no such picture")

    df = spark.createDataFrame([(b"x",)], "content binary")
    with pytest.raises(ValueError, match=r"no such picture .in partition"):
        engine.compute(df, columns="content", decode=decode)


@pytest.fixture
def machines(tmp_path):
    """A standalone cluster of two workers, each on an address of its own."""
    spark_class = Path(pyspark.__file__).with_name("bin") / "spark-class"
    port = free_port()
    url = f"spark://127.0.0.1:{port}"
    room = "org.apache.spark.deploy"
    commands = [[f"{room}.master.Master", "--host", "127.0.0.1", "--port", str(port)]]
    for k in (2, 3):
        limits = ["--cores", "1", "--memory", "1g", "--work-dir", str(tmp_path / f"work{k}")]
        commands.append([f"{room}.worker.Worker", "--host", f"127.0.0.{k}", *limits, url])
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    everyone = [
        subprocess.Popen(
            [
                str(spark_class),
                *c,
            ],
            **options,
        )
        for c in commands
    ]
    yield url
    for process in everyone:
        process.kill()
        process.wait()


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def test_an_executor_that_is_lost_and_a_task_that_runs_twice_count_once(machines, tmp_path):
    def kill_the_executor():
        daemon = Path(f"/proc/{os.getppid()}/status").read_text()
        executor = next(x.split()[1] for x in daemon.splitlines() if x.startswith("PPid"))
        os.kill(int(executor), signal.SIGKILL)

    def slow():
        time.sleep(20)

    quickly = {
        f"spark.speculation.{k}": v for k, v in {"interval": "100ms", "quantile": "0.5"}.items()
    }
    spark = session(machines, **{"spark.speculation": "true", **quickly})
    try:
        for first, name in ((slow, "slow"), (kill_the_executor, "killed")):
            df = spark.range(0, 1000, 1, 8).mapInArrow(failing(first, tmp_path / name), "id long")
            value = engine.compute(df, columns="id")
            # The attempt that was slow, or was killed, and one in its place: what Spark had begun
            # on the executor that is gone may have been the next one.
            attempts = {path.name for path in tmp_path.glob(f"{name}*")}
            assert f"{name}0" in attempts
            assert len(attempts) > 1
            assert value.rows.tobytes() == expected_of(1000, 8).rows.tobytes()
    finally:
        spark.stop()


CONNECT = """
import json, sys
from pyspark.sql import SparkSession
from streamnorm.engines import spark as engine

spark = SparkSession.builder.remote("local[2]").config("spark.ui.enabled", "false").getOrCreate()
value = engine.compute(spark.range(0, 1000, 1, 5), columns="id", exact=True)
df = spark.range(10).selectExpr("id", "id % 2 as g")
groups = df.groupBy("g").agg(engine.moments("id").alias("m")).collect()
try:
    engine.compute(spark.range(2).selectExpr("string(id) as w"), columns="w")
except TypeError as error:
    said = str(error)
means = {row.g: engine.from_bytes(row.m).mean[0] for row in groups}
print(json.dumps([type(spark).__module__, value.digest(), means, said]))
spark.stop()
"""


def test_connect_gives_what_classic_spark_gives():
    pytest.importorskip("grpc")
    done = subprocess.run(
        [sys.executable, "-c", CONNECT],
        capture_output=True, text=True, timeout=200, check=False,
        env=os.environ | {"PYSPARK_PYTHON": sys.executable},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    module, digest, means, said = json.loads(done.stdout.splitlines()[-1])
    assert module.startswith("pyspark.sql.connect")
    assert digest == sn.measure(np.arange(1000)[:, None], exact=True).digest()
    assert means == {"0": 4.0, "1": 5.0}
    assert "holds no numbers (in partition" in said


def test_workers_without_streamnorm_are_named(tmp_path):
    hidden = engine_data.without_streamnorm(tmp_path)
    spark = session("local[1]", **{"spark.executorEnv.PYTHONPATH": hidden})
    try:
        with pytest.raises(ModuleNotFoundError, match="the workers have no streamnorm: install"):
            engine.compute(spark.range(3), columns="id")
    finally:
        spark.stop()
