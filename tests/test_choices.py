"""What of a source is measured, and how much it counts: masks, nodata, names, weights, samples."""

import subprocess
import sys
import warnings

import numpy as np
import pytest

import streamnorm as sn
from streamnorm import StreamnormWarning
from streamnorm.cli import main
from streamnorm.cli.resizing import Resized
from streamnorm.masks import checked_mask
from streamnorm.meta import Sample
from streamnorm.sampling import with_errors

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3, 8, 8)).astype(np.float32)
VALID = RNG.uniform(size=(40, 1, 8, 8)) > 0.3


# Masks


def test_a_mask_of_an_array_is_sliced_with_it(monkeypatch):
    monkeypatch.setattr("streamnorm.sources.arrays.ITEM_VALUES", 500)
    right = sn.measure(X, mask=VALID, exact=True)
    assert sn.compute(X, mask=VALID, exact=True) == right
    chosen = [3, 1, 30]
    got = sn.compute(X, mask=VALID, indices=chosen, exact=True)
    assert got == sn.measure(X[chosen], mask=VALID[chosen], exact=True)
    one = VALID[0, 0]
    assert sn.compute(X, mask=one, exact=True) == sn.measure(X, mask=one, exact=True)


def test_a_mask_lies_in_the_batch_or_is_made_of_it():
    right = sn.measure(X, mask=VALID)
    tuples = [(X, VALID)]
    assert sn.compute(tuples, mask=1) == right
    dicts = [{"image": X, "valid": VALID}]
    assert sn.compute(dicts, mask="valid") == {"image": right}
    assert sn.compute(dicts, mask="valid", select="image") == right
    assert sn.compute(dicts, mask=lambda batch: batch["valid"], select="image") == right
    assert sn.compute(X, mask=lambda batch: batch > 0) == sn.measure(X, mask=X > 0)


def test_statistics_inside_of_a_label_region():
    labels = RNG.integers(0, 4, (40, 1, 8, 8))
    batches = [{"image": X[k : k + 8], "label": labels[k : k + 8]} for k in range(0, 40, 8)]
    for region in range(4):
        got = sn.compute(
            batches, select="image", mask=lambda batch, r=region: batch["label"] == r, exact=True
        )
        assert got == sn.measure(X, mask=labels == region, exact=True)


def test_a_region_that_is_nowhere_has_no_values_and_says_so_without_a_warning():
    got = sn.compute([(X, np.zeros_like(VALID))], mask=1)
    assert got.count.tolist() == [0, 0, 0]
    assert np.isnan(got.mean).all()
    assert got.omitted.tolist() == [40 * 64] * 3


def test_masks_of_pictures(tmp_path):
    from format_data import picture, write_png

    write_png(tmp_path / "a.png", 0)
    inner = np.zeros((12, 9, 1), bool)
    inner[3:9, 2:7] = True
    right = sn.measure(picture(0)[3:9, 2:7], channel_axis=-1)
    got = sn.compute(tmp_path, mask=inner)
    assert (got.mean == right.mean).all()
    assert got.count.tolist() == [30] * 3


@pytest.mark.parametrize(
    ("source", "mask", "error", "words"),
    [
        (X, VALID.astype(int), TypeError, "must be boolean"),
        (X, VALID[:3], ValueError, "cannot be broadcast"),
        (X, "valid", TypeError, "pass the mask itself"),
        ([(X, VALID)], 1.5, TypeError, "must be boolean"),
    ],
)
def test_bad_masks_are_refused(source, mask, error, words):
    with pytest.raises(error, match=words):
        sn.compute(source, mask=mask)


# Values that mean nothing


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
def test_nodata_is_left_out_channel_by_channel(dtype):
    x = RNG.integers(0, 4, (30, 3)).astype(dtype)
    everywhere = sn.compute(x, nodata=0, exact=True)
    assert everywhere == sn.measure(x, mask=x != 0, exact=True)
    each = sn.compute(x, nodata=[0, None, 3], exact=True)
    mask = np.column_stack([x[:, 0] != 0, np.ones(30, bool), x[:, 2] != 3])
    assert each == sn.measure(x, mask=mask, exact=True)
    assert each.omitted.tolist() == (~mask).sum(0).tolist()


def test_nodata_is_compared_in_the_dtype_of_the_data():
    lowest = np.array([[-3.4e38], [1.0]], np.float32)
    # In float64 the two differ: the decimal is not what float32 holds.
    assert float(lowest[0, 0]) != -3.4e38
    assert sn.compute(lowest, nodata=-3.4e38).count.tolist() == [1]
    assert sn.compute(np.array([[1, 2]], np.uint8), nodata=-9999).count.tolist() == [1, 1]
    assert sn.compute(np.array([[1, 2]], np.uint8), nodata=1.5).count.tolist() == [1, 1]
    nan = np.array([[np.nan], [1.0]])
    assert sn.compute(nan, nodata=np.nan).mean.tolist() == [1.0]


@pytest.mark.parametrize("wrong", ["0", "none", [0, "1", 2], object(), b"0", {0, 1, 2}, iter([0])])
def test_nodata_that_is_no_number_is_refused(wrong):
    with pytest.raises(TypeError, match="nodata must be 'auto', None, a number"):
        sn.compute(X, nodata=wrong)


@pytest.mark.parametrize("names", [["r", "r", "b"], 3, "rgb"])
def test_names_that_are_no_names_of_channels_are_refused(names):
    with pytest.raises(ValueError, match=r"need names of their own|must be a sequence of strings"):
        sn.compute(X, channels=names)


def test_names_may_come_in_any_collection():
    for names in (np.array(["r", "g", "b"]), {"r": 1, "g": 2, "b": 3}.keys(), ("r", "g", "b")):
        assert tuple(sn.compute(X, channels=names).meta.names) == ("r", "g", "b")


def test_nodata_comes_before_the_transform():
    x = np.array([[0.0, 1.0], [2.0, 3.0]])
    got = sn.compute(x, nodata=0, transform=lambda a: a + 5)
    assert got.mean.tolist() == [7.0, 7.0]


def test_nodata_needs_a_value_for_each_channel():
    with pytest.raises(ValueError, match="channels"):
        sn.compute(np.zeros((4, 3)), nodata=[0, 1])


@pytest.mark.torch
def test_nodata_of_tensors():
    torch = pytest.importorskip("torch")
    x = torch.arange(12.0).reshape(6, 2)
    assert sn.compute(x, nodata=0) == sn.measure(x, mask=x != 0)
    with pytest.raises(TypeError, match="bfloat16"):
        sn.compute(x.to(torch.bfloat16), nodata=0)


# Named arrays


def batches():
    for k in range(5):
        yield {
            "image": X[k * 8 : k * 8 + 8],
            "state": RNG.normal(size=(8, 7)),
            "time": np.arange(8.0),
            "task": ["pick"] * 8,
        }


def test_a_loader_of_dicts_gives_a_dict_in_one_pass():
    all_batches = list(batches())
    with pytest.warns(StreamnormWarning, match="keys left out.*task"):
        got = sn.compute(all_batches)
    assert list(got) == ["image", "state", "time"]
    for key in ("image", "state"):
        assert got[key] == sn.merge(sn.measure(batch[key]) for batch in all_batches)
    assert got["time"].count.tolist() == [40]
    assert got["time"].meta.names == ("time",)
    assert got["image"].meta.provenance.passes[0].array == "image"


def test_every_key_may_have_its_own_axis():
    data = [{"image": X.transpose(0, 2, 3, 1), "state": X[:, :, 0, 0]}]
    got = sn.compute(data, channel_axis={"image": -1})
    assert got["image"].channels == 3
    assert got["state"] == sn.measure(X[:, :, 0, 0])
    with pytest.raises(ValueError, match="looks like channels last"):
        sn.compute(data)


def test_generators_and_workers_make_no_difference_to_dicts():
    data = list(batches())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        right = sn.compute(data, workers=1)
        assert sn.compute(data, workers=4) == sn.compute(iter(data)) == right


@pytest.mark.torch
def test_a_dataloader_of_dicts_goes_on_after_a_stop(tmp_path, monkeypatch):
    monkeypatch.setattr("streamnorm.checkpoint.INTERVAL", 0.0)
    monkeypatch.setattr("streamnorm.checkpoint._SHARE", 1e9)
    torch = pytest.importorskip("torch")

    class Robots(torch.utils.data.Dataset):
        def __len__(self):
            return 20

        def __getitem__(self, k):
            return {"state": torch.full((4,), float(k)), "action": torch.tensor([k, -k]) * 1.0}

    loader = torch.utils.data.DataLoader(Robots(), batch_size=3)
    right = sn.compute(loader)
    assert right["state"].mean.tolist() == [9.5] * 4

    def stop(done, _):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sn.compute(loader, checkpoint=tmp_path / "c", progress=stop)
    assert sn.compute(loader, checkpoint=tmp_path / "c") == right


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (
            [{"a": X}, {"b": X}],
            ValueError,
            r"batch 1 has the keys \['b'\] but earlier ones \['a'\]",
        ),
        ([{1: X}], TypeError, "keys of a batch must be text"),
        ([{"a": "text"}], ValueError, "none of the keys"),
        ([{"a": X}, {"a": X[:, :2]}], ValueError, "has 2 channels"),
    ],
)
def test_batches_that_do_not_fit_are_refused(data, error, words):
    with pytest.raises(error, match=words):
        sn.compute(data)


def test_axes_are_numbers():
    with pytest.raises(TypeError, match="channel_axis must be"):
        sn.compute([{"a": X}], channel_axis={"a": "last"})


def test_channels_may_be_named():
    value = sn.compute(X, channels=["r", "g", "b"])
    assert value.meta.names == ("r", "g", "b")
    both = sn.compute([{"i": X, "s": X[:, :, 0, 0]}], channels={"i": ["r", "g", "b"]})
    assert (both["i"].meta.names, both["s"].meta.names) == (("r", "g", "b"), None)
    for source, channels, words in (
        (X, ["r"], "expected 3 channel names"),
        (X, {"i": ["r"]}, "pass channels= as a list"),
        ([{"i": X}], ["r"], "as a dict of names"),
        ([{"i": X}], {"j": ["r"]}, "not among the arrays"),
    ):
        with pytest.raises((TypeError, ValueError), match=words):
            sn.compute(source, channels=channels)


@pytest.mark.parametrize("exact", [False, True])
def test_select_and_concat_undo_each_other(exact):
    value = sn.measure(X, exact=exact).with_meta(names=("r", "g", "b"))
    parts = [value.select(name) for name in ("r", "g", "b")]
    assert sn.concat(parts) == value
    assert sn.concat(parts).meta.names == ("r", "g", "b")
    assert value.select(["b", "r"]).meta.names == ("b", "r")
    assert value.select([-1]) == value.select("b")
    merged = sn.merge([value, value])
    assert merged.meta.names == ("r", "g", "b")
    for wrong, error in ((["x"], KeyError), ([3], IndexError), (["r", 0], ValueError)):
        with pytest.raises(error):
            value.select(wrong)
    with pytest.raises(ValueError, match="no names"):
        sn.measure(X).select("r")


def test_concat_names_channels_by_their_arrays():
    arm = sn.measure(RNG.normal(size=(9, 2)))
    speed = sn.measure(RNG.normal(size=(9, 1)))
    table = {"arm": arm, "speed": speed, "hand": arm.with_meta(names=("x", "y"))}
    whole = sn.concat(table)
    assert whole.meta.names == ("arm[0]", "arm[1]", "speed", "hand.x", "hand.y")
    assert whole.mean.tolist() == [*arm.mean, *speed.mean, *arm.mean]
    assert sn.concat([arm, speed]).meta.names is None
    for wrong, error in (([], ValueError), ([arm, 3], TypeError)):
        with pytest.raises(error):
            sn.concat(wrong)
    with pytest.raises(TypeError, match="all of one kind"):
        sn.concat([arm, sn.measure(X, exact=True)])
    with pytest.raises(ValueError, match="different parts"):
        sn.concat([arm.with_meta(labels=[sn.Label("a")]), speed])


def test_exact_values_on_two_grids_stand_side_by_side():
    narrow, wide = sn.measure(X, exact=True), sn.measure(X.astype(float) / 3, exact=True)
    both = sn.concat([narrow, wide])
    assert both.mean.tolist() == [*narrow.mean, *wide.mean]


def test_dicts_are_merged_name_by_name_and_saved_in_one_file(tmp_path):
    one = {"a": sn.measure(X), "b": sn.measure(X, exact=True)}
    two = sn.merge([one, one])
    assert two == {"a": one["a"] + one["a"], "b": one["b"] + one["b"]}
    sn.save(two, tmp_path / "s.json")
    assert sn.load(tmp_path / "s.json") == two
    with pytest.raises(ValueError, match="only equal names"):
        sn.merge([one, {"a": one["a"]}])
    with pytest.raises(ValueError, match="only equal names"):
        sn.merge([one, one["a"]])
    with pytest.raises(TypeError, match="expected Moments to save"):
        sn.save({}, tmp_path / "t.json")
    with pytest.raises(TypeError, match="expected Moments to save"):
        sn.save({"a": 3}, tmp_path / "t.json")


def test_a_file_of_several_values_is_checked_as_one_of_one_is(tmp_path):
    path = tmp_path / "s.json"
    sn.save({"a": sn.measure(X)}, path)
    text = path.read_text()
    for old, new in (('"count": [2560', '"count": [2561'), ('"a":', '"b":')):
        path.write_text(text.replace(old, new))
        with pytest.raises(sn.StateFileError, match="wrong checksum"):
            sn.load(path)
    for old, new, words in (
        ('"kind": "moments"', '"kind": "several"', "must be of kind"),
        ('"values": {', '"more": 1, "values": {', "unknown fields"),
    ):
        path.write_text(text.replace(old, new))
        with pytest.raises(sn.StateFileError, match=words):
            sn.load(path, verify=False)


# Images that weigh the same, and samples


@pytest.fixture
def pictures(tmp_path):
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path / "pictures"
    folder.mkdir()
    arrays = []
    for k in range(60):
        size = RNG.integers(4, 30, 2)
        array = np.clip(RNG.normal(RNG.uniform(30, 220), 20, (*size, 3)), 0, 255).astype(np.uint8)
        image.fromarray(array).save(folder / f"{k:02}.png")
        arrays.append(array)
    return folder, arrays


def test_every_image_may_weigh_the_same(pictures):
    folder, arrays = pictures
    got = sn.compute(folder, weigh="image")
    assert isinstance(got, sn.WeightedMoments)
    means = np.array([a.reshape(-1, 3).mean(0) for a in arrays])
    squares = np.array([(a.reshape(-1, 3).astype(float) ** 2).mean(0) for a in arrays])
    np.testing.assert_allclose(got.mean, means.mean(0), rtol=1e-13)
    np.testing.assert_allclose(got.variance(), squares.mean(0) - means.mean(0) ** 2, rtol=1e-11)
    assert got.meta.provenance.passes[0].weigh == "image"
    by_pixel = sn.compute(folder)
    assert not np.allclose(by_pixel.mean, got.mean, rtol=1e-4)
    assert got.count.tolist() == by_pixel.count.tolist()


def test_rows_of_arrays_weigh_the_same_and_streams_are_refused(tmp_path):
    mask = RNG.uniform(size=X.shape) > RNG.uniform(size=(40, 1, 1, 1))
    got = sn.compute(X, mask=mask, weigh="image")
    right = sn.merge(
        sn.WeightedMoments.of_moments(sn.measure(x[None], mask=m[None]), 1)
        for x, m in zip(X, mask, strict=True)
    )
    np.testing.assert_allclose([got.mean, got.std()], [right.mean, right.std()], rtol=1e-13)
    with pytest.raises(ValueError, match="one an item"):
        sn.compute([X], weigh="image")
    with pytest.raises(ValueError, match="'pixel' or 'image'"):
        sn.compute(X, weigh="file")
    with pytest.raises(ValueError, match="exact=True"):
        sn.compute(X, weigh="image", exact=True)


def test_weighing_goes_on_after_a_stop(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr("streamnorm.checkpoint.INTERVAL", 0.0)
    monkeypatch.setattr("streamnorm.checkpoint._SHARE", 1e9)
    folder, _ = pictures
    right = sn.compute(folder, weigh="image")

    def stop(done, _):
        if done == 33:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sn.compute(folder, weigh="image", checkpoint=tmp_path / "c", progress=stop)
    with pytest.raises(ValueError, match="weigh was 'image'"):
        sn.compute(folder, checkpoint=tmp_path / "c")
    assert sn.compute(folder, weigh="image", checkpoint=tmp_path / "c") == right


def test_a_sample_is_marked_and_always_the_same(pictures, tmp_path):
    folder, _ = pictures
    got = sn.compute(folder, sample=20)
    assert sn.compute(folder, sample=20, workers=1) == got
    sample = got.meta.provenance.passes[0].sample
    assert (sample.taken, sample.of, got.meta.report.read) == (20, 60, 20)
    sn.save(got, tmp_path / "s.json")
    assert sn.load(tmp_path / "s.json").meta.provenance.passes[0].sample == sample
    halves = got.affine(0.5).meta.provenance.passes[0].sample
    np.testing.assert_allclose(halves.mean_error, np.array(sample.mean_error) / 2)
    assert got.select([2]).meta.provenance.passes[0].sample.std_error == sample.std_error[2:]
    everything = sn.compute(folder, sample=60)
    assert everything == sn.compute(folder)
    assert everything.meta.provenance.passes[0].sample.mean_error == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("each", [False, True])
def test_standard_errors_are_those_of_repeated_sampling(each):
    """As far as 400 draws can tell; pixels taken for independent would be ten times too sure."""
    rng = np.random.default_rng(5)
    sizes = rng.integers(20, 200, 300)
    images = [rng.normal(rng.normal(0, 3), rng.uniform(1, 2), (n, 1)) for n in sizes]
    parts = [sn.measure(image) for image in images]
    means, stds, errors = [], [], []
    for _ in range(400):
        chosen = [parts[i] for i in rng.choice(300, 60, replace=False)]
        values = [sn.WeightedMoments.of_moments(p, 1) for p in chosen] if each else chosen
        whole = sn.merge(values)
        found = with_errors(Sample(60, 300), np.stack([p.rows for p in chosen]), whole, each=each)
        means.append(whole.mean[0])
        stds.append(whole.std()[0])
        errors.append((found.mean_error[0], found.std_error[0]))
    claimed = np.sqrt(np.mean(np.square(errors), axis=0))
    np.testing.assert_allclose(claimed, [np.std(means), np.std(stds)], rtol=0.15)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sample": 61}, "more than the 60"),
        ({"sample": 0}, "at least 1"),
        ({"sample": 5, "indices": [1]}, "not both"),
        ({"sample": 5, "exact": True}, "leave weigh='image' and sample= out"),
        ({"sample": 5, "checkpoint": "c"}, "leave checkpoint= out"),
    ],
)
def test_bad_samples_are_refused(pictures, options, words):
    with pytest.raises(ValueError, match=words):
        sn.compute(pictures[0], **options)


def test_what_cannot_be_drawn_from_is_refused():
    with pytest.raises(ValueError, match="sample= does not apply to an iterable"):
        sn.compute([X], sample=1)
    got = sn.compute(X, sample=10)
    assert got.count.tolist() == [640] * 3
    with pytest.raises(ValueError, match="cannot be the channel axis"):
        sn.compute(X, sample=10, channel_axis=0)


# The command line


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_resize_and_crop_are_those_of_torchvision(mode):
    image = pytest.importorskip("PIL.Image")
    array = RNG.integers(0, 255, (50, 80, 3) if mode == "RGB" else (50, 80)).astype(np.uint8)
    picture = image.fromarray(array)
    array = np.atleast_3d(array)
    # torchvision: the longer side is int(size * long / short); bilinear, with antialiasing.
    right = np.atleast_3d(np.asarray(picture.resize((38, 24), image.Resampling.BILINEAR)))
    np.testing.assert_array_equal(Resized(24)(array), right)
    assert Resized((10, 20))(array).shape == (10, 20, array.shape[2])
    np.testing.assert_array_equal(Resized(24, 16)(array), right[4:20, 11:27])
    np.testing.assert_array_equal(Resized(None, (50, 10))(array), array[:, 35:45])
    with pytest.raises(ValueError, match="smaller than the crop"):
        Resized(None, 60)(array)


def test_options_of_the_command_line(pictures, tmp_path, capsys, monkeypatch):
    folder, _ = pictures
    monkeypatch.chdir(tmp_path)
    command = ["compute", str(folder), "--resize", "20", "--crop", "16x12", "--channels", "r,g,b"]
    assert main([*command, "--split", "train", "--weigh", "image", "-o", "s.json"]) == 0
    value = sn.load("s.json")
    entry = value.meta.provenance.passes[0]
    assert value.meta.names == ("r", "g", "b")
    assert value.count.tolist() == [60 * 16 * 12] * 3
    assert (entry.split, entry.weigh) == ("train", "image")
    assert entry.transform == "Resized(resize=20, crop=(16, 12))"
    capsys.readouterr()
    assert main(["show", "s.json"]) == 0
    shown = capsys.readouterr().out
    for words in ("split train", "every image weighs the same", "of 60: 00.png to 59.png"):
        assert words in shown
    assert main(["compute", str(folder), "--sample", "9", "--scale", "255", "-o", "t.json"]) == 0
    out, err = capsys.readouterr()
    assert "a sample, 9 of 60" in err
    assert " ± 0.0" in out
    assert main(["compute", str(folder), "--max-pixels", "20"]) == 1
    assert "exceeds limit" in capsys.readouterr().err
    monkeypatch.undo()


@pytest.fixture(autouse=True)
def same_limit_of_pixels():
    image = pytest.importorskip("PIL.Image")
    before = image.MAX_IMAGE_PIXELS
    yield
    image.MAX_IMAGE_PIXELS = before


def test_tables_on_the_command_line(tmp_path, capsys, monkeypatch):
    pytest.importorskip("pyarrow")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("a,b,name\n1,10,x\n3,,y\n-9,30,z\n")
    assert main(["compute", "t.csv", "--nodata", "-9", "-o", "s.json"]) == 0
    out, err = capsys.readouterr()
    lines = [line.split() for line in out.splitlines()]
    assert lines[1:] == [
        ["a", "2", "2", "1", "1", "3", "1"],
        ["b", "2", "20", "10", "10", "30", "1"],
    ]
    assert "columns left out" in err
    assert main(["merge", "s.json", "-o", "m.json"]) == 0
    assert sn.load("m.json") == sn.load("s.json")
    capsys.readouterr()
    assert main(["show", "s.json", "--select", "b", "--format", "torchvision"]) == 0
    assert capsys.readouterr().out == "transforms.Normalize(mean=[20], std=[10])\n"
    assert main(["export", "s.json", "--format", "json", "--scale", "10"]) == 0
    assert '"b": {' in capsys.readouterr().out
    assert main(["export", "s.json", "--format", "torchvision"]) == 1
    assert "choose it with --select" in capsys.readouterr().err
    assert main(["show", "s.json", "--select", "c"]) == 1
    assert "there is no 'c', only a, b" in capsys.readouterr().err
    assert main(["compute", "t.csv", "--exact", "--select", "a", "--select", "b"]) == 0
    assert "digest of b" in capsys.readouterr().err
    assert main(["compare", "t.csv"]) == 1
    assert "choose one with --select" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option", [["--nodata", "x"], ["--resize", "0"], ["--crop", "3x3x3"], ["--weigh", "file"]]
)
def test_malformed_options_are_usage_errors(option):
    command = [sys.executable, "-m", "streamnorm", "compute", "x", *option]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2


# What a reader with a fresh eye found


def test_resize_and_crop_are_for_pictures(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.zeros((10, 32, 32, 3), np.uint8))
    for command in (["compute", "x.npy"], ["compare", "x.npy"]):
        assert main([*command, "--channel-axis", "-1", "--crop", "16"]) == 1
        assert "to resize and crop is for files of images" in capsys.readouterr().err


def test_a_mask_must_fit_what_a_transform_gives():
    x = np.ones((4, 3, 8, 8))
    with pytest.raises(ValueError, match="which the mask of what is missing does not fit"):
        sn.compute(x, nodata=0, transform=lambda a: a[:, :, ::2])


def test_a_sample_of_one_has_unknown_errors(pictures):
    folder, _ = pictures
    sample = sn.compute(folder, sample=1).meta.provenance.passes[0].sample
    assert sample.mean_error == (None, None, None)
    assert main(["compute", str(folder), "--sample", "1"]) == 0


def test_samples_side_by_side_can_be_scaled_and_chosen(pictures):
    value = sn.compute(pictures[0], sample=5)
    both = sn.concat([value, value])
    assert both.affine(0.5).select([4]).meta.provenance.passes[0].sample.taken == 5


def test_columns_of_pandas_may_be_numbers():
    pandas = pytest.importorskip("pandas")
    got = sn.compute(pandas.DataFrame(np.ones((5, 2))))
    assert list(got) == ["0", "1"]
    assert got["0"].meta.names == ("0",)


def test_several_keys_are_selected_and_a_mask_is_an_array():
    data = [{"a": X[:8], "b": X[:8, :, 0, 0], "c": X[:8]}]
    assert list(sn.compute(data, select=["b", "a"])) == ["b", "a"]
    with pytest.raises(ValueError, match="pass select= one of them"):
        sn.compute(data, select=["d"])
    mask = np.ones((8, 3, 8, 8), bool)
    mask[0] = False
    assert sn.compute([{"a": X[:8]}], mask=mask)["a"].omitted.tolist() == [64] * 3


def test_folders_are_labelled_parts_of_one_whole(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / name / "1.png")
    (tmp_path / "dog" / "2.png").write_bytes(b"no picture")
    with pytest.warns(StreamnormWarning, match="1 item"):
        classes = sn.compute(tmp_path, by_folder=True, on_error="skip", label="train")
    whole = sn.merge(classes.values())
    assert [str(label) for label in whole.meta.labels] == ["train#cat", "train#dog"]
    assert whole.meta.report.skipped == 1


def test_names_that_do_not_fit_are_refused_at_the_first_item():
    seen = []
    with pytest.raises(ValueError, match="expected 3 channel names"):
        sn.compute([X] * 9, channels=["r"], workers=1, transform=lambda a: (seen.append(1), a)[1])
    assert len(seen) == 1


def test_an_axis_for_an_array_that_is_not_there_is_warned_of():
    with pytest.warns(StreamnormWarning, match="channel_axis= names 'imgae'"):
        sn.compute([{"image": X}], channel_axis={"imgae": 1})


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["plot", "s.json", "-o", "x.png", "--workers", "2"], "--workers does not apply"),
        (["plot", "x.npy", "--convergence", "--ddof", "1", "-o", "x.png"], "--ddof does not"),
        (["export", "s.json", "--format", "sklearn", "-o", "x", "--ddof", "1"], "leave --ddof out"),
        (["import", "stats.json", "--mean", "1"], "has its own numbers"),
    ],
)
def test_options_that_would_do_nothing_are_refused(command, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", X)
    sn.save(sn.measure(X), "s.json")
    assert main(command) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("mask", ["valid", lambda batch: batch["valid"]])
def test_masks_of_samples_have_the_axes_of_their_batch(mask):
    batch = {"x": np.arange(16.0).reshape(4, 4), "valid": np.array([True, True, False, False])}
    with pytest.raises(ValueError, match="give it as many axes, such as"):
        sn.compute([batch], select="x", mask=mask)
    rows = sn.compute([batch], select="x", mask=lambda batch: batch["valid"][:, None])
    assert rows.count.tolist() == [2, 2, 2, 2]


def test_weighted_and_unweighted_do_not_merge(pictures, tmp_path, monkeypatch, capsys):
    folder = pictures[0]
    each, image = sn.compute(folder), sn.compute(folder, weigh="image")
    with pytest.raises(TypeError, match="in one every value counts alike, in the other by its"):
        sn.merge([each, image])
    monkeypatch.chdir(tmp_path)
    sn.save(each, "each")
    sn.save(image, "image")
    assert main(["merge", "each", "image"]) == 1
    assert "image is weighted" in capsys.readouterr().err


def test_what_was_measured_twice_is_said_when_it_is_merged(pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sn.save(sn.compute(pictures[0], split="train"), "one")
    sn.save(sn.compute(pictures[0], split="val"), "again")
    assert main(["merge", "one", "again"]) == 0
    assert "was measured twice, or has files of the same names" in capsys.readouterr().err
    for name in ("one", "again"):
        sn.save(sn.load(name).with_meta(labels=(sn.Label.parse(name),)), f"{name}-named")
    assert main(["merge", "one-named", "again-named"]) == 0
    assert "measured twice, or" not in capsys.readouterr().err


def test_a_sample_among_the_parts_is_said(pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sn.save(sn.compute(pictures[0]), "one")
    sn.save(sn.compute(pictures[0], sample=5), "some")
    assert main(["merge", "one", "some"]) == 0
    assert "only a sample was read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--sample", "2", "--exact"], "--exact is for all values alike"),
        (["--sample", "2", "--checkpoint", "k"], "leave --checkpoint out, or --sample"),
        (["--by-folder"], "--by-folder needs a folder"),
    ],
)
def test_messages_spell_options_as_the_command_line_does(
    tmp_path, monkeypatch, capsys, options, words
):
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", np.ones((9, 2)))
    assert main(["compute", "a.npy", *options]) == 1
    assert words in capsys.readouterr().err


def test_arrays_of_one_shape_are_merged_without_a_word(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("one", "other"):
        sn.save(sn.compute(RNG.normal(size=(9, 2))), name)
    assert main(["merge", "one", "other"]) == 0
    assert "twice" not in capsys.readouterr().err


# What is refused before the work, and what is counted of all


@pytest.mark.parametrize("name", ["x-images-idx3-ubyte", "x.wav", "x.nii", "x.tif"])
def test_files_without_names_inside_refuse_to_select(tmp_path, name):
    import format_data

    write = {
        "x-images-idx3-ubyte": format_data.write_idx,
        "x.wav": format_data.write_wav,
        "x.nii": format_data.write_nifti,
        "x.tif": format_data.write_geotiff,
    }[name]
    write(tmp_path / name, 0)
    with pytest.raises(ValueError, match="select= does not apply"):
        sn.compute(tmp_path / name, select="left")


def test_to_check_a_mask_does_not_read_it():
    class Elsewhere:
        dtype = np.dtype(bool)

        def __array__(self, *_, **__):
            raise AssertionError

    given = Elsewhere()
    assert checked_mask(given) is given


def test_a_mask_of_numbers_is_refused_before_anything_is_read(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "h.h5", "w") as file:
        file["a"] = np.ones((4, 3))
    for on_error in ("raise", "skip"):
        with pytest.raises(TypeError, match=r"^mask must be boolean"):
            sn.compute(tmp_path / "h.h5", mask=np.ones((4, 3)), on_error=on_error)


@pytest.mark.parametrize(
    ("channels", "error", "words"),
    [("rgb", ValueError, "sequence of strings"), ({"x": ["a"]}, TypeError, "is one array")],
)
def test_names_of_channels_that_fit_nothing_are_refused_at_once(channels, error, words):
    taken = []

    def batches():
        for k in range(9):
            taken.append(k)
            yield X[:4]

    with pytest.raises(error, match=words):
        sn.compute(batches(), channels=channels, workers=1)
    assert len(taken) < 9


def test_a_mask_may_be_a_tensor_where_a_checkpoint_is_kept(tmp_path):
    torch = pytest.importorskip("torch")
    mask = torch.from_numpy(VALID)
    np.save(tmp_path / "x.npy", X)
    got = sn.compute(tmp_path / "x.npy", mask=mask, checkpoint=tmp_path / "kept")
    assert got == sn.compute(tmp_path / "x.npy", mask=VALID)


def test_what_is_read_by_folder_is_counted_of_all(pictures, capsys):
    folder, arrays = pictures
    for k, path in enumerate(sorted(folder.iterdir())):
        (folder / f"class-{k % 3}").mkdir(exist_ok=True)
        path.rename(folder / f"class-{k % 3}" / path.name)
    assert main(["compute", str(folder), "--by-folder"]) == 0
    assert f"{len(arrays)} read" in capsys.readouterr().err


def test_files_beside_a_single_array_are_counted_as_ignored(tmp_path):
    np.save(tmp_path / "a.npy", X)
    (tmp_path / "x.txt").write_text("nothing")
    assert sn.compute(tmp_path).meta.report.ignored == 1
    np.save(tmp_path / "b.npy", X + 1)
    only = sn.compute(tmp_path, include=["a.npy"])
    assert (only, only.meta.report.ignored) == (sn.measure(X), 2)


def test_nodata_of_some_channels_and_of_nan(monkeypatch):
    values = np.array([[0.0, 1.0, np.nan], [5.0, 0.0, 2.0], [np.nan, 7.0, 300.0]])
    got = sn.compute(values, nodata=[0, None, float("nan")], nan_policy="omit")
    assert got.count.tolist() == [1, 3, 2]
    assert sn.compute(values, nodata=[0, None, float("nan")]).count.tolist() == [2, 3, 2]
    whole = np.array([[0, 1], [5, 0]], np.uint8)
    assert sn.compute(whole, nodata=[0, 0.5]).count.tolist() == [1, 2]
    assert sn.compute(whole, nodata=[300, None]).count.tolist() == [2, 2]
    with pytest.raises(ValueError, match="nodata= has 3 values"):
        sn.compute(whole, nodata=[0, 0, 0])
