"""StandardScaler: what scikit-learn asks of an estimator, its own tests, and where it is wrong."""

import functools
import inspect
import pickle

import numpy as np
import pytest

import streamnorm as sn

pytest.importorskip("sklearn")
import sklearn.preprocessing.tests.test_data as theirs
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler as Theirs
from sklearn.utils.estimator_checks import parametrize_with_checks

from streamnorm.sklearn import StandardScaler

pytestmark = pytest.mark.filterwarnings("default")
RNG = np.random.default_rng(0)
X = RNG.normal([1, 1e4, -3], [1, 2, 1e-3], (500, 3))
WEIGHTS = RNG.uniform(0, 2, 500)


@parametrize_with_checks([StandardScaler(), StandardScaler(with_mean=False, with_std=False)])
def test_scikit_learns_checks_of_estimators(estimator, check):
    check(estimator)


# Their own tests, run against ours. What is excepted is a decision: docs/sklearn.md.
EXCEPTED = ("near_constant_features", "callback", "array_api")
theirs.StandardScaler = StandardScaler


def _of_dense_input(test):
    """Their test; the half of it that is about sparse matrices is refused, not failed."""

    @functools.wraps(test)
    def run(*arguments, **options):
        try:
            return test(*arguments, **options)
        except TypeError as error:
            if "Sparse data was passed" not in str(error):
                raise
            pytest.skip("sparse input is refused")

    return run


def _mentions_scaler(test):
    marks = getattr(test, "pytestmark", [])
    return "StandardScaler" in inspect.getsource(test) or any(
        "StandardScaler" in repr(mark.args) for mark in marks
    )


for _name, _test in vars(theirs).items():
    _excepted = any(word in _name for word in EXCEPTED)
    if _name.startswith("test_") and not _excepted and _mentions_scaler(_test):
        globals()[f"test_theirs_{_name[5:]}"] = _of_dense_input(_test)


def test_many_of_their_tests_are_run():
    assert sum(name.startswith("test_theirs_") for name in globals()) >= 20


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int16", "uint8", "bool"])
def test_it_agrees_with_theirs(dtype):
    x = (X * 3).astype(np.uint8 if dtype == "uint8" else float).astype(dtype)
    ours, other = StandardScaler(), Theirs()
    for part in np.array_split(x, 7):
        ours.partial_fit(part)
        other.partial_fit(part.astype(np.float64))
    truth = sn.measure(x, exact=True)
    np.testing.assert_array_less(
        np.abs(ours.mean_ - truth.mean), 3.2e-15 * np.abs(x.astype(float)).max() + 1e-300
    )
    np.testing.assert_allclose(ours.var_, truth.variance(), rtol=1e-9)
    np.testing.assert_allclose(ours.mean_, other.mean_, rtol=1e-12)
    np.testing.assert_allclose(ours.var_, other.var_, rtol=1e-7)
    assert ours.n_samples_seen_ == other.n_samples_seen_ == 500
    right = (x.astype(float) - ours.mean_) / ours.scale_
    np.testing.assert_allclose(ours.transform(x), right, rtol=1e-2 if dtype == "float16" else 1e-5)
    assert ours.transform(x).dtype == other.transform(x).dtype
    np.testing.assert_allclose(ours.inverse_transform(ours.transform(X)), X, rtol=1e-10)


def test_a_batch_of_nothing_but_nan_changes_nothing():
    ours, other = StandardScaler(), Theirs()
    nothing = np.full((4, 3), np.nan)
    with np.errstate(all="ignore"):
        for part in (nothing, X[:250], nothing, X[250:]):
            ours.partial_fit(part)
            other.partial_fit(part)
    assert np.isnan(other.var_).all()
    np.testing.assert_allclose(ours.var_, X.var(0), rtol=1e-12)
    assert ours.n_samples_seen_ == 500


def test_nothing_but_nan_leaves_nan():
    scaler = StandardScaler().fit(np.full((4, 1), np.nan))
    assert np.isnan(scaler.scale_[0])
    assert np.isnan(scaler.transform([[1.0]])[0, 0])


def test_a_feature_is_not_constant_because_there_are_many_samples():
    """scikit-learn's bound grows with n: at 1e12 samples of 300 ± 0.05 it divides by 1."""
    many = sn.Moments.from_mean_std(10**12, [300.0], [0.05], 0, [299.0], [301.0])
    assert StandardScaler.from_moments(many).scale_.tolist() == [0.05]
    their_rule = pytest.importorskip("sklearn.preprocessing._data")._is_constant_feature
    assert their_rule(np.array([0.05**2]), np.array([300.0]), 10**12).all()


def test_constant_features_are_divided_by_one():
    scaler = StandardScaler().fit([[0.1, 1.0], [0.1, 2.0], [0.1, 4.0]])
    assert scaler.scale_[0] == 1
    assert scaler.transform([[0.1, 1.0]])[0, 0] == 0


def test_two_scalers_add_up_to_that_of_all():
    parts = np.array_split(X, 4)
    total = sum((StandardScaler().fit(p) for p in parts[1:]), start=StandardScaler().fit(parts[0]))
    whole = StandardScaler().fit(X)
    np.testing.assert_allclose(total.var_, whole.var_, rtol=1e-12)
    assert total.n_samples_seen_ == 500
    assert total.transform(X).shape == X.shape
    weighted = StandardScaler().fit(parts[0], sample_weight=np.ones(len(parts[0]))) + whole
    assert weighted.n_samples_seen_ == 500 + len(parts[0])
    more = total.partial_fit(X)
    assert more.n_samples_seen_ == 1000
    with pytest.raises(TypeError):
        whole + 1


def test_scalers_of_other_features_do_not_add_up():
    pandas = pytest.importorskip("pandas")
    a = StandardScaler().fit(pandas.DataFrame(X, columns=["a", "b", "c"]))
    b = StandardScaler().fit(pandas.DataFrame(X, columns=["a", "b", "d"]))
    with pytest.raises(ValueError, match="channel names differ"):
        a + b
    with pytest.raises(ValueError, match="2 channels but part 0 has 3"):
        a + StandardScaler().fit(X[:, :2])


def test_from_moments_and_back():
    moments = sn.measure(X).with_meta(names=("a", "b", "c"))
    for given in (moments, sn.measure(X, exact=True).with_meta(names=("a", "b", "c"))):
        scaler = StandardScaler.from_moments(given, with_mean=False)
        assert scaler.get_params()["with_mean"] is False
        assert scaler.feature_names_in_.tolist() == ["a", "b", "c"]
        np.testing.assert_allclose(scaler.scale_, X.std(0), rtol=1e-12)
        assert scaler.moments_.meta.names == ("a", "b", "c")
    assert StandardScaler.from_moments(moments).moments_ == moments
    assert StandardScaler.from_moments(moments).get_feature_names_out().tolist() == ["a", "b", "c"]
    assert np.isfinite(StandardScaler.from_moments(moments).transform(X)).all()


def test_sample_weights_are_those_of_numpy():
    ours = StandardScaler().fit(X, sample_weight=WEIGHTS)
    np.testing.assert_allclose(ours.mean_, np.average(X, 0, WEIGHTS), rtol=1e-13)
    np.testing.assert_allclose(
        ours.var_, np.cov(X.T, aweights=WEIGHTS, ddof=0).diagonal(), rtol=1e-9
    )
    np.testing.assert_allclose(ours.n_samples_seen_, WEIGHTS.sum())
    split = StandardScaler()
    for part, weights in zip(np.array_split(X, 3), np.array_split(WEIGHTS, 3), strict=True):
        split.partial_fit(part, sample_weight=weights)
    np.testing.assert_allclose(split.var_, ours.var_, rtol=1e-11)
    assert isinstance(split.moments_, sn.WeightedMoments)


def test_pandas_pipelines_clones_and_pickles():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=["a", "b", "c"])
    scaler = StandardScaler().set_output(transform="pandas").fit(frame)
    out = scaler.transform(frame)
    assert out.columns.tolist() == ["a", "b", "c"]
    assert not hasattr(clone(scaler), "mean_")
    again = pickle.loads(pickle.dumps(scaler))
    assert again.partial_fit(frame).n_samples_seen_ == 1000
    assert scaler.n_samples_seen_ == 500
    with pytest.raises(ValueError, match="feature names"):
        scaler.transform(frame[["b", "a", "c"]])
    piped = make_pipeline(StandardScaler(), StandardScaler(with_std=False)).fit_transform(X)
    np.testing.assert_allclose(piped.std(0), 1, rtol=1e-12)


def test_what_is_refused_leaves_the_scaler_as_it_was():
    sparse = pytest.importorskip("scipy.sparse")
    scaler = StandardScaler().fit(X)
    before = scaler.moments_
    bad = X.copy()
    bad[3, 1] = np.inf
    for given, error, words in (
        (bad, ValueError, "infinity"),
        (X[:, :2], ValueError, "2 features"),
        (X[0], ValueError, "2D array"),
        (sparse.csr_array(X), TypeError, "dense data is required"),
        ([["a", "b", "c"]], ValueError, "numeric"),
    ):
        with pytest.raises(error, match=words):
            scaler.partial_fit(given)
    with pytest.raises(ValueError, match="Negative values in data passed to `sample_weight`"):
        scaler.partial_fit(X, sample_weight=-WEIGHTS)
    assert scaler.moments_ == before
    with pytest.raises(AttributeError, match="has seen nothing"):
        _ = StandardScaler().moments_


def test_inputs_are_left_alone_unless_overwriting_is_asked_for():
    x = X.copy()
    scaler = StandardScaler().fit(x)
    scaler.transform(x)
    scaler.inverse_transform(x)
    assert (x == X).all()
    assert scaler.transform(x, copy=False) is x
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-9)


def test_many_small_batches_are_as_exact_as_one():
    x = RNG.normal(1e6, 1, (3000, 2))
    scaler = StandardScaler()
    for part in np.array_split(x, 1000):
        scaler.partial_fit(part)
    np.testing.assert_allclose(scaler.var_, sn.measure(x, exact=True).variance(), rtol=1e-9)


def test_a_first_batch_that_fails_leaves_nothing_fitted():
    from sklearn.exceptions import NotFittedError

    scaler = StandardScaler()
    with pytest.raises(ValueError, match="infinity"):
        scaler.partial_fit([[1.0, np.inf]])
    with pytest.raises(NotFittedError):
        scaler.transform([[1.0, 2.0]])
    scaler.fit(X)
    with pytest.raises(ValueError, match="infinity"):
        scaler.fit([[np.inf, 1.0, 2.0]])
    assert scaler.partial_fit(X).n_samples_seen_ == 1000


def test_infinities_are_refused_in_transform_too():
    scaler = StandardScaler().fit(X)
    bad = np.tile(X, (2000, 1))
    bad[-1, 1] = -np.inf
    for method in (scaler.transform, scaler.inverse_transform):
        with pytest.raises(ValueError, match="infinity"):
            method(bad)
    bad[-1, 1] = np.nan
    assert np.isnan(scaler.transform(bad)[-1, 1])
    np.testing.assert_array_equal(scaler.transform(bad)[:-1], scaler.transform(bad[:-1]))


@pytest.mark.parametrize("weight", [-1.0, np.inf])
def test_weights_that_are_none_are_refused_by_the_name_that_was_given(weight):
    with pytest.raises(ValueError, match="sample_weight"):
        StandardScaler().fit(np.ones((3, 1)), sample_weight=[1.0, weight, 1.0])
