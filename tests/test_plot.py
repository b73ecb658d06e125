"""Pictures: what is drawn is what was measured, and the same numbers are the same file."""

import numpy as np
import pytest

import streamnorm as sn
from streamnorm.cli import main

pytest.importorskip("matplotlib")
from streamnorm.convergence import follow
from streamnorm.plotting import (
    picture_of_arrays,
    picture_of_channels,
    picture_of_convergence,
    picture_of_groups,
    rendered,
)

RNG = np.random.default_rng(0)
LEVELS = RNG.uniform(40, 200, (120, 3, 1, 1))
IMAGES = np.clip(RNG.normal(LEVELS, 30, (120, 3, 9, 9)), 0, 255).astype(np.uint8)
STATS = sn.compute(IMAGES, channels=["red", "green", "blue"])


def labels(axes):
    return [text.get_text() for text in axes.get_xticklabels()]


def texts(figure):
    figure.draw_without_rendering()
    return [t.get_text() for axes in figure.axes for t in (*axes.texts, *axes.get_yticklabels())]


def test_every_channel_has_its_mean_std_and_extremes():
    (axes,) = picture_of_channels(STATS, "title").axes
    assert labels(axes) == ["red", "green", "blue"]
    assert axes.get_title(loc="left") == "title"
    bars = axes.patches
    np.testing.assert_allclose([b.get_y() for b in bars], STATS.mean - STATS.std())
    np.testing.assert_allclose([b.get_height() for b in bars], 2 * STATS.std())
    lines = axes.collections[0].get_segments()
    np.testing.assert_allclose(
        [[line[0, 1], line[1, 1]] for line in lines],
        np.column_stack([STATS.minimum, STATS.maximum]),
    )


def test_channels_of_other_scales_are_drawn_on_their_own_with_their_numbers():
    table = sn.concat(
        {"mass": sn.measure([[2700.0], [6300.0]]), "depth": sn.measure([[13.1], [21.5]])}
    )
    found = texts(picture_of_channels(table, ""))
    for text in ("mass", "2700", "6300", "4500 ± 1800", "17.3 ± 4.2"):
        assert text in found


def test_many_channels_are_bands():
    value = sn.measure(RNG.normal(size=(50, 300)))
    (axes,) = picture_of_channels(value, "").axes
    assert len(axes.collections) == 2
    np.testing.assert_allclose(axes.lines[0].get_ydata(), value.mean)


@pytest.mark.parametrize(
    "value",
    [
        sn.Moments.empty(3),
        sn.Moments.from_mean_std(9, [1.0, 2.0], [0.5, 0.1]),
        sn.measure([[1.0, np.nan], [2.0, 3.0]]),
        sn.measure([[1.0], [1.0]]),
        sn.measure_weighted([[1.0], [2.0]], aweights=1.0),
        sn.measure([[1.0], [2.0]], exact=True),
    ],
)
def test_whatever_a_value_is_it_is_drawn_without_a_warning(value):
    assert rendered(picture_of_channels(value, "x"), "png")[:4] == b"\x89PNG"
    assert rendered(picture_of_groups({"a": value, "b": value}, "x"), "svg")


def test_curves_end_at_the_answer_and_at_the_shortcuts_level():
    curve = follow(IMAGES, scale=255)
    np.testing.assert_allclose(curve.mean[-1], STATS.mean / 255, rtol=1e-13)
    np.testing.assert_allclose(curve.std[-1], STATS.std() / 255, rtol=1e-12)
    per_image = [[c.std(ddof=1) for c in image] for image in IMAGES]
    np.testing.assert_allclose(curve.shortcut[-1], np.mean(per_image, axis=0) / 255, rtol=1e-12)
    half = int(np.searchsorted(curve.samples, 60))
    so_far = sn.measure(IMAGES[: int(curve.samples[half])])
    np.testing.assert_allclose(curve.std[half], so_far.std() / 255, rtol=1e-12)
    assert (curve.samples[0], curve.samples[-1]) == (1, 120)
    assert len(curve.samples) < 60
    means, stds = picture_of_convergence(curve).axes
    np.testing.assert_allclose(means.lines[1].get_ydata(), curve.mean[:, 1])
    drawn = [line.get_ydata() for line in stds.lines if len(line.get_ydata())]
    assert any(np.array_equal(line, curve.shortcut[:, 2]) for line in drawn)


def test_groups_share_their_axes():
    groups = {name: sn.measure(IMAGES[k::3]) for k, name in enumerate("abc")}
    panels = [axes for axes in picture_of_groups(groups, "x").axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in panels] == ["a", "b", "c"]
    assert len({axes.get_ylim() for axes in panels}) == 1
    np.testing.assert_allclose(panels[1].lines[0].get_ydata(), groups["b"].mean)
    with pytest.raises(ValueError, match="no common axes"):
        picture_of_groups({"a": STATS, "b": STATS.select([0])}, "x")
    many = {str(k): STATS for k in range(50)}
    assert "the first 36 of 50 groups" in picture_of_groups(many, "x").get_suptitle()


@pytest.mark.parametrize("form", ["png", "svg", "pdf"])
def test_the_same_numbers_are_the_same_file(form):
    one, two = (rendered(picture_of_channels(STATS, "x"), form) for _ in range(2))
    assert one == two


def test_the_style_of_the_user_is_left_alone():
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    rendered(picture_of_channels(STATS, "x"), "png")
    assert dict(mpl.rcParams) == before


def test_the_command_line_draws(tmp_path, monkeypatch, capsys):
    image = pytest.importorskip("PIL.Image")
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", IMAGES)
    for k, array in enumerate(IMAGES[:12]):
        (tmp_path / "classes" / f"class-{k % 3}").mkdir(parents=True, exist_ok=True)
        path = tmp_path / "classes" / f"class-{k % 3}" / f"{k}.png"
        image.fromarray(array.transpose(1, 2, 0)).save(path)
    sn.save(STATS, "s.json")
    sn.save(sn.measure(IMAGES), "t.json")
    assert main(["compute", "classes", "--by-folder", "--channels", "r,g,b", "-o", "c.json"]) == 0
    groups = sn.load("c.json")
    assert list(groups) == ["class-0", "class-1", "class-2"]
    assert groups["class-1"].meta.names == ("r", "g", "b")
    assert sn.merge(groups.values()).count.tolist() == sn.compute("classes").count.tolist()
    for number, arguments in enumerate(
        (
            ["s.json"],
            ["s.json", "--select", "red", "--scale", "255"],
            ["s.json", "t.json"],
            ["c.json"],
            ["c.json", "--groups"],
            ["x.npy", "--convergence"],
        )
    ):
        for form in ("png", "svg", "pdf"):
            assert main(["plot", *arguments, "-o", f"{number}.{form}"]) == 0, arguments
            assert (tmp_path / f"{number}.{form}").stat().st_size > 1000
    capsys.readouterr()
    for arguments, words in (
        (["s.json", "-o", "x.jpg"], "ends in .png, .svg or .pdf"),
        (["s.json", "--groups", "-o", "x.png"], "there are no groups"),
        (["s.json", "c.json", "-o", "x.png"], "a panel needs one"),
        (["nothing.json", "-o", "x.png"], "No such file"),
        (["s.json", "-o", "nowhere/x.png"], "folder does not exist"),
    ):
        assert main(["plot", *arguments]) == 1
        assert words in capsys.readouterr().err


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    import builtins

    real = builtins.__import__

    def hidden(name, *rest):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest)

    import importlib

    monkeypatch.setattr(importlib, "import_module", hidden)
    with pytest.raises(ImportError, match=r"streamnorm\[plot\]"):
        picture_of_channels(STATS, "x")


def test_by_folder_is_for_folders_of_images():
    with pytest.raises(ValueError, match="by_folder= needs a folder of images"):
        sn.compute(IMAGES, by_folder=True)


def test_names_are_no_formulas():
    value = sn.measure(RNG.normal(size=(9, 2))).with_meta(names=("$x_{$", "a$b"))
    for figure in (picture_of_channels(value, "$x_{$"), picture_of_groups({"$x_{$": value}, "t")):
        assert rendered(figure, "png")


def test_several_arrays_have_a_panel_each_on_scales_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arrays = {"state": sn.measure(RNG.normal(0, 1, (9, 26))), "index": sn.measure([[0.0], [4e4]])}
    state, index = picture_of_arrays(arrays, "title").axes
    assert (state.get_title(loc="left"), index.get_title(loc="left")) == ("state", "index")
    assert state.get_ylim()[1] < 10 < index.get_ylim()[1]
    sn.save(arrays, "s.json")
    assert main(["plot", "s.json", "-o", "s.svg"]) == 0
    assert "<!-- state -->" in (tmp_path / "s.svg").read_text()


def test_a_folder_is_no_state_file(tmp_path, capsys):
    assert main(["plot", str(tmp_path), "-o", str(tmp_path / "x.png")]) == 1
    assert "--convergence draws a data set" in capsys.readouterr().err


def test_bars_of_unknown_extremes_do_not_lie_on_the_edge():
    value = sn.Moments.from_mean_std(100, [50.0, 50.0], [20.0, 20.0], 0)
    (axes,) = picture_of_channels(value, "title").axes
    assert axes.get_ylim()[0] < 30.0
