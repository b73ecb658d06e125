"""The doctor: every fault is found in plain words, and nothing is found where nothing is wrong."""

import json

import numpy as np
import pytest

import streamnorm as sn
from streamnorm.cli import main
from streamnorm.convergence import follow
from streamnorm.doctor import check
from streamnorm.shortcuts import compare
from streamnorm.sources.items import Choice

RNG = np.random.default_rng(0)
LEVELS = RNG.uniform(40, 200, (300, 3, 1, 1))
IMAGES = np.clip(RNG.normal(LEVELS, 30, (300, 3, 9, 9)), 0, 255).astype(np.uint8)
STATS = sn.compute(IMAGES)


def codes(*arguments, **options):
    return [finding.code for finding in check(*arguments, **options)]


def said(code, *arguments, **options):
    (finding,) = [f for f in check(*arguments, **options) if f.code == code]
    return finding


def moments(mean, std, low=None, high=None, count=1000):
    return sn.Moments.from_mean_std(count, mean, std, 0, low, high)


# From the numbers alone


def test_nothing_is_found_in_good_statistics():
    assert codes(STATS) == []
    assert codes({"a": STATS, "b": sn.compute(IMAGES, exact=True)}) == []
    assert codes(moments([100.0, 0.0], [10.0, 1.0])) == []


@pytest.mark.parametrize(
    ("value", "code", "channels"),
    [
        (sn.measure([[1.0, 2.0], [1.0, 3.0]]), "constant", ("0",)),
        (sn.measure([[1.0, np.nan], [2.0, 3.0]]), "non-finite", ("1",)),
        (sn.measure([[1.0, np.inf], [2.0, 3.0]]), "non-finite", ("1",)),
        (sn.Moments.empty(2), "empty", ("0", "1")),
        (moments([1e4, 1.0], [0.0, 1.0], [9999, 0], [10001, 2]), "cancelled", ("0",)),
        (moments([1e4], [1e-3], [9999], [10001]), "cancelled", ("0",)),
        (moments([0.0], [1e-6], [-0.1], [0.1]), "nearly-constant", ("0",)),
        (moments([100.0, 5.0], [2e3, 1.0], [-9999, 0], [250, 9]), "nodata", ("0",)),
        (moments([3.1e19], [4.6e19], [271], [1e20]), "nodata", ("0",)),
        (moments([3.1e19], [4.6e19], [271], [np.float32(1e20)]), "nodata", ("0",)),
        (moments([0.49, 0.48, 0.45], [0.2023, 0.1994, 0.2010]), "copied-shortcut", ()),
        (moments([124, 116, 104], np.array([0.229, 0.224, 0.225]) * 255), "copied-shortcut", ()),
    ],
)
def test_numbers_that_speak_against_themselves(value, code, channels):
    finding = said(code, value)
    assert finding.channels == channels
    assert finding.severity == ("doubtful" if "constant" in code else "wrong")


def test_channels_and_arrays_are_called_by_their_names():
    value = sn.measure([[1.0, 2.0], [1.0, 3.0]]).with_meta(names=("dead", "alive"))
    finding = said("constant", {"arm": value})
    assert (finding.array, finding.channels) == ("arm", ("dead",))


def test_what_the_file_says_of_its_making(tmp_path):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mixed = sn.compute([IMAGES, IMAGES / 255])
    assert codes(mixed) == ["mixed-scales"]
    splits = sn.merge([sn.compute(IMAGES, split=split) for split in ("train", "test")])
    assert codes(splits) == ["mixed-splits"]
    assert codes(sn.compute(IMAGES, sample=50)) == ["sample"]


# Beside the data


def test_nothing_is_found_where_statistics_are_those_of_the_data():
    assert codes(STATS, IMAGES) == []
    assert codes(STATS.affine(1 / 255), IMAGES, scale=255) == []
    assert codes({"": sn.compute(IMAGES, exact=True)}, IMAGES) == []
    # Four digits, as people publish them.
    printed = moments(STATS.mean.round(2), STATS.std().round(2))
    assert codes(printed, IMAGES) == []


@pytest.mark.parametrize("name", ["per-image", "B = 64", "per-image variance"])
def test_the_shortcuts_std_is_recognised(name):
    per_image = np.array([[c.std(ddof=1) for c in image] for image in IMAGES])
    batches = [IMAGES[k : k + 64].std(axis=(0, 2, 3), ddof=1) for k in range(0, 300, 64)]
    wrong = {
        "per-image": per_image.mean(0),
        "B = 64": np.mean(batches, axis=0),
        "per-image variance": np.sqrt((per_image**2).mean(0)),
    }[name]
    finding = said("shortcut", moments(STATS.mean, wrong), IMAGES)
    assert name in finding.text
    assert f"{STATS.std()[0]:.5g}" in finding.text


@pytest.mark.parametrize("scale", [255, 1 / 255, 65535])
def test_another_scale_is_recognised_not_taken_for_a_misfit(scale):
    assert codes(STATS.affine(scale), IMAGES) == ["scale"]


def test_other_data_are_recognised_by_their_digest(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for split, images in (("train", IMAGES[:200]), ("test", IMAGES[200:])):
        (tmp_path / split).mkdir()
        for k, array in enumerate(images):
            image.fromarray(array.transpose(1, 2, 0)).save(tmp_path / split / f"{k}.png")
    stats = sn.compute(tmp_path / "train", split="train")
    assert codes(stats, tmp_path / "train") == []
    finding = said("other-data", stats, tmp_path / "test")
    assert "of the split train: 200, from 0.png to" in finding.text
    assert codes(stats, tmp_path / "test") == ["other-data"]


def test_the_same_files_must_have_the_same_statistics(tmp_path):
    np.save(tmp_path / "x.npy", IMAGES)
    stats = sn.compute(tmp_path / "x.npy")
    assert codes(stats, tmp_path / "x.npy") == []
    off = stats.affine(1, 0.1)
    assert codes(off, tmp_path / "x.npy") == ["differs"]


def test_a_difference_is_weighed_by_images_not_by_pixels():
    # Thirty images of other levels: by pixels they would differ by dozens of standard errors.
    few = IMAGES[:30]
    assert "does-not-fit" not in codes(STATS, few)
    brighter = np.clip(IMAGES.astype(int) + 30, 0, 255).astype(np.uint8)
    finding = said("does-not-fit", moments(STATS.mean, STATS.std()), brighter)
    assert "±" in finding.text


def test_normalized_data_have_mean_0_and_std_1():
    norm = sn.Normalize.from_moments(STATS)
    assert codes(STATS, norm(IMAGES), normalized=True) == []
    by_shortcut = sn.Normalize(STATS.mean, STATS.std() * 0.8)
    findings = check(STATS, by_shortcut(IMAGES), normalized=True)
    assert [f.code for f in findings] == ["not-normalized"]
    assert "std 1.25 ± " in findings[0].text
    assert codes(STATS, IMAGES.astype(float), normalized=True) == ["not-normalized"] * 2
    # Of ten images of the data set the mean is not 0, by accident.
    assert codes(STATS, norm(IMAGES[:10]), normalized=True) == []


def test_sorted_data_drift_and_shuffled_data_do_not():
    order = np.argsort(LEVELS[:, 1, 0, 0])
    finding = said("drift", STATS, IMAGES[order])
    assert "1" in finding.channels
    assert "is it sorted?" in finding.text
    for seed in range(20):
        shuffled = np.random.default_rng(seed).permutation(IMAGES)
        assert "drift" not in codes(STATS, shuffled)


@pytest.mark.data
def test_cifar_is_sorted_by_class(cifar):
    images = cifar[::50]
    stats = sn.compute(images, channel_axis=-1)
    found = codes(stats, images, choice=Choice(channel_axis=-1))
    assert set(found) == {"drift"}


def test_several_arrays_are_checked_one_by_one(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table = {"a": RNG.normal(5, 1, 900), "b": RNG.normal(0, 3, 900)}
    pq.write_table(pa.table(table), tmp_path / "t.parquet", row_group_size=30)
    stats = sn.compute(tmp_path / "t.parquet")
    assert codes(stats, tmp_path / "t.parquet") == []
    assert codes({"c": moments([5.0], [1.0])}, tmp_path / "t.parquet") == ["missing-array"]
    assert codes({"a": STATS}, tmp_path / "t.parquet") == ["channels"]
    swapped = {"a": stats["b"], "b": stats["a"]}
    assert {f.array for f in check(swapped, tmp_path / "t.parquet")} == {"a", "b"}


def test_the_command_line_speaks_and_fails(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", IMAGES)
    assert main(["compute", "x.npy", "-o", "good.json"]) == 0
    sn.save(STATS.affine(1 / 255), "scaled.json")
    capsys.readouterr()
    assert main(["check", "good.json", "x.npy"]) == 0
    assert capsys.readouterr().out == "nothing wrong was found\n"
    assert main(["check", "scaled.json", "x.npy"]) == 1
    assert capsys.readouterr().out.startswith("wrong: they are about 1/255 of those of the data")
    assert main(["check", "scaled.json", "x.npy", "--json"]) == 1
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert (finding["code"], finding["severity"]) == ("scale", "wrong")
    sn.save(sn.measure([[1.0, 2.0], [1.0, 3.0]]), "constant.json")
    assert main(["check", "constant.json"]) == 0
    assert "doubtful: channel(s) 0 are constant" in capsys.readouterr().out
    assert main(["check", "constant.json", "--strict"]) == 1
    assert main(["check", "nothing.json"]) == 1


# What a reader with a fresh eye found: false alarms, and faults that went by


@pytest.fixture
def folder(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for k, array in enumerate(IMAGES):
        (tmp_path / "images" / f"class-{k % 3}").mkdir(parents=True, exist_ok=True)
        path = tmp_path / "images" / f"class-{k % 3}" / f"{k:03}.png"
        image.fromarray(array.transpose(1, 2, 0)[: 5 + k % 4]).save(path)
    return tmp_path / "images"


@pytest.mark.parametrize(
    "options", [{}, {"weigh": "image"}, {"by_folder": True}, {"exact": True}, {"sample": 200}]
)
def test_statistics_are_those_of_their_data_however_they_were_taken(folder, options):
    found = codes(sn.compute(folder, **options), folder)
    assert set(found) <= {"sample"}


def test_merged_shards_are_not_taken_for_one_of_them(folder):
    parts = [sn.compute(path) for path in sorted(folder.iterdir())]
    assert codes(sn.merge(parts), folder) == []
    assert "differs" not in codes(sn.merge(parts), folder / "class-0")


def test_arrays_of_one_shape_are_not_taken_for_the_same():
    other = np.random.default_rng(1).permutation(IMAGES)[:, :, ::-1] // 2
    assert "differs" not in codes(sn.compute(IMAGES), other)
    assert "scale" not in codes(sn.compute(IMAGES), other)


def test_a_selected_column_is_found_again(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table = pa.table({"a": RNG.normal(5, 1, 900), "v": list(RNG.normal(0, 3, (900, 2)))})
    pq.write_table(table, tmp_path / "t.parquet")
    for column in ("a", "v"):
        assert (
            codes(sn.compute(tmp_path / "t.parquet", select=column), tmp_path / "t.parquet") == []
        )


def test_a_table_of_one_piece_is_judged_by_its_rows(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": RNG.normal(0, 1, 9000)}), tmp_path / "t.parquet")
    found = codes({"a": moments([100.0], [5.0])}, tmp_path / "t.parquet")
    assert set(found) == {"does-not-fit"}
    assert codes(STATS, tmp_path / "t.parquet", normalized=True) == ["channels"]


def test_too_little_data_is_said_not_passed_over():
    assert codes(moments([5.0] * 3, [1.0] * 3), IMAGES[:2]) == ["too-few"]
    assert codes(STATS, IMAGES[:1].astype(float), normalized=True) == ["too-few"]


def test_many_channels_of_another_scale():
    x = RNG.uniform(0, 255, (100, 64, 9, 9))
    assert codes(sn.compute(x[:50]).affine(1 / 255), x[50:]) == ["scale"]


def test_images_of_one_pixel_do_not_hide_the_shortcut(folder):
    image = pytest.importorskip("PIL.Image")
    per_image = [sn.compute(path).std(ddof=1) for path in sorted(folder.rglob("*.png"))]
    wrong = np.mean(per_image, axis=0)
    image.fromarray(np.zeros((1, 1, 3), np.uint8)).save(folder / "class-0" / "tiny.png")
    assert "shortcut" in codes(moments(STATS.mean, wrong), folder)


def test_values_as_large_on_both_sides_are_no_sentinels():
    assert codes(moments([0.0], [577.0], [-999], [999])) == []
    assert codes(moments([100.0], [600.0], [-32768], [255])) == ["nodata"]
    assert said("nodata", moments([0.0], [900.0], [-9999], [3000])).severity == "doubtful"


def test_large_arrays_are_judged_by_pieces_of_rows():
    x = RNG.normal(5, 1, (50_000, 4)).astype(np.float32)
    assert codes(sn.compute(x), x) == []


# Which of it, and how it was read


def table_of(tmp_path, rows):
    path = tmp_path / "t.csv"
    lines = [",".join(map(str, row)) for row in rows.tolist()]
    path.write_text("\n".join(["length,mass,depth", *lines]))
    return path


def test_only_what_is_selected_is_judged(tmp_path):
    pytest.importorskip("pyarrow")
    rows = RNG.normal([40, 4000, 0.3], [5, 800, 0.1], (200, 3))
    path = table_of(tmp_path, rows)
    stats = sn.compute(path)
    for select in ("mass", ["mass"], ["mass", "depth"]):
        assert codes(stats, path, choice=Choice(select=select)) == []
    wrong = stats | {"mass": stats["mass"].affine(1 / 255)}
    assert codes(wrong, path, choice=Choice(select="mass")) == ["scale"]
    assert codes(wrong, path, choice=Choice(select="length")) == []
    with pytest.raises(ValueError, match="hold no 'width', only length, mass, depth"):
        check(stats, path, choice=Choice(select="width"))


def test_statistics_taken_after_another_transform_are_doubtful(folder):
    assert codes(sn.compute(folder, transform=lambda image: image / 2), folder)[:1] == [
        "read-differently"
    ]


@pytest.mark.parametrize("digits", [4, 7])
def test_shortcuts_are_known_by_the_few_digits_that_are_published(digits):
    shortcut = IMAGES.reshape(300, 3, -1).std(2, ddof=1).mean(0) / 1000
    stats = sn.compute(IMAGES).affine(1 / 1000)
    published = moments(stats.mean, np.round(shortcut, digits))
    assert said("shortcut", published, IMAGES, scale=1000).severity == "wrong"
    right = moments(stats.mean, np.round(stats.std(), digits))
    assert "shortcut" not in codes(right, IMAGES, scale=1000)


def test_a_drift_names_the_channel_that_drifts():
    rows = np.sort(RNG.normal(0, 1, (60_000, 2)), axis=0)
    rows[:, 0] = RNG.normal(0, 1, 60_000)
    (finding,) = check(sn.measure(rows), rows, choice=Choice(channel_axis=1))
    assert finding.channels == ("1",)
    assert "the mean of channel 1 of a twentieth" in finding.text


def test_what_is_wrong_is_printed_before_what_is_doubtful(tmp_path, capsys):
    sn.save({"a": moments([1.0], [0.0], [1.0], [1.0]), "b": sn.Moments.empty(1)}, tmp_path / "s")
    assert main(["check", str(tmp_path / "s")]) == 1
    assert capsys.readouterr().out.startswith("wrong: b: ")


# What is skipped counts nowhere


@pytest.fixture
def mixed(tmp_path):
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path / "mixed"
    folder.mkdir()
    for k in range(10):
        image.fromarray(IMAGES[k, 0]).save(folder / f"{k}.png")
    for k in range(3):
        image.fromarray(np.full((9, 9), 60_000 + k, np.uint16)).save(folder / f"z{k}.png")
    return folder


def test_samples_that_do_not_fit_are_in_no_shortcut_and_no_curve(mixed):
    skipping = Choice(skips=True)
    with pytest.warns(sn.StreamnormWarning, match="3 item"):
        comparison = compare(mixed, choice=skipping)
    assert comparison.samples == 10
    right = IMAGES[:10, 0].std(axis=(1, 2), ddof=1).mean()
    np.testing.assert_allclose(comparison.shortcuts[0].std, [right])
    with pytest.warns(sn.StreamnormWarning, match="3 item"):
        curve = follow(mixed, choice=skipping)
    assert (curve.samples[-1], curve.mean[-1]) == (10, pytest.approx(IMAGES[:10, 0].mean()))
    with pytest.warns(sn.StreamnormWarning, match="3 item"):
        assert codes(sn.compute(IMAGES[:10, :1]), mixed, choice=skipping) == []


# Units, small tables, and what is declared missing


@pytest.mark.parametrize("factor", [100, 1 / 100, 1000])
def test_another_unit_is_a_scale_of_its_own(factor):
    finding = said("scale", STATS.affine(factor), IMAGES)
    assert "times" in finding.text or "1/100 of" in finding.text
    assert "another unit" in finding.text
    assert "255" not in finding.text


@pytest.mark.parametrize("level", [50, 82, 98, 130])
@pytest.mark.parametrize("std", [49, 58, 66])
@pytest.mark.parametrize("copied", [([0.485] * 3, [0.229] * 3), ([0.5] * 3, [0.5] * 3)])
def test_statistics_of_other_pictures_are_of_another_scale_first(level, std, copied):
    rng = np.random.default_rng(1)
    x = rng.normal(level + rng.normal(0, std / 2, (60, 3, 1, 1)), std * 0.87, (60, 3, 9, 9))
    finding = said("scale", moments(*copied), np.clip(x, 0, 255).astype(np.uint8))
    assert "0 to 255" in finding.text or "another unit" in finding.text


def test_what_turns_means_around_is_no_scale():
    rng = np.random.default_rng(1)
    turned = moments([-5.0, -5.0], [255.0, 255.0])
    assert "scale" not in codes(turned, rng.normal(5, 1, (60, 2, 8, 8)))


def test_stds_tell_a_usual_scale_where_means_are_of_darker_pictures():
    x = np.random.default_rng(1).normal(60, 55, (100, 3, 9, 9)) + 38
    assert "values from 0 to 255" in said("scale", moments([0.485] * 3, [0.229] * 3), x).text


@pytest.mark.parametrize(("mean", "offset"), [(4, 1026), (8, 1992)])
def test_an_offset_is_no_scale(mean, offset):
    rng = np.random.default_rng(1)
    x = rng.normal(mean, 10, (300, 2, 8, 8))
    found = codes(sn.compute(x + offset), x)
    assert "scale" not in found
    assert "does-not-fit" in found


def test_a_wrong_std_beside_the_right_mean_is_no_other_scale():
    wrong = moments(STATS.mean, STATS.std() * 130)
    assert "scale" not in codes(wrong, IMAGES)


def test_the_centre_for_pictures_of_0_to_1_is_of_another_scale():
    centre = moments([0.5] * 3, [0.5] * 3)
    assert "as if one was of values from 0 to 255" in said("scale", centre, IMAGES).text


@pytest.mark.parametrize("rows", [300, 900, 20_000])
def test_small_tables_are_searched_for_drift_too(rows):
    rng = np.random.default_rng(1)
    mixed = rng.normal(size=(rows, 2))
    ordered = np.sort(mixed, axis=0)
    assert "drift" in codes(sn.compute(ordered), ordered)
    assert codes(sn.compute(mixed), mixed) == []


@pytest.mark.parametrize("rows", [500, 2000])
@pytest.mark.parametrize("seed", range(5))
def test_rows_that_depend_on_their_neighbours_are_not_sorted_for_that(rows, seed):
    noise = np.random.default_rng(seed).normal(size=(rows, 2))
    for at in range(1, rows):
        noise[at] += 0.9 * noise[at - 1]
    assert codes(sn.compute(noise), noise) == []


def test_a_small_table_is_searched_for_drift_wherever_it_lies(tmp_path):
    rng = np.random.default_rng(1)
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": np.sort(rng.normal(size=900))})
    assert codes(sn.compute(frame), frame) == ["drift"]
    for k in range(9):
        frame[k * 100 : k * 100 + 100].to_csv(tmp_path / f"{k}.csv", index=False)
    assert codes(sn.compute(tmp_path), tmp_path) == ["drift"]


def test_what_is_read_once_is_read_once():
    rng = np.random.default_rng(1)
    rows = np.sort(rng.normal(size=(900, 2)), axis=0)
    assert codes(sn.compute(rows), iter(np.split(rows, 9))) == []
    calls = []
    check(sn.compute(IMAGES), IMAGES[:50], transform=lambda x: calls.append(1) or x)
    assert len(calls) == 50


def test_what_a_mask_leaves_out_was_not_declared_missing(tmp_path):
    rng = np.random.default_rng(1)
    np.save(tmp_path / "x.npy", np.where(rng.uniform(size=(400, 2)) > 0.5, 5.0, -77.0))
    choice = Choice(nodata=-77)
    found = codes(sn.compute(tmp_path / "x.npy"), tmp_path / "x.npy", choice=choice)
    assert "nodata" not in found
    assert "differs" in found


def test_what_the_source_declares_missing_and_was_counted_in_is_named(tmp_path):
    rng = np.random.default_rng(1)
    h5py = pytest.importorskip("h5py")
    x = rng.normal(5, 1, (40, 50)).astype(np.float32)
    x[:, ::7] = -77
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = x
        file["x"].attrs["_FillValue"] = np.float32(-77)
    wrong = sn.compute(tmp_path / "x.h5", nodata=None)
    finding = said("nodata", wrong, tmp_path / "x.h5")
    assert "declares missing" in finding.text
    assert "differs" not in codes(wrong, tmp_path / "x.h5")
    assert codes(sn.compute(tmp_path / "x.h5"), tmp_path / "x.h5") == []


def test_what_the_source_lacks_is_said_as_it_was_asked_for():
    several = [{"a": IMAGES, "b": IMAGES}]
    assert said("missing-array", STATS, several).text.endswith("choose one with select=")
    both = {"c": STATS, "a": STATS}
    assert "holds nothing of this name, but a, b" in said("missing-array", both, several).text


def test_what_is_read_again_is_said_once(tmp_path, recwarn):
    (tmp_path / "t.csv").write_text("a,word\n" + "\n".join(f"{k % 7},x" for k in range(900)))
    check({"a": moments([3.0], [2.0])}, tmp_path / "t.csv")
    assert len([warning for warning in recwarn if "word" in str(warning.message)]) == 1


def test_wide_tables_are_not_read_again_in_pieces():
    calls = []
    wide = np.sort(np.random.default_rng(1).normal(size=(300, 2001)), axis=0)
    check(sn.compute(wide), wide, transform=lambda x: calls.append(1) or x)
    assert len(calls) == 2
