"""Pieces of files that are in memory are seen there; all else is read; the numbers are the same."""

import errno
import os

import numpy as np
import pytest

import streamnorm as sn
from streamnorm.sources import page_cache
from streamnorm.sources.page_cache import CachedFile

SIZE = 3 << 20
pytestmark = pytest.mark.skipif(not hasattr(os, "RWF_NOWAIT"), reason="files are read here")


@pytest.fixture
def written(tmp_path):
    """A file that was just written, so that it is in memory, and its bytes."""
    data = np.random.default_rng(0).bytes(SIZE)
    path = tmp_path / "data"
    path.write_bytes(data)
    if CachedFile(path).see(0, SIZE) is None:
        pytest.skip("this file system does not say what is in memory")
    return path, data


@pytest.mark.parametrize(("offset", "size"), [(0, SIZE), (128, 2 << 20), (70_001, 1 << 20)])
def test_a_piece_holds_the_bytes_of_the_file(written, offset, size):
    path, data = written
    seen = CachedFile(path).see(offset, size)
    assert bytes(seen) == data[offset : offset + size]
    seen[0] ^= 1
    assert path.read_bytes() == data


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


@pytest.fixture
def looks(monkeypatch):
    """What was seen of files, and None for what was not."""
    seen, see = [], CachedFile.see
    monkeypatch.setattr(CachedFile, "see", lambda *a: seen.append(see(*a)) or seen[-1])
    return seen


def saved(path, header=128):
    """Save rows of float32, behind a header of so many bytes."""
    data = np.random.default_rng(1).normal(3, 1, (3_000_001, 3)).astype(np.float32)
    np.save(path, data)
    text = path.read_bytes()[10:128].decode().strip().ljust(header - 11) + "\n"
    path.write_bytes(b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text.encode())
    with path.open("ab") as file:
        data.tofile(file)
    return path


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("header", [128, 130])
def test_the_numbers_are_the_same_however_a_file_comes(
    tmp_path, written, looks, monkeypatch, exact, header
):
    path = saved(tmp_path / "x.npy", header)
    seen = sn.compute(path, exact=exact)
    aligned = header % 4 == 0
    assert len(looks) == 5
    assert all((piece is not None) == aligned for piece in looks)
    monkeypatch.setattr(CachedFile, "see", lambda *_: None)
    read = sn.compute(path, exact=exact)
    assert seen.rows.tobytes() == read.rows.tobytes()


def test_a_transform_gets_memory_of_its_own(tmp_path, written, looks):
    path = saved(tmp_path / "x.npy")
    before = path.read_bytes()
    plain = sn.compute(path)
    looks.clear()

    def shift(batch):
        batch -= 3
        return batch

    shifted = sn.compute(path, transform=shift)
    assert looks == [None] * 5
    assert shifted.mean == pytest.approx(plain.mean - 3, abs=1e-6)
    assert path.read_bytes() == before


def test_a_file_that_is_cut_off_while_it_is_read_is_an_error(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.ones((3_000_000, 3)))

    def cuts(batch):
        os.truncate(path, 1000)
        return batch.copy()

    with pytest.raises(ValueError, match=r"cannot read .*x\.npy, rows .*: cannot reshape"):
        sn.compute(path, transform=cuts, workers=1)
