"""Ray: a real local cluster, data sets of every kind of column, refs, and workers that die."""

import os
import pickle
import threading

import numpy as np
import pytest

pytest.importorskip("ray")
pytest.importorskip("pandas")
pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}

import engine_data  # noqa: E402 - beside an engine
import pandas as pd  # noqa: E402 - of an engine
import pyarrow as pa  # noqa: E402 - the same
import ray  # noqa: E402 - an engine
import ray.data  # noqa: E402 - the same

import streamnorm as sn  # noqa: E402 - last
from streamnorm import StreamnormWarning  # noqa: E402 - the same
from streamnorm.engines import answers, partitions  # noqa: E402 - the same
from streamnorm.engines import ray as engine  # noqa: E402 - the same
from streamnorm.engines.ray import compute  # noqa: E402 - the same

RNG = np.random.default_rng(0)
HERE = os.path.dirname(__file__)


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": {"PYTHONPATH": HERE}},
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


def table(rows, blocks):
    """A data set with a scalar, a list, a tensor and a text column, and its arrays."""
    number = RNG.normal(100, 1, rows).astype(np.float32)
    places = RNG.normal(3, 1, (rows, 5))
    pictures = RNG.integers(0, 256, (rows, 4, 4, 3), np.uint8)
    arrow = pa.table({"number": number, "places": list(places), "word": ["x"] * rows})
    listed = ray.data.from_arrow(arrow).repartition(blocks)
    tensors = ray.data.from_numpy(np.array_split(pictures, blocks))
    return listed, tensors, {"number": number[:, None], "places": places, "pictures": pictures}


@pytest.mark.parametrize("blocks", [1, 4])
def test_columns_of_scalars_lists_and_tensors(blocks):
    listed, tensors, arrays = table(20, blocks)
    with pytest.warns(StreamnormWarning, match="not numeric: 'word'") as warned:
        found = compute(listed, exact=True)
    assert any(w.filename == __file__ for w in warned)
    assert list(found) == ["number", "places"]
    for name, value in found.items():
        assert value == sn.measure(arrays[name], exact=True)
        assert value.meta.report.read == blocks
    pictures = compute(tensors, columns="data", channel_axis=-1, exact=True)
    assert pictures == sn.measure(arrays["pictures"], channel_axis=-1, exact=True)


def test_tensors_of_different_shapes():
    rows = [{"image": RNG.integers(0, 256, (4 + k, 5, 3), np.uint8)} for k in range(4)]
    value = compute(ray.data.from_items(rows), columns="image", channel_axis=-1, exact=True)
    parts = [sn.measure(row["image"], channel_axis=-1, exact=True) for row in rows]
    assert value == sn.merge(parts)


def test_rounded_values_are_merged_in_the_order_of_blocks_and_the_data_set_is_as_before():
    data = RNG.normal(50, 1, (900, 3)).astype(np.float32)
    pieces = np.array_split(data, 9)
    dataset = ray.data.from_numpy(pieces).map_batches(late, batch_size=None)
    value = compute(dataset, columns="data")
    expected = sn.merge([sn.measure(piece) for piece in pieces])
    assert value.rows.tobytes() == expected.rows.tobytes()
    assert dataset.context.execution_options.preserve_order is False


def test_no_block_is_left_out_because_it_failed_whatever_the_context_says():
    dataset = ray.data.from_numpy([np.ones((3, 2)), np.full((3, 2), np.nan)])
    dataset.context.max_errored_blocks = -1
    try:
        with pytest.raises(ValueError, match=r"NaN in channel\(s\) 0, 1"):
            compute(dataset, columns="data", nan_policy="raise")
        assert dataset.context.max_errored_blocks == -1
    finally:
        dataset.context.max_errored_blocks = 0


def test_options_of_a_context_are_held_by_one_at_a_time():
    context = ray.data.DataContext()
    inside, go_on = threading.Event(), threading.Event()

    def hold():
        with engine._all_in_order(context):
            inside.set()
            go_on.wait(20)

    def follow():
        with engine._all_in_order(context):
            pass

    threads = [threading.Thread(target=target) for target in (hold, follow)]
    threads[0].start()
    assert inside.wait(20)
    threads[1].start()
    threads[1].join(0.2)
    assert threads[1].is_alive()
    assert context.execution_options.preserve_order
    go_on.set()
    for thread in threads:
        thread.join()
    assert not context.execution_options.preserve_order


def test_nan_of_pandas_is_a_number_as_everywhere():
    frame = pd.DataFrame({"x": [1.0, np.nan, 3.0], "word": list("abc")})
    assert np.isnan(compute(ray.data.from_pandas(frame), columns="x").mean[0])
    with pytest.raises(ValueError, match=r"NaN in channel\(s\) 0"):
        compute(ray.data.from_pandas(frame), columns="x", nan_policy="raise")


def test_blocks_of_lists_that_are_all_null_are_omitted():
    value = compute(lists([None, None], [[1.0, 2.0]], [None]), columns="x")
    assert (value.count.tolist(), value.omitted.tolist()) == ([1, 1], [3, 3])


def test_what_a_task_gives_of_a_block_and_of_objects_are_values_of_them():
    rows = RNG.normal(3, 1, (6, 2))
    how = partitions.How(channel_axis=1)
    found = engine._block(pa.table({"x": list(rows)}), ["x"], how)
    assert pickle.loads(found["found"][0])["x"].value == sn.measure(rows)
    parts = [engine._object(part, how, "object") for part in (rows[:2], rows[2:])]
    assert engine._merged(*parts).value == sn.merge([sn.measure(rows[:2]), sn.measure(rows[2:])])


def test_a_library_that_is_missing_is_named_with_its_extra():
    with pytest.raises(ImportError, match=r"needs nowhere .* pip install 'streamnorm\[ray\]'"):
        answers.required("nowhere.to_be_found", "ray")


def late(batch):
    """Let earlier blocks be ready later."""
    import time

    time.sleep(0.2 if batch["data"][0, 0] > 50 else 0.0)
    return batch


def test_nulls_and_partitions_of_nothing_but_nulls_are_omitted():
    parts = [
        pa.table({"x": pa.array(v, pa.float64())}) for v in ([1, None], [None, None], [4.0, 6])
    ]
    value = compute(ray.data.from_arrow(parts), columns="x", exact=True)
    assert value == sn.measure(
        np.ma.masked_invalid([[1, np.nan, np.nan, np.nan, 4, 6]]).T, exact=True
    )
    assert value.omitted[0] == 3


def test_a_block_of_nan_propagates_or_is_omitted():
    dataset = ray.data.from_numpy([np.ones((3, 2)), np.full((3, 2), np.nan)])
    assert np.isnan(compute(dataset, columns="data").mean).all()
    omitted = compute(dataset, columns="data", nan_policy="omit")
    assert (omitted.count.tolist(), omitted.omitted.tolist()) == ([3, 3], [3, 3])


def test_empty_blocks_and_blocks_of_one_row_and_skewed_ones():
    sizes = [0, 1, 500, 0, 1, 3]
    data = RNG.normal(9, 1, (sum(sizes), 2))
    pieces = np.split(data, np.cumsum(sizes)[:-1])
    dataset = ray.data.from_numpy(pieces).map_batches(lambda b: b, batch_size=None)
    assert compute(dataset, columns="data", exact=True) == sn.measure(data, exact=True)


def test_ten_thousand_blocks():
    dataset = ray.data.range(10_000, override_num_blocks=10_000)
    value = compute(dataset, columns="id", exact=True)
    assert value == sn.measure(np.arange(10_000)[:, None], exact=True)
    assert value.meta.report.read == 10_000


def test_refs_are_measured_and_merged_by_a_tree_of_tasks_and_never_written_to():
    arrays = [RNG.normal(3, 1, (k + 1, 4)).astype(np.float32) for k in range(30)]
    refs = [ray.put(array) for array in arrays]
    value = compute(refs)
    expected = sn.merge([sn.measure(array) for array in arrays])
    assert value.rows.tobytes() == expected.rows.tobytes()
    assert compute(refs, exact=True) == sn.measure(np.concatenate(arrays), exact=True)
    assert not ray.get(refs[0]).flags.writeable


def test_cifar_has_the_digest_of_one_process(data):
    path = str(data / "cifar10" / "train_images.npy")

    def read(batch):
        at = int(batch["id"][0]) * 1000
        return {"image": engine_data.cifar(path, at, at + 1000)}

    blocks = engine_data.IMAGES // 1000
    dataset = ray.data.range(blocks, override_num_blocks=blocks).map_batches(read, batch_size=1)
    value = compute(dataset, columns="image", channel_axis=-1, exact=True)
    assert value.digest() == engine_data.cifar_digest(path)


def test_robots_have_the_digest_of_one_process_and_are_within_the_bound(data):
    rows = engine_data.robots(data)
    dataset = ray.data.read_parquet(engine_data.episodes(data), columns=["observation.state"])
    found = compute(dataset, exact=True)
    assert found["observation.state"] == sn.measure(rows, exact=True)
    assert engine_data.within_the_bound(compute(dataset)["observation.state"], rows)


def test_missing_values_of_a_netcdf(data):
    path = engine_data.sea_path(data)
    months = ray.data.range(24, override_num_blocks=5)
    dataset = months.map_batches(lambda b: {"tos": engine_data.sea(path, list(b["id"]))})
    value = compute(dataset, columns="tos", channel_axis=None, nan_policy="omit", exact=True)
    sea = engine_data.sea(path)
    assert value == sn.measure(sea, channel_axis=None, nan_policy="omit", exact=True)
    assert value.omitted[0] == 228_240


@pytest.mark.parametrize("refs", [False, True])
def test_a_worker_killed_in_a_task_is_replaced_and_every_block_counts_once(tmp_path, refs):
    data = RNG.normal(7, 1, (20, 50, 3)).astype(np.float32)

    def dies(array, at):
        engine_data.die_once(tmp_path, "killed") if at == 5 else None
        return array

    if refs:
        task = ray.remote(dies)
        value = compute([task.remote(part, at) for at, part in enumerate(data)])
    else:
        numbered = ray.data.range(20, override_num_blocks=20)
        dataset = numbered.map_batches(lambda b: {"x": dies(data[b["id"][0]], b["id"][0])})
        value = compute(dataset, columns="x")
    assert (tmp_path / "killed").exists()
    expected = sn.merge([sn.measure(part) for part in data])
    assert value.rows.tobytes() == expected.rows.tobytes()
    assert value.meta.report.read == 20


def lists(*rows):
    return ray.data.from_arrow([pa.table({"x": pa.array(r, pa.list_(pa.float64()))}) for r in rows])


@pytest.mark.parametrize(
    ("make", "options", "error", "message"),
    [
        (lambda: 3, {}, TypeError, "cannot read a ray int; expected a ray.data.Dataset, or a list"),
        (lambda: [3], {}, TypeError, "expected a ray.data.Dataset, or a list of refs"),
        (lambda: [ray.put(np.ones((2, 2)))] * 2, {}, ValueError, "a ref is there twice"),
        (
            lambda: ray.data.range(3),
            {"columns": "x"},
            ValueError,
            r"no column 'x'; it has \['id'\]",
        ),
        (lambda: ray.data.range(0), {}, ValueError, "is empty, there is nothing to measure"),
        (lambda: ray.data.range(3), {"nan_policy": "no"}, ValueError, "nan_policy must be"),
        (
            lambda: ray.data.from_items([{"w": "a"}]),
            {"columns": "w"},
            TypeError,
            "holds no numbers .in a block of 1 rows, column 'w'",
        ),
        (
            lambda: lists([[1.0], [2.0]], [[1.0, 2.0]]),
            {},
            ValueError,
            "block 1 has 2 channels but block 0 has 1",
        ),
        (
            lambda: lists([[1.0], [2.0, 3.0]]),
            {},
            ValueError,
            "lists are of 1 to 2 numbers",
        ),
        (
            lambda: [ray.put(np.ones((2, k))) for k in (3, 3, 4)],
            {},
            ValueError,
            "^object 2 has 4 channels but object 0 has 3",
        ),
    ],
)
def test_bad_input(make, options, error, message):
    with pytest.raises(error, match=message):
        compute(make(), **options)


def test_blocks_of_different_dtypes_are_warned_of():
    dataset = ray.data.from_numpy([np.ones((2, 2), "u1")]).union(
        ray.data.from_numpy([np.ones((2, 2), "f4")])
    )
    with pytest.warns(StreamnormWarning, match=r"different dtypes, uint8\+float32") as warned:
        compute(dataset, columns="data")
    assert any(w.filename == __file__ for w in warned)


def test_workers_without_streamnorm_are_named(tmp_path):
    ray.shutdown()
    hidden = engine_data.without_streamnorm(tmp_path)
    try:
        ray.init(
            num_cpus=1,
            include_dashboard=False,
            log_to_driver=False,
            runtime_env={"env_vars": {"PYTHONPATH": hidden}},
        )
        with pytest.raises(ModuleNotFoundError, match="the workers have no streamnorm: install"):
            compute(ray.data.range(3), columns="id")
        with pytest.raises(ModuleNotFoundError, match="the workers have no streamnorm: install"):
            compute([ray.put(np.ones((2, 2)))])
    finally:
        ray.shutdown()
