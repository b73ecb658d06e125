"""Pieces of files that are in memory are seen there; all else is read; the numbers are the same."""

import errno
import os

import numpy as np
import pytest

import streamnorm as sn
from streamnorm.sources import page_cache
from streamnorm.sources.page_cache import CachedFile

SIZE = 3 << 20


@pytest.fixture
def written(tmp_path):
    """A file that was just written, so that it is in memory, and its bytes."""
    data = np.random.default_rng(0).bytes(SIZE)
    (tmp_path / "data").write_bytes(data)
    return tmp_path / "data", data


@pytest.mark.parametrize(("offset", "size"), [(0, SIZE), (128, 2 << 20), (70_001, 1 << 20)])
def test_a_piece_holds_the_bytes_of_the_file(written, offset, size):
    path, data = written
    seen = CachedFile(path).see(offset, size)
    if seen is None:
        pytest.skip("this file system does not say what is in memory")
    assert seen.readonly
    assert bytes(seen) == data[offset : offset + size]


def test_small_pieces_are_read(written):
    assert CachedFile(written[0]).see(0, 1000) is None


def test_after_one_piece_that_is_not_in_memory_nobody_looks_again(written, monkeypatch):
    looks = []

    def not_there(*arguments):
        looks.append(arguments)
        raise BlockingIOError(errno.EAGAIN, "it would have to be fetched")

    monkeypatch.setattr(os, "preadv", not_there)
    file = CachedFile(written[0])
    assert file.see(0, 1 << 20) is None
    assert file.see(1 << 20, 1 << 20) is None
    assert len(looks) == 1


def test_a_piece_beyond_the_end_is_left_to_whoever_reads_it(written):
    assert CachedFile(written[0]).see(2 << 20, 2 << 20) is None


def test_a_system_that_cannot_promise_all_pages_reads(written, monkeypatch):
    monkeypatch.setattr(page_cache, "_POPULATE", 12_345)
    assert CachedFile(written[0]).see(0, 1 << 20) is None


def test_a_system_that_cannot_look_reads(written, monkeypatch):
    monkeypatch.delattr(os, "RWF_NOWAIT", raising=False)
    assert CachedFile(written[0]).see(0, 1 << 20) is None


@pytest.mark.parametrize("exact", [False, True])
def test_the_numbers_are_the_same_however_a_file_comes(tmp_path, monkeypatch, exact):
    np.save(tmp_path / "x.npy", np.random.default_rng(1).normal(3, 1, (3_000_001, 3)))
    seen = sn.compute(tmp_path / "x.npy", exact=exact)
    monkeypatch.setattr(CachedFile, "see", lambda *_: None)
    read = sn.compute(tmp_path / "x.npy", exact=exact)
    assert seen.rows.tobytes() == read.rows.tobytes()


def test_a_file_that_is_cut_off_while_it_is_read_is_an_error(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.ones((3_000_000, 3)))

    def cuts(batch):
        os.truncate(path, 40_000_000)
        return batch.copy()

    with pytest.raises(ValueError, match=r"cannot read .*x\.npy, rows .*: cannot reshape"):
        sn.compute(path, transform=cuts, workers=1)
