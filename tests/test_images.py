"""Folders and lists of pictures: colour rule, depths, broken and foreign files."""

import gc
import re
import struct
import zlib

import numpy as np
import pytest

import streamnorm as sn
from streamnorm.sources import pictures
from streamnorm.sources.pixels import pixels

Image = pytest.importorskip("PIL.Image")
RNG = np.random.default_rng(0)


def grey(value=None, size=(5, 7)):
    values = RNG.integers(0, 256, size) if value is None else np.full(size, value)
    return Image.fromarray(values.astype(np.uint8))


def colour(rgb=(10, 20, 30), size=(5, 7)):
    return Image.fromarray(np.broadcast_to(np.array(rgb, np.uint8), (*size, 3)).copy())


def test_a_folder_is_read_recursively_with_mixed_sizes_pooled_by_pixel(tmp_path):
    arrays = [RNG.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((4, 5), (9, 2), (1, 1))]
    for path, array in zip(("a.png", "deep/er/b.png", "deep/c.bmp"), arrays, strict=True):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(tmp_path / path)
    pooled = np.concatenate([array.reshape(-1, 3) for array in arrays])
    total = sn.compute(tmp_path)
    assert total.count.tolist() == [39, 39, 39]
    np.testing.assert_allclose(total.mean, pooled.mean(0), rtol=1e-14)
    np.testing.assert_allclose(total.std(), pooled.std(0), rtol=1e-14)


@pytest.mark.parametrize("workers", [2, 7, 16])
def test_any_number_of_workers_gives_the_same_bits(tmp_path, workers):
    for k in range(80):
        size = tuple(RNG.integers(1, 90, 2))
        Image.fromarray(RNG.integers(0, 256, (*size, 3), dtype=np.uint8)).save(
            tmp_path / f"{k}.png"
        )
    assert sn.compute(tmp_path, workers=workers) == sn.compute(tmp_path, workers=1)


def test_an_all_grey_folder_has_one_channel(tmp_path):
    grey(100).save(tmp_path / "a.png")
    grey(255).convert("1").save(tmp_path / "b.png")
    grey(50).convert("LA").save(tmp_path / "c.png")
    total = sn.compute(tmp_path)
    assert total.channels == 1
    assert total.minimum.tolist() == [50.0]
    assert total.maximum.tolist() == [255.0]
    assert dict(total.meta.report.converted) == {"bilevel to grey": 1, "alpha dropped": 1}


def test_with_any_colour_image_everything_is_rgb_and_each_change_is_counted(tmp_path):
    grey(50).save(tmp_path / "a-grey.png")
    colour().quantize(4).save(tmp_path / "b-palette.png")
    colour().convert("CMYK").save(tmp_path / "c-cmyk.tif")
    alpha = colour()
    alpha.putalpha(3)
    alpha.save(tmp_path / "d-alpha.png")
    colour().save(tmp_path / "e-plain.png")
    total = sn.compute(tmp_path)
    assert total.channels == 3
    assert total.meta.report.read == 5
    assert dict(total.meta.report.converted) == {
        "grey repeated": 1,
        "palette converted": 1,
        "CMYK converted": 1,
        "alpha dropped": 1,
    }
    np.testing.assert_allclose(total.mean, [(50 + 4 * v) / 5 for v in (10, 20, 30)])


def test_mode_overrides_the_rule(tmp_path):
    colour().save(tmp_path / "a.png")
    grey(100).save(tmp_path / "b.png")
    total = sn.compute(tmp_path, mode="L")
    assert total.channels == 1
    assert dict(total.meta.report.converted) == {"RGB to L": 1}


def test_16_bit_stays_16_bit(tmp_path):
    Image.fromarray(np.full((3, 3), 60_000, np.uint16)).save(tmp_path / "a.png")
    Image.fromarray(np.full((3, 3), 50_000, np.uint16)).save(tmp_path / "b.tif")
    total = sn.compute(tmp_path)
    assert total.mean.tolist() == [55_000.0]
    assert total.meta.provenance.passes[0].dtype == "uint16"


@pytest.mark.parametrize("eight", [grey, colour])
def test_8_and_16_bit_mixed_is_an_error_that_names_both(tmp_path, eight):
    Image.fromarray(np.full((5, 7), 60_000, np.uint16)).save(tmp_path / "deep.png")
    eight().save(tmp_path / "flat.png")
    with pytest.raises(ValueError, match=r"flat\.png.*deep\.png"):
        sn.compute(tmp_path)


def test_16_bit_colour_is_refused_where_the_decoder_would_cut_it(tmp_path):
    rows = b"".join(b"\0" + struct.pack(">6H", *range(1000, 7000, 1000)) for _ in range(2))
    header = struct.pack(">2I5B", 2, 2, 16, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    path = tmp_path / "deep.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            for kind, body in chunks
        )
    )
    with pytest.raises(ValueError, match=r"deep\.png.*16-bit colour"):
        sn.compute(tmp_path)
    assert sn.compute(tmp_path, mode="RGB").channels == 3


def test_the_first_frame_of_an_animation_is_read_and_counted(tmp_path):
    grey(10).save(tmp_path / "a.gif", save_all=True, append_images=[grey(200)])
    total = sn.compute(tmp_path)
    assert total.maximum[0] < 100
    assert total.meta.report.converted["first frame of several"] == 1


def test_other_and_hidden_files_are_ignored_and_counted(tmp_path):
    colour().save(tmp_path / "a.png")
    for name in ("labels.csv", "._a.png", ".DS_Store"):
        (tmp_path / name).write_text("x")
    assert sn.compute(tmp_path).meta.report.ignored == 3


def test_include_and_exclude_choose_by_path(tmp_path):
    for name in ("train/a.png", "train/b.png", "test/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        colour().save(tmp_path / name)
    assert sn.compute(tmp_path, include="train/*").meta.report.read == 2
    assert sn.compute(tmp_path, exclude=["train/a*", "test/*"]).meta.report.read == 1
    assert sn.compute(tmp_path, include="train/*").meta.report.ignored == 1
    assert sn.compute(tmp_path, indices=[2]).meta.report.read == 1
    with pytest.raises(ValueError, match="include= and exclude="):
        sn.compute(tmp_path, include="val/*")


def test_a_folder_without_images_says_so(tmp_path):
    with pytest.raises(ValueError, match="none of its 0 files"):
        sn.compute(tmp_path)


@pytest.fixture
def with_broken(tmp_path):
    for k in range(6):
        colour().save(tmp_path / f"{k}.png")
    good = (tmp_path / "3.png").read_bytes()
    (tmp_path / "3.png").write_bytes(good[: len(good) // 2])
    (tmp_path / "4.png").write_bytes(b"not a picture")
    return tmp_path


def test_a_broken_image_is_named(with_broken):
    with pytest.raises(ValueError, match=r"cannot read 3\.png.*on_error='skip'"):
        sn.compute(with_broken)


def test_broken_images_are_skipped_on_demand_counted_listed_and_warned_of(with_broken):
    with pytest.warns(sn.StreamnormWarning, match=r"2 item\(s\) could not be read"):
        total = sn.compute(with_broken, on_error="skip")
    report = total.meta.report
    assert (report.read, report.skipped) == (4, 2)
    assert [name for name, _ in report.skipped_items] == ["3.png", "4.png"]
    assert total.count[0] == 4 * 35


def test_a_folder_of_nothing_but_broken_images_is_an_error(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"all 1 items were skipped, the first is a\.png"):
        sn.compute(tmp_path, on_error="skip")


def test_the_decoder_is_recorded(tmp_path):
    colour().save(tmp_path / "a.jpg")
    decoder = sn.compute(tmp_path / "a.jpg").meta.provenance.passes[0].decoder
    assert re.fullmatch(r"(simplejpeg [\d.]+, )?Pillow [\d.]+ \(libjpeg_turbo .*\)", decoder)


def test_a_linked_folder_is_entered_once(tmp_path):
    (tmp_path / "real").mkdir()
    colour().save(tmp_path / "real" / "a.png")
    (tmp_path / "real" / "loop").symlink_to(tmp_path)
    assert sn.compute(tmp_path).meta.report.read == 1


def test_a_transform_sees_what_is_measured(tmp_path):
    grey(100).save(tmp_path / "a.png")
    colour().save(tmp_path / "b.png")
    shapes = []
    sn.compute(tmp_path, transform=lambda a: shapes.append(a.shape) or a, workers=1)
    assert shapes == [(5, 7, 3), (5, 7, 3)]


def test_without_pillow_the_error_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(b"")
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(ImportError, match=r"streamnorm\[images\]"):
        sn.compute(tmp_path)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_mode_that_would_clip_16_bit_is_refused(tmp_path, mode):
    Image.fromarray(np.full((3, 3), 1000, np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="would clip"):
        sn.compute(tmp_path, mode=mode)


def test_16_bit_ppm_is_refused_and_pgm_stays_16_bit(tmp_path):
    header = b"P%d 2 1 65535 "
    (tmp_path / "c.ppm").write_bytes(header % 6 + np.array([1000, 2000, 3000] * 2, ">u2").tobytes())
    with pytest.raises(ValueError, match="16-bit colour"):
        sn.compute(tmp_path)
    (tmp_path / "c.ppm").unlink()
    (tmp_path / "g.pgm").write_bytes(header % 5 + np.array([1000, 60_000], ">u2").tobytes())
    Image.fromarray(np.full((1, 2), 1000, np.uint16)).save(tmp_path / "g.png")
    total = sn.compute(tmp_path)
    assert total.maximum.tolist() == [60_000.0]
    assert total.meta.provenance.passes[0].dtype == "uint16"


def test_hidden_folders_are_ignored_and_counted(tmp_path):
    colour().save(tmp_path / "a.png")
    for folder in (".ipynb_checkpoints", "__MACOSX", "deep/.cache"):
        (tmp_path / folder).mkdir(parents=True)
        colour().save(tmp_path / folder / "b.png")
    report = sn.compute(tmp_path).meta.report
    assert (report.read, report.ignored) == (1, 3)


def test_globs_may_name_folders_and_any_depth(tmp_path):
    for name in ("a.png", "deep/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        colour().save(tmp_path / name)
    assert sn.compute(tmp_path, include="**/*.png").meta.report.read == 2
    assert sn.compute(tmp_path, exclude="deep").meta.report.read == 1


def test_a_bomb_is_named_and_can_be_skipped(tmp_path, monkeypatch):
    colour(size=(50, 50)).save(tmp_path / "bomb.png")
    colour().save(tmp_path / "fine.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"bomb\.png.*decompression bomb"):
        sn.compute(tmp_path)
    with pytest.warns(sn.StreamnormWarning, match=r"bomb\.png"):
        assert sn.compute(tmp_path, on_error="skip").meta.report.read == 1


def test_an_unknown_mode_is_refused_before_any_file_is_blamed(tmp_path):
    colour().save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="mode must be one of Pillow's"):
        sn.compute(tmp_path, mode="XYZ")


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path, monkeypatch):
    import os

    colour().save(tmp_path / "a.png")
    (tmp_path / "closed").mkdir()
    real = os.scandir

    def scandir(path):
        if "closed" in str(path):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(PermissionError, match="closed"):
        sn.compute(tmp_path)


@pytest.mark.parametrize("workers", [2, 7, 16])
def test_files_that_finish_out_of_order_are_merged_in_order(tmp_path, workers):
    import random
    import time

    for k in range(60):
        size = tuple(RNG.integers(1, 60, 2))
        Image.fromarray(RNG.integers(0, 256, (*size, 3), dtype=np.uint8)).save(
            tmp_path / f"{k}.png"
        )
    delays = random.Random(workers)

    def late(image):
        time.sleep(delays.random() * 0.005)
        return image / 255

    expected = sn.compute(tmp_path, workers=1, transform=lambda image: image / 255)
    assert sn.compute(tmp_path, workers=workers, transform=late) == expected


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (300, 200), (2500, 2600)], ids=str)
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16", "F"])
def test_pixels_are_viewed_as_pillow_would_copy_them_and_outlive_the_picture(mode, size):
    """The largest lies in several pieces, which cannot be viewed."""
    depth = {"RGB": (3,), "RGBA": (4,)}.get(mode, ())
    dtype = {"I;16": np.uint16, "F": np.float32}.get(mode, np.uint8)
    values = RNG.integers(0, 256, (*size, *depth)).astype(dtype)
    picture = Image.fromarray(values)
    assert picture.mode == mode
    view = pixels(picture)
    del picture
    gc.collect()
    others = [Image.new("RGB", (200, 300), (1, 2, 3)) for _ in range(8)]
    assert others
    assert not view.flags.writeable
    assert np.array_equal(view, values)


@pytest.mark.parametrize("suffix", ["pgm", "bmp", "tga", "tiff", "png"])
@pytest.mark.parametrize("make", [grey, colour])
def test_pictures_mapped_padded_or_upside_down_in_their_files_are_read_right(
    tmp_path, make, suffix
):
    picture = make()
    if picture.mode == "RGB" and suffix == "pgm":
        suffix = "ppm"
    picture.save(tmp_path / f"one.{suffix}")
    assert sn.compute(tmp_path) == sn.measure(np.atleast_3d(picture), channel_axis=-1)


def test_with_an_older_pillow_pictures_are_copied(tmp_path, monkeypatch):
    colour().save(tmp_path / "one.png")
    viewed = sn.compute(tmp_path)
    monkeypatch.setattr(Image, "__version__", "12.3.0")
    pictures._hands_out_memory.cache_clear()
    monkeypatch.setattr(pictures, "pixels", None)
    assert sn.compute(tmp_path) == viewed
    pictures._hands_out_memory.cache_clear()


def test_a_picture_of_one_piece_is_not_copied():
    picture = colour(size=(40, 50))
    assert np.shares_memory(pixels(picture), pixels(picture))
