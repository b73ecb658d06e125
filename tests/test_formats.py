"""Files of every format: the right answer, from anywhere, and a word about what is wrong."""

import importlib.util
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from format_data import FORMATS, SEVERAL, digests, written

import streamnorm as sn
from streamnorm import StreamnormWarning
from streamnorm.sources import formats
from streamnorm.sources.formats import format_of

ALL = list(FORMATS)
UNKNOWABLE = {("CSV", "cut")}
"""What cannot be told from a file that is as it should be."""
FILES = [name for name in ALL if name != "zarr"]


@pytest.fixture(autouse=True)
def in_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_every_format_is_tried_here():
    assert {known.name for known in formats.FORMATS} == set(FORMATS)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("workers", [1, 3])
def test_a_file_has_the_statistics_of_its_arrays(name, workers, tmp_path):
    path, right = written(name, tmp_path)
    assert digests(sn.compute(path, exact=True, workers=workers)) == digests(right)


@pytest.mark.parametrize("name", ALL)
def test_rounded_results_are_those_of_the_exact_ones(name, tmp_path):
    path, right = written(name, tmp_path)
    got = sn.compute(path)
    for key in right if isinstance(right, dict) else [None]:
        a, b = (got, right) if key is None else (got[key], right[key])
        np.testing.assert_allclose(a.mean, b.mean, rtol=1e-13, atol=1e-15)
        np.testing.assert_allclose(a.std(), b.std(), rtol=1e-13)
        assert a.omitted.tolist() == b.omitted.tolist()
        assert a.minimum.tolist() == b.minimum.tolist()


@pytest.mark.parametrize("name", [name for name in ALL if name != "NumPy archive"])
def test_several_files_are_pooled_in_a_list_a_glob_and_a_folder(name, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    parts = [written(name, folder, seed) for seed in (1, 2, 3)]
    right = digests(sn.merge([part for _, part in parts]))
    sources = [[path for path, _ in parts], str(folder / f"*{FORMATS[name][0]}")]
    for source in sources if name == "zarr" else [*sources, folder]:
        assert digests(sn.compute(source, exact=True)) == right


@pytest.mark.parametrize("name", ALL)
def test_a_url_gives_what_the_file_gives(name, tmp_path):
    fsspec = pytest.importorskip("fsspec")
    path, right = written(name, tmp_path)
    memory = fsspec.filesystem("memory")
    memory.put(str(path), f"/{name}/{path.name}", recursive=True)
    for url in (f"memory://{name}/{path.name}", f"file://{path}"):
        assert digests(sn.compute(url, exact=True)) == digests(right)


@pytest.mark.parametrize("name", [name for name in FILES if name != "NumPy archive"])
def test_folders_and_globs_of_urls(name, tmp_path):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    parts = [written(name, tmp_path, seed) for seed in (1, 2)]
    for path, _ in parts:
        memory.put(str(path), f"/folder-{name}/{path.name}")
    right = digests(sn.merge([part for _, part in parts]))
    for url in (f"memory://folder-{name}", f"memory://folder-{name}/*"):
        assert digests(sn.compute(url, exact=True)) == right


@pytest.mark.parametrize("name", ALL)
def test_a_library_that_is_missing_is_named_with_its_extra(name, tmp_path, monkeypatch):
    needs, extra = next((f.needs, f.extra) for f in formats.FORMATS if f.name == name)
    path, _ = written(name, tmp_path)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda m, *a: None if m in needs else find(m))
    if not needs:
        sn.compute(path)
        return
    with pytest.raises(ImportError, match=rf"needs {needs[0]}.*streamnorm\[{extra}\]"):
        sn.compute(path)


@pytest.mark.parametrize("name", ALL)
def test_a_file_that_is_not_there_is_named(name):
    with pytest.raises(FileNotFoundError, match=r"nothing.* does not exist"):
        sn.compute(f"nothing{FORMATS[name][0]}")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["empty", "foreign", "cut"])
def test_a_damaged_file_is_named_in_one_line(name, damage, tmp_path):
    if (name, damage) in UNKNOWABLE:
        pytest.skip("such a file is a whole one")
    path, _ = written(name, tmp_path)
    spoil(path, damage)
    with pytest.raises((ValueError, OSError)) as caught:
        sn.compute(path)
    text = str(caught.value)
    assert path.name in text


@pytest.mark.parametrize("name", [name for name in FILES if name != "NumPy archive"])
@pytest.mark.parametrize("damage", ["empty", "foreign"])
def test_a_damaged_file_is_skipped_counted_and_listed_where_that_is_asked(name, damage, tmp_path):
    paths = [written(name, tmp_path, seed)[0] for seed in (1, 2, 3)]
    right = digests(sn.merge([sn.compute(path, exact=True) for path in (paths[0], paths[2])]))
    spoil(paths[1], damage)
    with pytest.warns(StreamnormWarning, match=re.escape(paths[1].name)):
        got = sn.compute(paths, exact=True, on_error="skip")
    assert digests(got) == right
    report = (next(iter(got.values())) if isinstance(got, dict) else got).meta.report
    assert report.skipped == 1
    assert paths[1].name in report.skipped_items[0][0]


@pytest.mark.parametrize("name", [name for name in FILES if name not in ("CSV", "NumPy archive")])
def test_a_file_that_was_cut_off_is_not_half_counted_under_skip(name, tmp_path):
    """What is whole before the cut may count, and what is missing is listed."""
    path, _ = written(name, tmp_path)
    good, _ = written(name, tmp_path, 5, "good")
    spoil(path, "cut")
    with pytest.warns(StreamnormWarning, match=re.escape(path.name)):
        got = sn.compute([path, good], exact=True, on_error="skip")
    assert (next(iter(got.values())) if isinstance(got, dict) else got).meta.report.skipped >= 1


def spoil(path, damage):
    data = path.read_bytes()
    cut = data[: len(data) // 2]
    path.write_bytes({"empty": b"", "foreign": b"a foreign file\n" * 99, "cut": cut}[damage])


@pytest.mark.parametrize("name", SEVERAL)
def test_arrays_are_chosen_by_select(name, tmp_path):
    path, right = written(name, tmp_path)
    first = next(iter(right))
    assert sn.compute(path, exact=True, select=first) == right[first]
    assert sn.compute(path, select=first).meta.names == (first,)
    assert list(sn.compute(path, select=[first])) == [first]
    with pytest.raises(ValueError, match=rf"{path.name}.* has no column 'altitude'; it has"):
        sn.compute(path, select="altitude")


@pytest.mark.parametrize("name", SEVERAL)
def test_files_of_other_arrays_are_refused_by_name(name, tmp_path):
    path, right = written(name, tmp_path)
    other, _ = written("NumPy", tmp_path, 7, "other")
    suffix, write, _ = FORMATS[name]
    twin = tmp_path / f"twin{suffix}"
    made = write(twin, 3)
    assert set(made) == set(right)
    got = sn.compute([path, twin], select=list(right)[:1])
    assert list(got) == list(right)[:1]
    if name != "zarr":
        with pytest.raises(ValueError, match="expected files of one kind"):
            sn.compute([path, other])


def test_formats_are_recognised_by_name():
    names = {
        "train-images-idx3-ubyte.gz": "idx",
        "t10k-labels.idx1-ubyte": "idx",
        "A.PARQUET": "Parquet",
        "shard-000001.tar": "tar of images",
        "brain.nii.gz": "NIfTI",
        "x.csv.gz": "CSV",
        "photo.JPG": "images",
        "x.txt": None,
    }
    for name, expected in names.items():
        known = format_of(name)
        assert (known and known.name) == expected


def test_a_folder_of_several_formats_is_refused_with_their_numbers(tmp_path):
    written("CSV", tmp_path)
    written("NumPy", tmp_path)
    with pytest.raises(ValueError, match=r"several formats \(1 CSV, 1 NumPy\)|1 NumPy, 1 CSV"):
        sn.compute(tmp_path)


def test_a_folder_of_images_may_hold_tables_about_them(tmp_path):
    _, right = written("images", tmp_path)
    written("CSV", tmp_path)
    got = sn.compute(tmp_path, exact=True)
    assert (got, got.meta.report.ignored) == (right, 1)


@pytest.mark.parametrize("name", ALL)
def test_the_command_line_reads_it(name, tmp_path):
    path, right = written(name, tmp_path)
    command = [sys.executable, "-m", "streamnorm", "compute", str(path), "-o", "s.json", "--exact"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert digests(sn.load("s.json")) == digests(right)


@pytest.mark.parametrize("name", ALL)
def test_a_pass_that_was_stopped_goes_on(name, tmp_path, monkeypatch):
    paths = [written(name, tmp_path, seed)[0] for seed in (1, 2)]
    paths = paths[:1] if name == "NumPy archive" else paths
    right = sn.compute(paths)

    def stop(done, _):
        if done == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr("streamnorm.checkpoint.INTERVAL", 0.0)
    monkeypatch.setattr("streamnorm.checkpoint._SHARE", 1e9)
    with pytest.raises(KeyboardInterrupt):
        sn.compute(paths, checkpoint="c", progress=stop)
    begun = []
    again = sn.compute(paths, checkpoint="c", progress=lambda done, _: begun.append(done))
    assert again == right
    assert begun[:1] in ([2], []), "the first item was read again"
    value = next(iter(again.values())) if isinstance(again, dict) else again
    known = next(iter(right.values())) if isinstance(right, dict) else right
    assert value.meta.report.ignored == known.meta.report.ignored


def test_where_the_files_are_is_kept(tmp_path):
    written("Parquet", tmp_path, 1)
    written("Parquet", tmp_path, 2)
    value = sn.compute(tmp_path, split="train")["arm"]
    entry = value.meta.provenance.passes[0]
    assert (entry.split, entry.array, entry.kind) == ("train", "arm", "Parquet files")
    assert entry.contents.count == 2
    assert (entry.contents.first, entry.contents.last) == ("part-1.parquet", "part-2.parquet")
    assert re.fullmatch("[0-9a-f]{64}", entry.contents.digest)
    assert entry.decoder.startswith("pyarrow ")
    sn.save({"arm": value}, "s.json")
    assert sn.load("s.json")["arm"].meta.provenance.passes[0].contents == entry.contents


def test_sources_lists_what_is_missing_with_a_hint(monkeypatch, capsys):
    from streamnorm.cli import main

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda m, *a: None if m == "zarr" else find(m, *a)
    )
    assert main(["sources"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(
        line.startswith("zarr") and "pip install 'streamnorm[zarr]'" in line for line in lines
    )
    assert main(["sources", "--json"]) == 0
    assert '"missing": [\n   "zarr"\n  ]' in capsys.readouterr().out


def test_hidden_files_are_no_data(tmp_path):
    path, right = written("CSV", tmp_path)
    shutil.copy(path, tmp_path / "._part.csv")
    assert digests(sn.compute(tmp_path, exact=True)) == digests(right)
