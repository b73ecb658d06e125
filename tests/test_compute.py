"""compute: every source, any number of workers, nothing lost in silence."""

import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

import streamnorm as sn
from streamnorm import StreamnormWarning, threads

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def table():
    return np.random.default_rng(0).normal(7, 2, (5000, 3, 20, 20)).astype(np.float32)


@pytest.mark.parametrize("workers", [1, 2, 7, 16])
def test_the_number_of_workers_changes_no_bit_although_items_finish_out_of_order(table, workers):
    sizes = np.random.default_rng(3).integers(1, 60, 100)
    delays = random.Random(workers)

    def late(batch):
        time.sleep(delays.random() * 0.004)
        return batch

    batches = np.split(table, np.cumsum(sizes))
    expected = sn.merge(sn.measure(batch) for batch in batches)
    assert sn.compute(batches, workers=workers, transform=late) == expected


def test_results_come_in_order_with_few_items_under_way():
    begun = []

    def work(k):
        begun.append(k)
        time.sleep(0.002 * (k % 3))
        return k

    ahead = 0
    for done, result in enumerate(threads.in_order(work, range(200), 4)):
        assert result == done
        ahead = max(ahead, len(begun) - done)
    assert ahead <= 4 * threads.AHEAD + 1


@pytest.mark.parametrize("suffix", [".npy", ".npz", "-compressed.npz"])
def test_numpy_files(table, tmp_path, suffix):
    path = tmp_path / f"data{suffix}"
    save = {".npy": np.save, ".npz": lambda p, x: np.savez(p, only=x)}
    save.get(suffix, lambda p, x: np.savez_compressed(p, only=x))(path, table)
    assert sn.compute(path) == sn.compute(table)


def test_an_npz_member_is_chosen_by_select(tmp_path):
    np.savez(tmp_path / "two.npz", a=np.zeros((4, 2)), b=np.ones((4, 2)))
    assert sn.compute(tmp_path / "two.npz", select="b").mean.tolist() == [1.0, 1.0]
    with pytest.raises(ValueError, match=r"\['a', 'b'\]; pass select="):
        sn.compute(tmp_path / "two.npz")


@pytest.mark.parametrize("axis", [0, 1, (0, 1), None])
def test_arrays_are_sliced_along_an_axis_that_is_not_kept(axis, tmp_path):
    x = RNG.normal(size=(3, 50_000, 20))
    expected = sn.measure(x, channel_axis=axis)
    np.save(tmp_path / "x.npy", np.asfortranarray(x))
    for source in (x, tmp_path / "x.npy"):
        got = sn.compute(source, channel_axis=axis)
        np.testing.assert_allclose(got.std(), expected.std(), rtol=1e-12)
        assert (got.count == expected.count).all()


def test_a_fortran_ordered_member_of_an_npz(tmp_path):
    x = np.asfortranarray(RNG.normal(size=(60, 4)))
    np.savez(tmp_path / "x.npz", x=x)
    assert sn.compute(tmp_path / "x.npz") == sn.compute(x)


def test_several_npy_files_by_list_and_by_glob(tmp_path):
    parts = np.arange(24.0).reshape(3, 4, 2)
    paths = [tmp_path / f"{k}.npy" for k in range(3)]
    for path, part in zip(paths, parts, strict=True):
        np.save(path, part)
    expected = sn.merge(sn.measure(part) for part in parts)
    assert sn.compute(paths) == sn.compute(str(tmp_path / "*.npy")) == expected


def test_batches_may_be_tuples_dicts_or_lists():
    x = np.ones((4, 2))
    assert sn.compute([(x, "label")]) == sn.compute([x])
    assert sn.compute([[x, x * 2]], select=1).mean.tolist() == [2.0, 2.0]
    assert sn.compute([{"image": x, "y": 1}], select="image") == sn.compute([x])
    assert sn.compute([(x, 3)], select=lambda b: b[0] * b[1]).mean.tolist() == [3.0, 3.0]
    assert sn.compute([{"image": x, "y": 1}], select="image") == sn.compute([{"image": x}])["image"]
    with pytest.raises(ValueError, match="does not apply to batches of type ndarray"):
        sn.compute([x], select="image")


def test_indices_choose_rows(table, tmp_path):
    chosen = [5, 3, 4999]
    np.save(tmp_path / "x.npy", table)
    expected = sn.measure(table[chosen])
    assert sn.compute(table, indices=chosen) == expected
    assert sn.compute(tmp_path / "x.npy", indices=chosen) == expected


@pytest.mark.parametrize(("indices", "message"), [([5], "between 0 and 3"), ([1, 1], "twice")])
def test_indices_that_lose_or_double_are_refused(indices, message):
    with pytest.raises(ValueError, match=message):
        sn.compute(np.zeros((4, 2)), indices=indices)


def halved(batch):
    return batch / 2


def test_a_transform_is_applied_and_recorded_by_name():
    total = sn.compute([np.full((4, 2), 8.0)], transform=halved)
    assert total.mean.tolist() == [4.0, 4.0]
    assert total.meta.provenance.passes[0].transform.endswith(".halved")


def test_progress_is_called_with_items_done_and_total():
    calls = []
    sn.compute([np.zeros((1, 1))] * 3, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_a_bar_is_shown_on_request(capsys):
    sn.compute([np.zeros((1, 1))] * 3, progress=True)
    assert "iterable: 100%" in capsys.readouterr().err


def test_no_bar_where_stderr_is_no_terminal(capsys):
    sn.compute([np.zeros((1, 1))] * 3)
    assert capsys.readouterr().err == ""


def test_what_happened_is_an_object():
    batches = [np.array([[1.0], [np.nan]]), np.array([[2.0]], np.float32)]
    total = sn.compute(iter(batches), nan_policy="omit")
    report = total.meta.report
    assert (report.read, report.skipped, report.ignored, report.omitted) == (2, 0, 0, 1)
    assert report.seconds > 0
    assert total.meta.provenance.passes[0].dtype == "float64+float32"


@pytest.mark.parametrize(
    ("shape", "axis"), [((5, 4), 1), ((5, 3, 8, 8), 1), ((2, 3, 4, 5, 6), 1), ((5, 3, 8, 3), 1)]
)
def test_auto_takes_axis_1_of_2d_and_of_4d_and_up(shape, axis):
    x = RNG.normal(size=shape)
    assert sn.compute(x) == sn.measure(x, channel_axis=axis)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((5,), "which axis"), ((5, 4, 3), "which axis"), ((9, 32, 32, 3), "pass channel_axis=-1")],
)
def test_auto_asks_where_it_would_be_a_guess(shape, message):
    with pytest.raises(ValueError, match=message):
        sn.compute(np.zeros(shape))


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ([], ValueError, "empty"),
        (np.zeros((0, 3)), ValueError, "empty"),
        ("no/such/file.npy", FileNotFoundError, "does not exist"),
        ("no/such/*.npy", FileNotFoundError, "does not exist"),
        (["no/such.png"], FileNotFoundError, "does not exist"),
        (3, TypeError, "cannot read a int"),
        ([np.zeros((2, 3)), np.zeros((2, 4))], ValueError, "batch 1 has 4 channels"),
        ([np.zeros((2, 3), complex)], TypeError, "complex128"),
    ],
)
def test_bad_sources(source, error, message):
    with pytest.raises(error, match=message):
        sn.compute(source)


def test_an_error_in_a_batch_names_the_batch():
    with pytest.raises(ValueError, match="NaN") as caught:
        sn.compute([np.zeros((1, 1)), np.array([[np.nan]])], nan_policy="raise")
    assert caught.value.__notes__ == ["in batch 1"]


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"garbage"])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_broken_numpy_files_are_named(tmp_path, content, suffix):
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"broken{suffix} cannot be read"):
        sn.compute(path)


def test_npy_files_that_cannot_be_read_may_be_skipped(tmp_path):
    paths = [str(tmp_path / f"{k}.npy") for k in range(3)]
    for k, path in enumerate(paths):
        np.save(path, np.full((4, 2), float(k)))
    with open(paths[1], "r+b") as file:
        file.truncate(100)
    with pytest.raises(ValueError, match=r"1\.npy cannot be read as a \.npy file, was it cut off"):
        sn.compute(paths)
    with pytest.warns(StreamnormWarning, match=r"1 item\(s\) could not be read, .*1\.npy"):
        value = sn.compute(paths, on_error="skip")
    assert (value.meta.report.read, value.meta.report.skipped) == (2, 1)
    assert value.mean.tolist() == [1.0, 1.0]
    with pytest.raises(ValueError, match="channel_axis 5 does not exist"):
        sn.compute(paths, on_error="skip", channel_axis=5)


@pytest.mark.parametrize("order", ["C", "F"])
def test_there_may_be_more_files_than_may_be_open(tmp_path, order):
    paths = [str(tmp_path / f"{k:03}.npy") for k in range(300)]
    for k, path in enumerate(paths):
        np.save(path, np.full((4, 3), float(k), order=order))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        value = sn.compute(paths)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert value.mean.tolist() == [149.5] * 3


def test_items_of_different_scales_are_warned_of():
    with pytest.warns(StreamnormWarning, match="holds uint8 and float32: are their scales"):
        sn.compute([np.ones((2, 3), np.uint8), np.ones((2, 3), np.float32)])


def test_a_truncated_npy_file_is_named(tmp_path):
    path = tmp_path / "cut.npy"
    np.save(path, np.zeros((1000, 10)))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"cut\.npy"):
        sn.compute(path)


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ([np.zeros((1, 1))], {"indices": [0]}),
        ([np.zeros((1, 1))], {"mode": "RGB"}),
        (np.zeros((1, 1)), {"include": "*.png"}),
        (np.zeros((1, 1)), {"select": 0}),
    ],
)
def test_options_that_mean_nothing_for_a_source_are_refused(source, options):
    with pytest.raises(ValueError, match="does not apply to"):
        sn.compute(source, **options)


def test_unknown_policies_are_refused():
    with pytest.raises(ValueError, match="'raise' or 'skip'"):
        sn.compute([], on_error="ignore")
    with pytest.raises(ValueError, match="workers must be"):
        sn.compute([np.zeros((1, 1))], workers=0)


def test_files_of_several_kinds_or_an_unknown_kind_are_refused(tmp_path):
    for name in ("a.npy", "b.txt", "c.png"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=r"b\.txt: its name is that of no format"):
        sn.compute([tmp_path / "a.npy", tmp_path / "b.txt"])
    with pytest.raises(ValueError, match=r"expected files of one kind"):
        sn.compute([tmp_path / "a.npy", tmp_path / "c.png"])


def test_ctrl_c_stops_all_threads_within_a_second(tmp_path, untraced):
    script = textwrap.dedent(
        """
        import itertools, sys, time
        import numpy as np, streamnorm as sn
        def slow(batch):
            time.sleep(0.05)
            return batch
        def batches():
            for k in itertools.count():
                if k == 20:
                    print("running", flush=True)
                yield np.zeros((10, 2))
        try:
            sn.compute(batches(), workers=4, transform=slow)
        except KeyboardInterrupt:
            print("stopped", flush=True)
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=untraced,
    )  # fmt: skip
    assert process.stdout.readline() == "running\n"
    time.sleep(0.3)
    started = time.perf_counter()
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    assert output == "stopped\n"
    # The interpreter's own end is in this second too.
    assert time.perf_counter() - started < 1.0


def test_a_forked_child_can_measure_with_threads_of_its_own(table):
    expected = sn.measure(table, threads=2)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, b"1" if sn.measure(table, threads=2) == expected else b"0")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert os.read(read, 1) == b"1"


class Held:
    """Something that only NumPy can look into."""

    def __init__(self, array):
        self._array = array

    def __array__(self, dtype=None, copy=None):
        return self._array


@pytest.mark.parametrize("workers", [None, 2, 8])
def test_a_generator_that_fills_one_buffer_again_and_again_is_read_in_time(workers):
    def frames():
        buffer = np.empty((1000, 3))
        for k in range(50):
            buffer[:] = k
            yield buffer

    total = sn.compute(frames(), workers=workers)
    assert total.mean.tolist() == [24.5] * 3
    assert total.minimum.tolist() == [0.0] * 3


def test_anything_with_array_is_cut_in_slices(table):
    assert sn.compute(Held(table)) == sn.compute(table)


def test_an_iterator_of_paths_is_a_list_of_files(tmp_path):
    for k in range(3):
        np.save(tmp_path / f"{k}.npy", np.full((2, 2), float(k)))
    assert sn.compute(tmp_path.glob("*.npy")).mean.tolist() == [1.0, 1.0]


def test_a_boolean_mask_chooses_rows():
    x = np.arange(8.0).reshape(4, 2)
    mask = np.array([True, False, False, True])
    assert sn.compute(x, indices=mask) == sn.measure(x[mask])


@pytest.mark.parametrize("indices", [[True, False], [0.9], [[0, 1]]])
def test_indices_of_another_kind_are_refused(indices):
    with pytest.raises(ValueError, match="indices"):
        sn.compute(np.zeros((4, 2)), indices=indices)


@pytest.mark.parametrize("axis", ["last", "-1"])
def test_a_word_as_channel_axis_is_refused_for_every_source(axis):
    for source in (np.zeros((2, 3)), [np.zeros((2, 3))]):
        with pytest.raises(TypeError, match="None or 'auto'"):
            sn.compute(source, channel_axis=axis)
    for known, axis in ((1, True), ((1,), (True,)), ((0, 1), [False, True])):
        sn.measure(np.zeros((2, 3)), channel_axis=known)
        with pytest.raises(TypeError, match="must be an int"):
            sn.measure(np.zeros((2, 3)), channel_axis=axis)


@pytest.mark.parametrize("source", [{"a": np.zeros((2, 2))}, b"folder"])
def test_mappings_and_bytes_are_no_sources(source):
    with pytest.raises(TypeError, match="cannot read a"):
        sn.compute(source)


def test_text_is_refused_for_its_dtype_before_anything_else(tmp_path):
    np.save(tmp_path / "t.npy", np.array(["a", "b"]))
    for source in (np.array(["a", "b"]), tmp_path / "t.npy", [np.array("a")]):
        with pytest.raises(TypeError, match="expected real numbers"):
            sn.compute(source)


def test_a_file_named_twice_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 2)))
    (tmp_path / "b.npy").symlink_to(tmp_path / "a.npy")
    with pytest.raises(ValueError, match="counted twice"):
        sn.compute([tmp_path / "a.npy", tmp_path / "b.npy"])


def test_a_damaged_archive_is_named(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, x=np.arange(3000.0).reshape(-1, 3))
    data = bytearray(path.read_bytes())
    data[3000] ^= 255
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"x\.npz:x is damaged"):
        sn.compute(path)


def test_an_archive_called_npy_is_named(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros(3))
    (tmp_path / "x.npz").rename(tmp_path / "x.npy")
    with pytest.raises(ValueError, match=r"rename it to \.npz"):
        sn.compute(tmp_path / "x.npy")


def test_wide_arrays_need_little_memory_beside_themselves():
    import tracemalloc

    x = np.zeros((256, 100_000), np.uint8)
    sn.measure(x[:, :10])
    tracemalloc.start()
    sn.measure(x, threads=1)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2 * x.nbytes


def test_an_array_of_indices_for_an_iterable_is_refused_in_words():
    with pytest.raises(ValueError, match="indices= does not apply to an iterable"):
        sn.compute([np.zeros((1, 1))], indices=np.array([0, 1]))


def test_progress_counts_the_chosen_rows_only():
    calls = []
    mask = np.array([True, False, False, False])
    x = np.zeros((4, 1 << 21))
    sn.compute(x, indices=mask, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 1)]
