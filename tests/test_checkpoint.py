"""compute(checkpoint=): killed at any moment, it goes on, and nothing is lost or doubled."""

import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import streamnorm as sn
from streamnorm import StateFileError, StreamnormWarning, checkpoint


@pytest.fixture(autouse=True)
def _kept_after_every_item(monkeypatch):
    monkeypatch.setattr(checkpoint, "INTERVAL", 0.0)
    monkeypatch.setattr(checkpoint, "_SHARE", 1e9)


@pytest.fixture
def shards(tmp_path):
    """Twenty files of a few rows."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "shards"
    folder.mkdir()
    for k in range(20):
        np.save(folder / f"{k:02}.npy", rng.normal(k, 1 + k, (5 + k, 3)).astype(np.float32))
    return sorted(map(str, folder.iterdir()))


class StoppedError(Exception):
    pass


class StopsAt:
    """A transform that raises at its n-th call."""

    def __init__(self, at):
        self.left = at

    def __call__(self, batch):
        self.left -= 1
        if self.left < 0:
            raise StoppedError
        return batch


def in_two_attempts(compute, at, tmp_path):
    """Stop a pass at an item, then let the same pass go on."""
    path = tmp_path / "c.ckpt"
    with pytest.raises(StoppedError):
        compute(transform=StopsAt(at), checkpoint=path, workers=1)
    return compute(transform=StopsAt(1000), checkpoint=path, workers=1)


def same(value, other):
    return value == other and value.rows.tobytes() == other.rows.tobytes()


@pytest.mark.parametrize("at", [0, 1, 7, 13, 19])
@pytest.mark.parametrize("exact", [False, True])
def test_a_pass_in_two_attempts_has_the_bits_of_one_in_one(shards, tmp_path, exact, at):
    compute = partial(sn.compute, shards, exact=exact)
    value = in_two_attempts(compute, at, tmp_path)
    assert same(value, compute())
    assert value.meta.report.read == 20


def test_items_before_the_checkpoint_are_not_read_again(shards, tmp_path):
    read = []

    def note(batch):
        read.append(len(batch))
        if len(read) == 8:
            raise StoppedError
        return batch

    with pytest.raises(StoppedError):
        sn.compute(shards, transform=note, checkpoint=tmp_path / "c", workers=1)
    sn.compute(shards, transform=note, checkpoint=tmp_path / "c", workers=1)
    assert len(read) == 8 + 20 - 7


def test_samples_before_the_checkpoint_are_not_read_again(tmp_path):
    data = pytest.importorskip("torch").utils.data
    read = []

    class Rows(data.Dataset):
        def __len__(self):
            return 20

        def __getitem__(self, at):
            read.append(at)
            return np.full(3, float(at))

    compute = partial(sn.compute, data.DataLoader(Rows(), batch_size=4))
    assert same(in_two_attempts(compute, 3, tmp_path), compute())
    assert read[16:24] == list(range(12, 20))


def folder_of_images(tmp_path):
    images = pytest.importorskip("PIL.Image")
    (tmp_path / "images").mkdir()
    for k in range(6):
        pixels = np.random.default_rng(k).integers(0, 256, (8, 9 + k, 3), np.uint8)
        images.fromarray(pixels).save(tmp_path / "images" / f"{k}.png")
    return tmp_path / "images"


def archive(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", x=big())
    return tmp_path / "x.npz"


def array_file(tmp_path):
    np.save(tmp_path / "x.npy", big())
    return tmp_path / "x.npy"


def big(tmp_path=None):
    """An array of six items."""
    return np.random.default_rng(1).normal(3, 1, (300, 40_000)).astype(np.float32)


def batches(tmp_path):
    return [np.full((4, 3), float(k)) for k in range(6)]


def loader(tmp_path, **options):
    data = pytest.importorskip("torch").utils.data
    table = np.random.default_rng(2).normal(3, 1, (53, 3)).astype(np.float32)
    return data.DataLoader(table, **({"batch_size": 10} | options))


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        folder_of_images,
        array_file,
        archive,
        big,
        batches,
        loader,
        partial(loader, num_workers=2),
        partial(loader, batch_size=None),
    ],
)
def test_every_source_that_can_be_read_in_parts_goes_on_where_it_was(make, exact, tmp_path):
    source = make(tmp_path)
    axis = None if getattr(source, "batch_size", 1) is None else "auto"
    compute = partial(sn.compute, source, exact=exact, channel_axis=axis)
    assert same(in_two_attempts(compute, 3, tmp_path), compute())


def test_what_was_skipped_and_converted_is_still_counted(tmp_path):
    folder = folder_of_images(tmp_path)
    pixels = np.zeros((4, 4), np.uint8)
    pytest.importorskip("PIL.Image").fromarray(pixels).save(folder / "00 grey.png")
    (folder / "01 broken.png").write_bytes(b"no image")
    compute = partial(sn.compute, folder, on_error="skip")
    with pytest.warns(StreamnormWarning, match="1 item"):
        value = in_two_attempts(compute, 4, tmp_path)
    report = value.meta.report
    assert (report.read, report.skipped, dict(report.converted)) == (7, 1, {"grey repeated": 1})
    assert report.skipped_items[0][0] == "01 broken.png"


def test_later_items_must_be_like_those_of_the_first_attempt(shards, tmp_path):
    np.save(shards[15], np.ones((4, 5)))
    with pytest.raises(ValueError, match=r"5 channels .* but .*00.npy, .* has 3 "):
        in_two_attempts(partial(sn.compute, shards), 7, tmp_path)


def test_a_finished_checkpoint_gives_the_same_file_again_and_says_so(shards, tmp_path):
    compute = partial(sn.compute, shards, checkpoint=tmp_path / "c.ckpt", label="t#1")
    sn.save(compute(), tmp_path / "first.json")
    with pytest.warns(StreamnormWarning, match="remove it to read the data again"):
        again = compute(progress=lambda done, total: pytest.fail("nothing is read"))
    sn.save(again, tmp_path / "second.json")
    assert (tmp_path / "first.json").read_bytes() == (tmp_path / "second.json").read_bytes()


def test_whoever_meets_a_bad_file_may_go_on_without_it(tmp_path):
    folder = folder_of_images(tmp_path)
    (folder / "3.png").write_bytes(b"no image")
    options = {"checkpoint": tmp_path / "c", "mode": "RGB", "workers": 1}
    with pytest.raises(ValueError, match="or leave such items out with on_error='skip'"):
        sn.compute(folder, **options)
    with pytest.warns(StreamnormWarning, match="1 item"):
        value = sn.compute(folder, on_error="skip", **options)
    assert (value.meta.report.read, value.meta.report.skipped) == (5, 1)


def test_a_folder_of_other_files_with_the_same_names_and_sizes_is_another(tmp_path):
    images = pytest.importorskip("PIL.Image")
    for folder, grey in (("a", 0), ("b", 200)):
        (tmp_path / folder).mkdir()
        for k in range(3):
            pixels = np.full((4, 4), grey, np.uint8)
            images.fromarray(pixels).save(tmp_path / folder / f"{k}.bmp")
    with pytest.raises(StoppedError):
        sn.compute(tmp_path / "a", transform=StopsAt(2), checkpoint=tmp_path / "c", workers=1)
    with pytest.raises(ValueError, match=r"source was '.*a', is '.*b'"):
        sn.compute(tmp_path / "b", transform=StopsAt(9), checkpoint=tmp_path / "c")


@pytest.mark.parametrize("changed", [{"batch_size": 20}, {"batch_size": None}, {"drop_last": True}])
def test_a_loader_of_other_batches_is_another(tmp_path, changed):
    options = {"channel_axis": None, "workers": 1, "checkpoint": tmp_path / "c"}
    with pytest.raises(StoppedError):
        sn.compute(loader(tmp_path), transform=StopsAt(2), **options)
    with pytest.raises(ValueError, match="is of another pass"):
        sn.compute(loader(tmp_path, **changed), transform=StopsAt(99), **options)


def test_numbers_of_numpy_name_an_axis_as_others_do(tmp_path):
    options = {"checkpoint": tmp_path / "c", "workers": 1}
    with pytest.raises(StoppedError):
        sn.compute(batches(None), channel_axis=np.int64(1), transform=StopsAt(3), **options)
    value = sn.compute(batches(None), channel_axis=1, transform=StopsAt(9), **options)
    assert same(value, sn.compute(batches(None), channel_axis=1))


@pytest.mark.parametrize("before", [1, 3])
def test_workers_before_and_after_make_no_difference(shards, tmp_path, before):
    path = tmp_path / "c"
    with pytest.raises(StoppedError):
        sn.compute(shards, transform=StopsAt(9), checkpoint=path, workers=before)
    value = sn.compute(shards, transform=StopsAt(99), checkpoint=path, workers=4 - before)
    assert same(value, sn.compute(shards))


def test_files_made_anew_with_the_same_names_and_sizes_are_other_files(shards, tmp_path):
    kept = begun(shards, tmp_path)
    for path in shards:
        np.save(path, np.load(path) + 1)
    with pytest.raises(ValueError, match=r"16 of 16 files looked into have another content: .*00"):
        sn.compute(shards, transform=StopsAt(99), checkpoint=tmp_path / "c")
    assert (tmp_path / "c").read_bytes() == kept


def test_the_same_relative_names_elsewhere_are_other_files(shards, tmp_path, monkeypatch):
    for folder, value in (("a", 0.0), ("b", 100.0)):
        (tmp_path / folder / "shards").mkdir(parents=True)
        for k in range(3):
            np.save(tmp_path / folder / "shards" / f"{k}.npy", np.full((4, 3), value))
    options = {"checkpoint": tmp_path / "c", "workers": 1}
    monkeypatch.chdir(tmp_path / "a")
    with pytest.raises(StoppedError):
        sn.compute("shards/*.npy", transform=StopsAt(2), **options)
    monkeypatch.chdir(tmp_path / "b")
    with pytest.raises(ValueError, match="3 of 3 files looked into have another content"):
        sn.compute("shards/*.npy", transform=StopsAt(9), **options)


def test_files_that_are_ignored_are_counted_once_and_for_all(tmp_path):
    folder = folder_of_images(tmp_path)
    (folder / "notes.txt").touch()
    compute = partial(sn.compute, folder, workers=1, checkpoint=folder / "c.ckpt")
    with pytest.raises(StoppedError):
        compute(transform=StopsAt(2))
    assert compute(transform=StopsAt(99)).meta.report.ignored == 1


def test_a_pass_that_found_nothing_is_not_kept_as_done(tmp_path):
    folder = folder_of_images(tmp_path)
    for path in folder.iterdir():
        path.write_bytes(b"no image")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"is empty.* all 6 items were skipped"):
            sn.compute(folder, on_error="skip", checkpoint=tmp_path / "c")


def test_a_wrong_number_of_workers_leaves_no_checkpoint(shards, tmp_path):
    with pytest.raises(ValueError, match="workers must be"):
        sn.compute(shards, checkpoint=tmp_path / "c", workers=0)
    assert not (tmp_path / "c").exists()


def test_npy_files_that_were_damaged_and_mended_are_other_items(shards, tmp_path):
    damaged = Path(shards[3])
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-40])
    options = {"checkpoint": tmp_path / "c", "workers": 1, "on_error": "skip"}
    with pytest.raises(StoppedError):
        sn.compute(shards, transform=StopsAt(9), **options)
    damaged.write_bytes(whole)
    with pytest.raises(ValueError, match=r"damaged was .*03.npy.*, is '\[\]'; 1 resized"):
        sn.compute(shards, transform=StopsAt(99), **options)


def generator():
    yield from batches(None)


class Stream:
    def __iter__(self):
        return generator()


@pytest.mark.parametrize("make", [generator, Stream])
def test_streams_are_refused_at_once(make, tmp_path):
    with pytest.raises(ValueError, match="cannot be read from its middle on; pass a list"):
        sn.compute(make(), checkpoint=tmp_path / "c")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "kind", ["shuffled", "replacement", "own sampler", "iterable", "own batches", "any order"]
)
def test_loaders_that_would_give_other_batches_are_refused_at_once(kind, tmp_path):
    torch = pytest.importorskip("torch")
    data = torch.utils.data
    table = torch.zeros(8, 2)

    class Rows(data.IterableDataset):
        def __iter__(self):
            yield from table

    own = {"batch_sampler": data.BatchSampler(data.RandomSampler(table), 2, drop_last=False)}

    class Scaled(data.DataLoader):
        def __iter__(self):
            return (batch / 255 for batch in super().__iter__())

    made = {
        "own batches": lambda: Scaled(table),
        "any order": lambda: data.DataLoader(table, num_workers=1, in_order=False),
        "shuffled": lambda: data.DataLoader(table, shuffle=True),
        "replacement": lambda: data.DataLoader(
            table, sampler=data.WeightedRandomSampler([1.0] * 8, 8)
        ),
        "own sampler": lambda: data.DataLoader(table, **own),
        "iterable": lambda: data.DataLoader(Rows()),
    }[kind]()
    with pytest.raises(ValueError, match="checkpoint= needs a source that can be read again"):
        sn.compute(made, checkpoint=tmp_path / "c")


def begun(shards, tmp_path, **options):
    """Leave a checkpoint behind."""
    with pytest.raises(StoppedError):
        sn.compute(shards, transform=StopsAt(5), checkpoint=tmp_path / "c", workers=1, **options)
    return (tmp_path / "c").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda files: [*files, files[0].replace("00", "20")], "1 added: .*20.npy"),
        (lambda files: files[1:], "1 removed: .*00.npy"),
        (lambda files: files[::-1], "the order of its inputs has changed"),
    ],
)
def test_files_added_removed_or_in_another_order_are_listed(shards, tmp_path, change, message):
    kept = begun(shards, tmp_path)
    np.save(shards[0].replace("00", "20"), np.ones((2, 3)))
    with pytest.raises(ValueError, match=message):
        sn.compute(change(shards), transform=StopsAt(99), checkpoint=tmp_path / "c")
    assert (tmp_path / "c").read_bytes() == kept


def test_files_of_another_size_are_listed(shards, tmp_path):
    begun(shards, tmp_path)
    np.save(shards[3], np.ones((100, 3), np.float32))
    with pytest.raises(ValueError, match=r"1 resized: .*03.npy \(224 to 1,328\)"):
        sn.compute(shards, transform=StopsAt(99), checkpoint=tmp_path / "c")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exact": True}, "exact was False, is True"),
        ({"nan_policy": "omit"}, "nan_policy was 'propagate', is 'omit'"),
        ({"channel_axis": 1}, "channel_axis was 'auto', is 1"),
        ({"transform": np.negative}, r"transform was .*StopsAt, is .*negative"),
    ],
)
def test_another_way_to_measure_is_refused(shards, tmp_path, options, message):
    begun(shards, tmp_path)
    with pytest.raises(ValueError, match=message):
        sn.compute(shards, **{"transform": StopsAt(99), "checkpoint": tmp_path / "c"} | options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "L"}, "mode was None, is 'L'"),
        ({"include": "*.png"}, r"include was \[\], is \['\*.png'\]"),
        ({"exclude": "0.png"}, r"exclude was \[\], is \['0.png'\]; 1 removed: 0.png"),
        ({"indices": [0, 1, 2, 3, 4, 5]}, r"indices was None, is \[0, 1, 2, 3, 4, 5\]"),
    ],
)
def test_another_choice_of_images_is_refused(tmp_path, options, message):
    folder = folder_of_images(tmp_path)
    begun(folder, tmp_path)
    with pytest.raises(ValueError, match=message):
        sn.compute(folder, transform=StopsAt(99), checkpoint=tmp_path / "c", **options)


def test_images_that_were_all_grey_are_others_when_one_is_in_colour(tmp_path):
    images = pytest.importorskip("PIL.Image")
    for k in range(20):
        images.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / f"{k:02}.bmp")
    begun(tmp_path, tmp_path)
    grey = (tmp_path / "19.bmp").stat().st_size
    images.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "19.bmp")
    data = (tmp_path / "19.bmp").read_bytes()
    (tmp_path / "19.bmp").write_bytes(data.ljust(grey, b"\0"))
    with pytest.raises(ValueError, match="colours was 'None', is 'auto RGB'"):
        sn.compute(tmp_path, transform=StopsAt(99), checkpoint=tmp_path / "c")


@pytest.mark.parametrize("what", ["version", "decoder"])
def test_another_version_or_decoder_is_refused(tmp_path, monkeypatch, what):
    folder = folder_of_images(tmp_path)
    begun(folder, tmp_path)
    if what == "version":
        monkeypatch.setattr(checkpoint, "__version__", "9.9")
    else:
        monkeypatch.setattr("streamnorm.sources.images.decoder", lambda: "Pillow 0")
    message = {"version": "streamnorm was .*, is '9.9'", "decoder": "is 'Pillow 0'"}[what]
    with pytest.raises(ValueError, match=message):
        sn.compute(folder, transform=StopsAt(99), checkpoint=tmp_path / "c")


def test_another_item_of_what_batches_hold_is_refused(tmp_path):
    pairs = [(batch, batch + 1) for batch in batches(None)]
    begun(pairs, tmp_path)
    with pytest.raises(ValueError, match="select was None, is 1"):
        sn.compute(pairs, select=1, transform=StopsAt(99), checkpoint=tmp_path / "c")


def test_batches_of_another_dtype_or_order_in_memory_are_others(tmp_path):
    begun([batch.astype("f4") for batch in batches(None)], tmp_path)
    other = [batch.astype("i4") for batch in batches(None)]
    with pytest.raises(ValueError, match=r"6 removed: batch 0, .*float32"):
        sn.compute(other, transform=StopsAt(99), checkpoint=tmp_path / "c")
    (tmp_path / "c").unlink()
    begun(big(), tmp_path)
    with pytest.raises(ValueError, match="strides was"):
        sn.compute(np.asfortranarray(big()), transform=StopsAt(99), checkpoint=tmp_path / "c")


def test_the_step_of_an_axis_of_one_place_is_no_order_in_memory(tmp_path):
    rows = big()[:1, :300]
    begun_one = partial(sn.compute, checkpoint=tmp_path / "c", channel_axis=1)
    begun_one(rows)
    with pytest.warns(StreamnormWarning, match="holds the result"):
        begun_one(rows.copy())


def test_a_single_number_may_have_a_label():
    assert sn.compute(np.array(5.0), channel_axis=None, label="t").meta.labels


def test_a_loader_that_collates_in_another_way_is_another(tmp_path):
    begun(loader(tmp_path), tmp_path)
    other = loader(tmp_path, collate_fn=np.stack)
    with pytest.raises(ValueError, match=r"collate_fn was .*default_collate.*, is .*stack"):
        sn.compute(other, transform=StopsAt(99), checkpoint=tmp_path / "c")


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: data.replace(b'"skipped": 0', b'"skipped": 1'),
        lambda data: b"{}\n" + data,
        lambda data: b"\xff" + data,
    ],
)
def test_a_damaged_checkpoint_is_refused_and_left_alone(shards, tmp_path, damage):
    (tmp_path / "c").write_bytes(damaged := damage(begun(shards, tmp_path)))
    with pytest.raises(StateFileError, match=r"is no checkpoint .* or is damaged"):
        sn.compute(shards, transform=StopsAt(99), checkpoint=tmp_path / "c")
    assert (tmp_path / "c").read_bytes() == damaged


def test_a_folder_that_is_not_there_is_named_before_anything_is_read(shards, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none/c"):
        sn.compute(shards, transform=StopsAt(0), checkpoint=tmp_path / "none" / "c")


def test_a_folder_that_is_closed_is_named_before_anything_is_read(shards, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    # To root only what the system itself closes is closed.
    closed = "/sys" if os.geteuid() == 0 else closed
    with pytest.raises(PermissionError, match=f"'{closed}/c'"):
        sn.compute(shards, transform=StopsAt(0), checkpoint=f"{closed}/c")


def test_a_full_disk_is_named_and_the_checkpoint_is_as_before(shards, tmp_path):
    kept = begun(shards, tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
    try:
        with pytest.raises(OSError, match=r"File too large.*/c'"):
            sn.compute(shards, transform=StopsAt(99), checkpoint=tmp_path / "c", workers=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c", "shards"]
    assert (tmp_path / "c").read_bytes() == kept


def test_what_a_killed_process_left_beside_a_checkpoint_is_removed(shards, tmp_path):
    with subprocess.Popen(["true"]) as gone:
        pass
    left = tmp_path / f".c.{gone.pid}-0123abcd"
    others = [tmp_path / f".c.{os.getpid()}-0123abcd", tmp_path / f".c.{gone.pid}-plan.txt"]
    for path in (left, *others):
        path.touch()
    sn.compute(shards, checkpoint=tmp_path / "c")
    assert not left.exists()
    assert all(path.exists() for path in others)


def test_checkpoints_are_five_seconds_apart_and_take_a_hundredth_of_the_time(
    shards, tmp_path, monkeypatch
):
    monkeypatch.undo()
    clock = iter(np.arange(0.0, 1e6, 1.0))
    monkeypatch.setattr(checkpoint.time, "perf_counter", lambda: next(clock))
    written = []
    monkeypatch.setattr(checkpoint, "write_atomically", lambda path, data: written.append(path))
    sn.compute(shards, checkpoint=tmp_path / "c", workers=1)
    # Every look at this clock takes a second and every checkpoint three: a hundred times as long
    # must go by until the next one, and twenty items have not. First and last are always written.
    assert len(written) == 2
    assert (checkpoint.INTERVAL, checkpoint._SHARE) == (5.0, 0.01)
    # Where a checkpoint costs nothing it is every fifth second: one look an item is a second.
    written.clear()
    monkeypatch.setattr(checkpoint, "_SHARE", 1e9)
    sn.compute(shards, checkpoint=tmp_path / "d", workers=1)
    assert 2 + 20 // 9 <= len(written) <= 2 + 20 // 5


def test_a_command_killed_after_its_output_was_written_writes_the_same_file_again(
    shards, tmp_path, streamnorm_command
):
    output, kept = tmp_path / "out.json", tmp_path / "c.ckpt"
    dies = f"""
        import os, pathlib, signal, sys
        import streamnorm.cli as cli
        pathlib.Path.unlink = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
        cli.main(["compute", *sys.argv[1:], "-o", {str(output)!r}, "--checkpoint", {str(kept)!r}])
    """
    command = [sys.executable, "-c", textwrap.dedent(dies), *shards]
    killed = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL
    first = output.read_bytes()
    output.unlink()
    done = streamnorm_command("compute", *shards, "-o", output, "--checkpoint", kept)
    assert done.returncode == 0, done.stderr
    assert output.read_bytes() == first
    assert json.loads(first)["provenance"]["passes"][0]["report"]["read"] == 20
    assert not kept.exists()
