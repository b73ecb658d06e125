"""Statistics of others, taken over; ours, handed on; what cannot be taken over is refused."""

import json

import numpy as np
import pytest

import streamnorm as sn
from streamnorm.cli import main
from streamnorm.exchange import from_lerobot, from_scaler, to_lerobot, to_scaler

RNG = np.random.default_rng(0)
X = RNG.normal([1, 20, -3], [1, 2, 0.1], (300, 3))


@pytest.mark.data
def test_a_hundred_published_episodes_merge_to_the_data_set(data):
    folder = data / "lerobot_g1"
    published = from_lerobot(folder / "meta" / "episodes_stats.jsonl")
    truth = sn.compute(folder)
    assert published["action"].meta.names[0] == "kLeftShoulderPitch"
    # What is described there are the axes of an image.
    assert published["observation.images.cam_high"].meta.names is None
    for feature in ("observation.state", "action"):
        got, right = published[feature], truth[feature]
        assert (got.count == right.count).all()
        np.testing.assert_allclose(got.std(), right.std(), rtol=3.9e-6)
        assert (np.abs(got.mean - right.mean) <= 4.5e-5 * np.abs(right.mean)).all()
        assert (got.minimum == right.minimum).all()


def test_lerobots_form_comes_back_as_it_was(tmp_path):
    values = {
        "action": sn.measure(X),
        "observation.images.top": sn.measure(RNG.uniform(size=(5, 3, 4, 4))),
    }
    document = to_lerobot(values)
    assert np.shape(document["observation.images.top"]["std"]) == (3, 1, 1)
    (tmp_path / "stats.json").write_text(json.dumps(document))
    again = from_lerobot(tmp_path / "stats.json")
    for feature, value in values.items():
        np.testing.assert_allclose(again[feature].std(), value.std(), rtol=1e-14)
        assert again[feature].mean.tolist() == value.mean.tolist()
        assert again[feature].maximum.tolist() == value.maximum.tolist()


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("", "is empty"),
        ("{", r"line 1 is no JSON"),
        ("[]", "no statistics by feature"),
        ('{"stats": {"a": {"mean": [1], "std": [1], "min": [1], "max": [1]}}}', "no count.*merged"),
        (
            '{"stats": {"a": {"mean": ["x"], "std": [1], "min": [1], "max": [1], "count": [2]}}}',
            "a: ",
        ),
        (
            '{"stats": {"a": {"mean": [1], "std": [-1], "min": [1], "max": [1], "count": [2]}}}',
            "negat",
        ),
    ],
)
def test_files_that_are_no_statistics_are_refused_by_line_and_feature(lines, words, tmp_path):
    path = tmp_path / "episodes_stats.jsonl"
    path.write_text(lines)
    with pytest.raises(ValueError, match=words):
        from_lerobot(path)


def test_what_lerobot_has_no_word_for_is_refused():
    unknown = sn.Moments.from_mean_std(5, [1.0], [2.0])
    for value in (unknown, sn.Moments.empty(1)):
        with pytest.raises(ValueError, match="no word for"):
            to_lerobot({"a": value})
    uneven = sn.measure([[1.0, 2.0], [3.0, np.nan]], nan_policy="omit")
    with pytest.raises(ValueError, match="different counts"):
        to_lerobot({"a": uneven})


def test_scalers_go_both_ways():
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    theirs = preprocessing.StandardScaler().fit(X)
    value = from_scaler(theirs)
    np.testing.assert_allclose(value.std(), X.std(0), rtol=1e-12)
    assert value.count.tolist() == [300] * 3
    scaler = to_scaler(sn.measure(X).with_meta(names=("a", "b", "c")))
    assert type(scaler) is preprocessing.StandardScaler
    assert scaler.feature_names_in_.tolist() == ["a", "b", "c"]
    np.testing.assert_allclose(scaler.scale_, theirs.scale_, rtol=1e-12)
    more = to_scaler(sn.measure(X[:100])).partial_fit(X[100:])
    np.testing.assert_allclose(more.var_, theirs.var_, rtol=1e-10)
    assert more.n_samples_seen_ == 300


def test_scalers_that_say_too_little_are_refused():
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    for scaler, words in (
        (preprocessing.StandardScaler(), "knows no variance"),
        (preprocessing.StandardScaler(with_std=False).fit(X), "knows no variance"),
        (preprocessing.StandardScaler().fit(X, sample_weight=np.full(300, 0.3)), "weights"),
    ):
        with pytest.raises(ValueError, match=words):
            from_scaler(scaler)
    with pytest.raises(TypeError, match="expected a fitted StandardScaler"):
        from_scaler(preprocessing.MinMaxScaler())


@pytest.mark.torch
def test_batch_norm_can_normalize_but_is_no_moments():
    torch = pytest.importorskip("torch")
    from streamnorm.nn import Normalize

    layer = torch.nn.BatchNorm2d(3).train()
    for k in range(50):
        layer(torch.randn(4, 3, 5, 5) * (k % 3 + 1) + k % 5)
    layer.eval()
    x = torch.randn(2, 3, 5, 5)
    right = layer(x).detach()
    np.testing.assert_allclose(Normalize.from_batch_norm(layer)(x), right, atol=1e-5)
    np.testing.assert_allclose(sn.Normalize.from_batch_norm(layer)(x.numpy()), right, atol=1e-5)
    with pytest.raises(TypeError, match=r"averages the variances of batches.*from_batch_norm"):
        from_scaler(layer)
    for wrong in (torch.nn.BatchNorm2d(3, track_running_stats=False), torch.nn.Linear(2, 2)):
        with pytest.raises(TypeError, match="running statistics"):
            sn.Normalize.from_batch_norm(wrong)


@pytest.mark.torch
def test_a_module_is_made_of_one_array_of_a_file(tmp_path):
    pytest.importorskip("torch")
    from streamnorm.nn import Normalize

    sn.save({"a": sn.measure(X), "b": sn.measure(X[:, :1])}, tmp_path / "s.json")
    assert Normalize.from_file(tmp_path / "s.json", select="b").std.shape == (1,)
    with pytest.raises(ValueError, match=r"holds the arrays .*; pass select="):
        Normalize.from_file(tmp_path / "s.json")


def test_import_and_export_on_the_command_line(tmp_path, monkeypatch, capsys):
    pytest.importorskip("sklearn")
    joblib = pytest.importorskip("joblib")
    monkeypatch.chdir(tmp_path)
    sn.save({"action": sn.measure(X), "speed": sn.measure(X[:, :1])}, "s.json")
    assert main(["export", "s.json", "--format", "lerobot", "-o", "stats.json"]) == 0
    assert main(["import", "stats.json", "-o", "again.json"]) == 0
    again = sn.load("again.json")
    assert again["action"].meta.provenance.passes[0].kind == "statistics of others"
    np.testing.assert_allclose(again["action"].std(), X.std(0), rtol=1e-12)
    select = ["--select", "action"]
    assert main(["export", "s.json", "--format", "sklearn", "-o", "scaler.joblib", *select]) == 0
    assert joblib.load("scaler.joblib").n_features_in_ == 3
    assert main(["import", "scaler.joblib", "-o", "t.json"]) == 0
    np.testing.assert_allclose(sn.load("t.json").std(), X.std(0), rtol=1e-12)
    numbers = ["import", "--mean", "0.5,0.4", "--std", "0.2,0.3", "--count", "1000", "--ddof", "1"]
    assert main([*numbers, "--names", "a,b", "-o", "n.json"]) == 0
    value = sn.load("n.json")
    assert value.meta.names == ("a", "b")
    np.testing.assert_allclose(value.std(ddof=1), [0.2, 0.3])
    capsys.readouterr()
    for wrong, words in (
        (["import", "--mean", "1", "--std", "1"], "without a count nothing can be merged"),
        (["import", "--mean", "1,2", "--std", "1", "--count", "5"], "--mean has 2 numbers"),
        (["import", "nothing.json"], "No such file"),
        (["export", "s.json", "--format", "sklearn"], "name a file with -o"),
        (["export", "n.json", "--format", "lerobot"], "needs named arrays"),
    ):
        assert main(wrong) == 1
        assert words in capsys.readouterr().err


def test_several_arrays_are_refused_where_one_is_meant():
    pytest.importorskip("sklearn")
    from streamnorm.sklearn import StandardScaler

    for use in (sn.Normalize.from_moments, to_scaler, StandardScaler.from_moments):
        with pytest.raises(TypeError, match="got a dict of a, b; take one"):
            use({"a": sn.measure(X), "b": sn.measure(X)})
        with pytest.raises(TypeError, match="got a str; of a state file"):
            use("stats.json")


def test_one_array_is_refused_where_several_are_meant():
    with pytest.raises(TypeError, match="a dict of Moments by feature"):
        to_lerobot(sn.measure(X))
    with pytest.raises(TypeError, match="several values to put side by side, got one"):
        sn.concat(sn.measure(X))


def test_a_table_is_exported_as_one_scaler(tmp_path, monkeypatch):
    joblib = pytest.importorskip("joblib")
    monkeypatch.chdir(tmp_path)
    sn.save({"a": sn.measure(X[:, :1]), "b": sn.measure(X[:, 1:2])}, "s.json")
    assert main(["export", "s.json", "--format", "sklearn", "-o", "s.joblib"]) == 0
    scaler = joblib.load("s.joblib")
    assert scaler.feature_names_in_.tolist() == ["a", "b"]
    np.testing.assert_allclose(scaler.mean_, X[:, :2].mean(0), rtol=1e-12)


def test_channels_are_selected_by_the_numbers_that_the_table_prints(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["import", "--mean", "-0.5,0.2", "--std", "1,2", "--count", "9", "-o", "s"]) == 0
    capsys.readouterr()
    assert main(["show", "s", "--select", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:3] == ["0", "9", "0.2"]
    assert main(["show", "s", "--select", "2"]) == 1
    assert "there is no '2', only 0, 1" in capsys.readouterr().err


def test_names_of_channels_are_given_once(capsys):
    with pytest.raises(SystemExit):
        main(["import", "--mean", "1,2", "--std", "1,2", "--count", "9", "--names", "a,a"])
    assert "'a' is there twice" in capsys.readouterr().err


def test_a_binary_file_is_none_of_lerobots(tmp_path):
    np.savez(tmp_path / "t.npz", x=np.array([200.0]))
    with pytest.raises(ValueError, match=r"t\.npz is no file of LeRobot's: it holds no text"):
        from_lerobot(tmp_path / "t.npz")


def test_a_std_of_0_is_not_handed_to_torchvision_without_a_word(tmp_path, capsys):
    sn.save(sn.measure([[1.0, 2.0], [1.0, 3.0]]), tmp_path / "s.json")
    assert main(["export", str(tmp_path / "s.json"), "--format", "torchvision"]) == 0
    assert "warning: the std of channel(s) 0 is 0" in capsys.readouterr().err
