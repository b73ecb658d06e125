"""StandardScaler with scikit-learn's conventions, on streamnorm's moments."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import assert_all_finite
from sklearn.utils.validation import (
    FLOAT_DTYPES,
    _check_sample_weight,
    check_array,
    check_is_fitted,
    validate_data,
)

from streamnorm import threads
from streamnorm.exact import ExactMoments
from streamnorm.measure import measure
from streamnorm.moments import Moments
from streamnorm.normalize import constants, denormalized, normalized, unit_where_constant
from streamnorm.stacks import Stack
from streamnorm.value import Value, checked_value
from streamnorm.weighing import measure_weighted
from streamnorm.weighted import WeightedMoments

__all__ = ["StandardScaler"]

_BLOCK = 1 << 18
"""Values that are mapped at once."""
_TOGETHER = 1 << 14


class StandardScaler(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Standardize features by removing the mean and scaling to unit variance.

    A drop-in for `sklearn.preprocessing.StandardScaler` on dense data. It differs where that one
    is wrong: a batch whose values of a feature are all NaN changes nothing of that feature, and a
    feature is constant only if all its values are the same, however many there are.

    Parameters
    ----------
    copy : bool, default=True
        False overwrites the input of `transform`, where its dtype allows that.
    with_mean, with_std : bool, default=True
        Whether to center, and to scale.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features,), or None
        None where neither mean nor std is asked for.
    var_ : ndarray of shape (n_features,), or None
        Population variance (ddof 0). None without `with_std`.
    scale_ : ndarray of shape (n_features,), or None
        Square root of `var_`; 1 for constant features. None without `with_std`.
    n_samples_seen_ : int or ndarray of shape (n_features,)
        An array if NaN were left out of some features, or the sum of weights.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Where the names of features are all strings.
    moments_ : Moments or WeightedMoments
        All that was seen: mergeable, with extremes, to save or to hand on.

    Examples
    --------
    >>> import numpy as np
    >>> from streamnorm.sklearn import StandardScaler
    >>> first, second = np.array([[0.0, 10.0], [2.0, 30.0]]), np.array([[4.0, 80.0]])
    >>> scaler = StandardScaler().fit(first) + StandardScaler().fit(second)
    >>> scaler.mean_.tolist(), int(scaler.n_samples_seen_)
    ([2.0, 40.0], 3)
    >>> scaler.transform([[2.0, 40.0]]).tolist()
    [[0.0, 0.0]]
    """

    def __init__(self, *, copy: bool = True, with_mean: bool = True, with_std: bool = True) -> None:
        self.copy = copy
        self.with_mean = with_mean
        self.with_std = with_std

    @classmethod
    def from_moments(cls, moments: Value, **parameters: Any) -> Self:
        """Return a fitted scaler of moments that were measured elsewhere.

        Parameters
        ----------
        moments : Moments, ExactMoments or WeightedMoments
            One channel a feature; names of channels become names of features.
        **parameters
            Those of the constructor.

        Examples
        --------
        >>> import streamnorm as sn
        >>> from streamnorm.sklearn import StandardScaler
        >>> StandardScaler.from_moments(sn.measure([[0.0], [2.0]])).scale_.tolist()
        [1.0]
        """
        checked_value(moments)
        scaler = cls(**parameters)
        scaler._begin()
        scaler.n_features_in_ = moments.channels
        if moments.meta.names is not None:
            scaler.feature_names_in_ = np.array(moments.meta.names, object)
        scaler._add(moments.moments if isinstance(moments, ExactMoments) else moments)
        return scaler

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:  # noqa: N803, ARG002
        """Learn mean and std of X afresh; see `partial_fit`."""
        return self._learn(X, sample_weight, first=True)

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:  # noqa: N803, ARG002
        """Learn from one more batch.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            NaN are left out, feature by feature.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), optional
            How much a sample counts, at least 0.

        Raises
        ------
        TypeError
            If X is sparse.
        ValueError
            If it is not 2-D, holds infinities, or has other features than before; nothing is
            learned then.
        """
        return self._learn(X, sample_weight, first=not hasattr(self, "n_samples_seen_"))

    def transform(self, X: Any, copy: bool | None = None) -> Any:  # noqa: N803
        """Standardize X, shape (n_samples, n_features); floats keep their dtype."""
        check_is_fitted(self)
        array = validate_data(self, X, reset=False, dtype=FLOAT_DTYPES, ensure_all_finite=False)
        return self._mapped(array, copy, normalized)

    def inverse_transform(self, X: Any, copy: bool | None = None) -> Any:  # noqa: N803
        """Undo `transform`."""
        check_is_fitted(self)
        array = check_array(X, dtype=FLOAT_DTYPES, ensure_all_finite=False)
        return self._mapped(array, copy, denormalized)

    @property
    def moments_(self) -> Moments | WeightedMoments:
        """All that was seen."""
        if not hasattr(self, "n_samples_seen_"):
            msg = "this scaler has seen nothing yet; call fit or partial_fit first"
            raise AttributeError(msg)
        return self._moments()

    def __add__(self, other: object) -> Self:
        if not isinstance(other, StandardScaler):
            return NotImplemented
        check_is_fitted(self)
        check_is_fitted(other)
        mine, theirs = self.moments_, other.moments_
        # Names that differ are refused by the merge.
        if isinstance(mine, WeightedMoments) or isinstance(theirs, WeightedMoments):
            total: Value = _weighted(mine) + _weighted(theirs)
        else:
            total = mine + theirs
        return type(self).from_moments(total, **self.get_params())

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "n_samples_seen_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _begin(self) -> None:
        self._stack = Stack()
        self._weighted: WeightedMoments | None = None

    def _learn(self, X: Any, sample_weight: Any, *, first: bool) -> Self:  # noqa: N803
        # Whole numbers are measured as they are; a sum to look for infinities takes as long as
        # all the rest, and the extremes know.
        array = validate_data(self, X, reset=first, dtype="numeric", ensure_all_finite=False)
        part: Moments | WeightedMoments
        if sample_weight is None:
            part = measure(array, channel_axis=1, nan_policy="omit")
        else:
            given = _check_sample_weight(
                sample_weight, array, dtype=np.float64, ensure_non_negative=True
            )
            part = measure_weighted(
                array, aweights=given[:, None], channel_axis=1, nan_policy="omit"
            )
        if np.isinf(part.minimum).any() or np.isinf(part.maximum).any():
            msg = f"Input X contains infinity or a value too large for {array.dtype!r}."
            raise ValueError(msg)
        if first:
            self._begin()
        self._add(part)
        return self

    def _add(self, part: Value) -> None:
        if isinstance(part, WeightedMoments):
            self._weighted = part if self._weighted is None else self._weighted + part
        else:
            self._stack.push(part.rows.copy(), some=bool(part.count.any() or part.omitted.any()))
        self._publish()

    def _moments(self) -> Moments | WeightedMoments:
        moments = Moments.of_rows(self._stack.fold(self.n_features_in_))
        whole: Any = moments if self._weighted is None else _weighted(moments) + self._weighted
        names = getattr(self, "feature_names_in_", None)
        return whole if names is None else whole.with_meta(names=tuple(names))  # type: ignore[no-any-return]

    def _publish(self) -> None:
        """Set the attributes that scikit-learn's has."""
        moments = self._moments()
        needed = self.with_mean or self.with_std
        seen = moments.weight if isinstance(moments, WeightedMoments) else moments.count
        self.n_samples_seen_ = seen[0] if (seen == seen[0]).all() else seen.copy()
        self.mean_ = moments.mean.copy() if needed else None
        self.var_ = moments.variance() if self.with_std else None
        self.scale_ = unit_where_constant(moments) if self.with_std else None

    def _mapped(self, array: Any, copy: bool | None, formula: Any) -> Any:
        mean: Any = self.mean_ if self.with_mean else np.zeros(self.n_features_in_)
        scale: Any = self.scale_ if self.with_std else np.ones(self.n_features_in_)
        # float16 has too few digits for a difference of large numbers.
        wide = array.astype(np.promote_types(array.dtype, np.float32), copy=False)
        result = _in_blocks(formula, wide, constants(mean, scale, wide.dtype))
        result = result.astype(array.dtype, copy=False)
        if self.copy if copy is None else copy:
            return result
        array[...] = result
        return array


def _in_blocks(formula: Any, array: Any, given: Sequence[Any]) -> Any:
    """Apply a formula to rows, so many at a time that they stay in the cache.

    Short rows are taken together: NumPy goes from one to the next as slowly as through 64 numbers.

    Raises
    ------
    ValueError
        If there are infinities.
    """
    rows, columns = array.shape
    together = max(1, _TOGETHER // columns) if array.flags.c_contiguous else 1
    cut = rows - rows % together
    result = np.empty(array.shape, array.dtype)
    blocks: list[tuple[Any, Any, list[Any]]] = []
    for start, stop, k in ((0, cut, together), (cut, rows, 1)):
        x, y = (part[start:stop].reshape(-1, k * columns) for part in (array, result))
        tiled = [np.tile(constant, k) for constant in given]
        step = max(1, _BLOCK // (k * columns))
        blocks += [(x[at : at + step], y[at : at + step], tiled) for at in range(0, len(x), step)]
    left = iter(blocks)

    def work() -> None:
        for block, out, constants_of_it in left:
            with np.errstate(all="ignore"):
                if not np.isfinite(block.sum()):
                    assert_all_finite(block, allow_nan=True, input_name="X")
                formula(block, *constants_of_it, out=out)

    threads.spread(work, min(threads.resolve(None), len(blocks)) if len(blocks) > 1 else 1)
    return result


def _weighted(moments: Moments | WeightedMoments) -> WeightedMoments:
    return moments if isinstance(moments, WeightedMoments) else WeightedMoments.of_moments(moments)
