"""Dask: a real cluster of processes, arrays of any chunking, frames, bags, and workers that die."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip("distributed")
pytestmark = [
    pytest.mark.engine,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]

import dask  # noqa: E402 - an engine
import dask.array as da  # noqa: E402 - the same
import dask.bag as db  # noqa: E402 - the same
import dask.dataframe as dd  # noqa: E402 - the same
import distributed  # noqa: E402 - the same
import engine_data  # noqa: E402 - beside an engine
import pandas as pd  # noqa: E402 - of an engine
import xarray as xr  # noqa: E402 - the same

import streamnorm as sn  # noqa: E402 - last
from streamnorm import StreamnormWarning  # noqa: E402 - the same
from streamnorm.engines import dask as engine  # noqa: E402 - the same
from streamnorm.engines.dask import compute  # noqa: E402 - the same

RNG = np.random.default_rng(0)
X = RNG.normal(5, 2, (60, 6, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def cluster():
    """Two processes with a nanny each."""
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def same_bits(value, other):
    return value == other and value.rows.tobytes() == other.rows.tobytes()


CHUNKS = [
    (60, 6, 8, 8),
    (7, 6, 8, 8),
    (1, 6, 8, 8),
    (7, 4, 5, 8),
    (60, 1, 8, 8),
    ((50, 0, 10), (6,), (8,), (3, 0, 5)),
]


@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("axis", [1, -1, (1, 3), (3, 1), None])
def test_arrays_of_any_chunking_and_any_kept_axes(chunks, axis):
    array = da.from_array(X, chunks=chunks)
    value = compute(array, channel_axis=axis, exact=True)
    expected = sn.measure(X, channel_axis=axis, exact=True)
    assert value == expected
    assert value.channel_shape == expected.channel_shape
    np.testing.assert_array_equal(value.minimum, expected.minimum)


@pytest.mark.parametrize("split_every", [2, 4, 8, 64])
def test_rounded_values_have_the_bits_of_a_merge_in_the_order_of_chunks(split_every):
    value = compute(da.from_array(X, chunks=(7, 6, 8, 8)), split_every=split_every)
    expected = sn.merge([sn.measure(X[k : k + 7]) for k in range(0, 60, 7)])
    assert same_bits(value, expected)
    assert value.meta.report.read == 9


def test_wide_and_narrow_sums_of_pieces_of_the_channels_are_joined():
    table = da.concatenate(
        [da.ones((5, 2), chunks=2, dtype="f4"), da.full((5, 1), 1e300, chunks=2)], axis=1
    )
    pieces = table.map_blocks(lambda b: b if b[0, 0] > 1 else b.astype("f4"), dtype="f8")
    with pytest.warns(StreamnormWarning, match="different dtypes"):
        value = compute(pieces, exact=True)
    assert value == sn.measure(table.compute(), exact=True)


def test_unknown_sizes_of_chunks():
    array = da.from_array(X, chunks=(7, 6, 8, 8))
    chosen = array[array[:, 0, 0, 0] > 5]
    assert np.isnan(chosen.shape[0])
    expected = sn.measure(X[X[:, 0, 0, 0] > 5], exact=True)
    assert compute(chosen, exact=True) == expected


def test_nothing_runs_until_a_lazy_value_is_computed_with_others():
    ran = []
    array = da.from_array(X, chunks=(30, 6, 8, 8)).map_blocks(
        lambda b: ran.append(len(b)) or b, dtype=X.dtype, meta=np.empty((0, 0, 0, 0), X.dtype)
    )
    ran.clear()
    lazy = compute(array, lazy=True)
    assert not ran
    value, total = dask.compute(lazy, array.sum())
    assert same_bits(value, compute(array))
    assert total == pytest.approx(X.sum(dtype="f8"), rel=1e-5)


def test_masked_chunks_omit_what_is_masked():
    masked = np.ma.masked_greater(X, 7)
    value = compute(da.from_array(masked, chunks=(7, 6, 8, 8)), exact=True)
    assert value == sn.measure(masked, exact=True)
    assert value.meta.report.omitted == int((X > 7).sum())


@pytest.fixture
def frame():
    return pd.DataFrame(
        {
            "a": [1.0, 2.0, np.nan, 4.0],
            "b": [1, 2, 3, 5],
            "word": list("wxyz"),
            "since": pd.to_timedelta([1, 2, 3, 4], "s"),
            "whole": pd.array([1, None, 3, 4], dtype="Int64"),
            "list": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]],
        }
    )


def test_a_frame_gives_every_numeric_column_and_names_the_others(frame):
    with pytest.warns(StreamnormWarning, match="not numeric: 'word', 'since', 'list'") as warned:
        found = compute(dd.from_pandas(frame, npartitions=3))
    assert warned[0].filename == __file__
    assert list(found) == ["a", "b", "whole"]
    assert np.isnan(found["a"].mean[0])
    assert found["b"].mean[0] == 2.75
    assert (found["whole"].count[0], found["whole"].omitted[0]) == (3, 1)


def test_a_column_by_name_a_series_and_a_list_column(frame):
    parts = dd.from_pandas(frame, npartitions=2)
    with dask.config.set({"dataframe.convert-string": False}):
        lists = compute(dd.from_pandas(frame, npartitions=2), columns="list")
    assert lists == sn.measure(np.array(frame["list"].tolist()))
    assert compute(parts, columns="b") == compute(parts["b"]) == compute(parts, columns=["b"])["b"]
    assert compute(parts, columns="a", nan_policy="omit").omitted[0] == 1
    assert dask.compute(compute(parts, columns="b", lazy=True))[0].mean[0] == 2.75


def test_bags_and_delayed_parts():
    batches = [np.full((4, 3), float(k)) for k in range(7)]
    expected = sn.measure(np.concatenate(batches), exact=True)
    assert compute(db.from_sequence(batches, npartitions=3), exact=True) == expected
    parts = [dask.delayed(batch) for batch in batches]
    assert compute(parts, exact=True) == expected
    assert compute(parts[1], exact=True) == sn.measure(batches[1], exact=True)


def test_partitions_without_rows_and_of_one_row_change_nothing():
    rows = [0, 1, 0, 5, 0, 1]
    data = np.split(RNG.normal(3, 1, (7, 4)), np.cumsum(rows)[:-1])
    parts = [dask.delayed(part) for part in data]
    assert compute(parts, exact=True) == sn.measure(np.concatenate(data), exact=True)
    bag = db.from_delayed([dask.delayed(list)([]), dask.delayed([data[3]])])
    assert compute(bag) == sn.measure(data[3])


def test_a_partition_of_nan_is_omitted_or_propagates():
    data = np.concatenate([np.ones((4, 2)), np.full((4, 2), np.nan)])
    array = da.from_array(data, chunks=(4, 2))
    assert np.isnan(compute(array).mean).all()
    assert compute(array, nan_policy="omit").omitted.tolist() == [4, 4]
    with pytest.raises(ValueError, match=r"NaN in channel\(s\) 0, 1 .* \(in chunk \(1, 0\)\)"):
        compute(array, nan_policy="raise")


def test_ten_thousand_partitions_of_skewed_sizes():
    sizes = np.where(np.arange(10_000) % 1000 == 0, 500, 1)
    data = RNG.normal(100, 1, (sizes.sum(), 2)).astype(np.float32)
    array = da.from_array(data, chunks=(tuple(map(int, sizes)), (2,)))
    value = compute(array)
    expected = sn.merge([sn.measure(part) for part in np.split(data, np.cumsum(sizes)[:-1])])
    assert same_bits(value, expected)
    assert value.meta.report.read == 10_000


def test_cifar_on_a_cluster_has_the_digest_of_one_process(cluster, data):
    path = data / "cifar10" / "train_images.npy"
    read = dask.delayed(engine_data.cifar)
    images = da.concatenate(
        [
            da.from_delayed(read(str(path), at, at + 1000), (1000, 32, 32, 3), "u1")
            for at in range(0, engine_data.IMAGES, 1000)
        ]
    )
    value = compute(images.rechunk((1000, 32, 16, 2)), channel_axis=-1, exact=True)
    assert value.digest() == engine_data.cifar_digest(path)


def test_robots_on_a_cluster_are_within_the_bound(cluster, data):
    with dask.config.set({"dataframe.convert-string": False}):
        frame = dd.read_parquet(engine_data.episodes(data), columns=["observation.state"])
    rows = engine_data.robots(data)
    assert compute(frame, columns="observation.state", exact=True) == sn.measure(rows, exact=True)
    assert engine_data.within_the_bound(compute(frame, columns="observation.state"), rows)


def test_missing_values_of_a_netcdf_are_never_data(cluster, data):
    path = engine_data.sea_path(data)
    with xr.open_dataset(path, chunks={"time": 5}, decode_times=False) as file:
        value = compute(file, columns="tos", exact=True)
        by_month = compute(file["tos"], channel_axis="time", exact=True)
        memory = compute(file["tos"].load(), channel_axis=None, exact=True)
    sea = engine_data.sea(path)
    expected = sn.measure(sea, channel_axis=None, exact=True, nan_policy="omit")
    assert value == memory == expected
    assert (value.count[0], value.omitted[0]) == (734_400 - 228_240, 228_240)
    assert by_month == sn.measure(sea, channel_axis=0, exact=True, nan_policy="omit")


def test_a_worker_killed_in_a_task_is_replaced_and_every_chunk_counts_once(cluster, tmp_path):
    data = RNG.normal(7, 1, (40, 1000, 3)).astype(np.float32)

    def dies(block, block_info=None):
        engine_data.die_once(tmp_path, "killed") if block_info[0]["chunk-location"][0] == 5 else 0
        return block

    before = set(cluster.run(os.getpid).values())
    array = da.from_array(data, chunks=(2, 1000, 3)).map_blocks(dies, dtype=data.dtype)
    rounded = compute(array, channel_axis=-1)
    assert (tmp_path / "killed").exists()
    assert set(cluster.run(os.getpid).values()) != before
    assert same_bits(rounded, compute(da.from_array(data, chunks=(2, 1000, 3)), channel_axis=-1))
    assert rounded.meta.report.read == 20


DRIVER = """
import sys, time
import dask.array as da, distributed, numpy as np
from streamnorm.engines.dask import compute

def slow(block):
    time.sleep(0.05)
    return block

if __name__ == "__main__":
    with distributed.Client(sys.argv[1]):
        rows = da.arange(40_000, chunks=1000).reshape(-1, 4).map_blocks(slow)
        print("begun", flush=True)
        value = compute(rows, exact=True)
        print(value.digest(), value.meta.report.read)
"""


def test_a_driver_that_is_killed_and_started_again_counts_everything_once(cluster, tmp_path):
    (tmp_path / "driver.py").write_text(DRIVER)
    command = [sys.executable, str(tmp_path / "driver.py"), cluster.scheduler.address]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as first:
        assert first.stdout.readline() == b"begun\n"
        time.sleep(0.5)
        first.kill()
    assert first.returncode == -signal.SIGKILL
    again = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    expected = sn.measure(np.arange(40_000).reshape(-1, 4), exact=True).digest()
    assert again.stdout.split() == ["begun", expected, "40"]


def test_a_cluster_is_asked_once_what_its_workers_have(cluster, monkeypatch):
    asked, run = [], cluster.run
    monkeypatch.setattr(cluster, "run", lambda *a, **k: asked.append(a) or run(*a, **k))
    engine._ASKED.clear()
    for _ in range(2):
        compute(da.ones((4, 2), chunks=2))
    assert len(asked) == 1


def test_a_worker_that_does_not_answer_is_left_to_dask(cluster, monkeypatch):
    def silent(*_, **options):
        if options.get("on_error") != "return":
            raise OSError
        return {"tcp://gone": OSError()}

    monkeypatch.setattr(cluster, "run", silent)
    engine._ASKED.clear()
    assert compute(da.ones((4, 2), chunks=2)) == sn.measure(np.ones((4, 2)))


def test_workers_without_streamnorm_are_named(tmp_path):
    environment = os.environ | {"PYTHONPATH": engine_data.without_streamnorm(tmp_path)}
    command = [sys.executable, "-m", "distributed.cli.dask_worker", "--no-nanny", "--no-dashboard"]
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=":0") as cluster,
        distributed.Client(cluster, set_as_default=True) as client,
        subprocess.Popen([*command, cluster.scheduler_address], env=environment) as worker,
    ):
        client.wait_for_workers(1)
        with pytest.raises(ModuleNotFoundError, match="the workers have no streamnorm: install"):
            compute(da.ones((4, 2), chunks=2))
        worker.terminate()


@pytest.mark.parametrize(
    ("make", "options", "error", "message"),
    [
        (lambda: np.ones((4, 2)), {}, TypeError, "cannot read a numpy ndarray; expected a Dask"),
        (list, {}, TypeError, "expected a Dask array"),
        (lambda: da.ones((4, 2)), {"columns": "a"}, ValueError, "columns= does not apply"),
        (lambda: da.ones((4, 2)), {"channel_axis": 5}, ValueError, "channel_axis 5 does not exist"),
        (lambda: [da.ones((4, 2))], {}, TypeError, "expected a Dask array"),
        (lambda: da.ones((0, 2)), {}, ValueError, "is empty, there is nothing to measure"),
        (lambda: da.ones((4, 2)), {"channel_axis": "x"}, TypeError, "channel_axis must be an int"),
        (lambda: da.ones((4, 2)), {"split_every": 1}, ValueError, "number of at least 2, got 1"),
        (lambda: da.ones((4, 2)), {"split_every": None}, ValueError, "of at least 2, got None"),
        (
            dd.from_pandas(pd.DataFrame({"a": [1.0]}), npartitions=1)["a"].sum,
            {},
            TypeError,
            "cannot read a dask Scalar; expected a Dask array",
        ),
        (lambda: [dask.delayed(np.ones)((2, 2))] * 2, {}, ValueError, "part 1 .* is there twice"),
        (lambda: da.ones((4, 2)), {"nan_policy": "no"}, ValueError, "nan_policy must be"),
        (lambda: da.ones(4), {}, ValueError, "which axis"),
        (
            lambda: [dask.delayed(np.ones)((2, k)) for k in (3, 3, 4)],
            {},
            ValueError,
            "partition 2 has 4 channels but partition 0 has 3",
        ),
        (lambda: db.from_sequence([], npartitions=1), {}, ValueError, "is empty, there is nothing"),
        (lambda: db.from_sequence(["a"]), {}, TypeError, r"\(in partition 0\)"),
    ],
)
def test_bad_input(make, options, error, message):
    with pytest.raises(error, match=message):
        compute(make(), **options)


def test_names_of_parts_are_no_arguments():
    parts = [dask.delayed(np.ones)((2, 3), dask_key_name=name) for name in ("auto", "partition 0")]
    assert compute(parts) == sn.measure(np.ones((4, 3)))


def test_an_error_in_a_piece_of_the_channels_says_how_they_are_counted():
    data = np.ones((4, 3))
    data[1, 2] = np.nan
    with pytest.raises(
        ValueError, match=r"channel\(s\) 0 .*chunk \(0, 2\), whose channels are cou"
    ):
        compute(da.from_array(data, chunks=(4, 1)), nan_policy="raise")


def test_an_array_with_names_is_measured_as_one_without():
    array = xr.DataArray(da.from_array(X, chunks=(30, 2, 8, 8)))
    assert compute(array, exact=True) == sn.compute(array, exact=True) == sn.measure(X, exact=True)
    with pytest.raises(ValueError, match="which axis of an array of shape"):
        compute(array[:, 0])


def test_bad_columns(frame):
    parts = dd.from_pandas(frame, npartitions=2)
    with pytest.raises(ValueError, match=r"has no column 'z'; it has \['a', 'b', 'word'"):
        compute(parts, columns=["a", "z"])
    with pytest.raises(TypeError, match=r"holds no numbers \(in partition \d of column 'word'"):
        compute(parts, columns="word")
    with pytest.raises(ValueError, match="has no numeric columns"):
        compute(parts[["word"]])


def test_ragged_rows_name_the_partition():
    with dask.config.set({"dataframe.convert-string": False}):
        frame = dd.from_pandas(
            pd.DataFrame({"x": [[1.0], [2.0], [3.0], [4.0, 5.0]]}), npartitions=2
        )
        with pytest.raises(
            ValueError, match=r"lists are of 1 to 2 numbers.*in partition 1 of column 'x'"
        ):
            compute(frame, columns="x")


def test_partitions_of_different_dtypes_are_warned_of():
    parts = [dask.delayed(np.ones)((2, 2), "u1"), dask.delayed(np.ones)((2, 2), "f4")]
    with pytest.warns(StreamnormWarning, match=r"different dtypes, uint8\+float32") as warned:
        compute(parts)
    assert warned[0].filename == __file__
