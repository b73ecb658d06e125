"""WeightedMoments: mean and spread of values that do not all count the same."""

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamnorm import weights
from streamnorm.fields import Floats, checked_meta, filled
from streamnorm.meta import NO_META, Meta
from streamnorm.moments import Moments
from streamnorm.rounded import Rounded
from streamnorm.weights import Weighted

__all__ = ["WeightedMoments"]


class WeightedMoments(Rounded):
    """Per channel: the weight of all values, their weighted mean, spread and extremes.

    Two kinds of weights are told apart, as in `numpy.cov`: ``fweights`` say how often a value was
    seen, ``aweights`` how much it counts, such as the area of a cell of a grid. They differ in what
    ``ddof`` means: see `variance`. Merging, equality and undefined results are as for `Moments`
    [1]_.

    Built by `measure_weighted`, ``compute(weigh="image")``, `merge`, `load`,
    `WeightedMoments.empty` or `WeightedMoments.of_moments`; the constructor is for numbers that
    come from elsewhere.

    Parameters
    ----------
    count : array-like of int, shape (C,)
        Values of some weight, as often as they were seen.
    weight, weight_squared : array-like of float, shape (C,)
        The sums of ``f * a`` and of ``f * a**2`` over them.
    mean : array-like of float, shape (C,)
        Weighted means.
    m2 : array-like of float, shape (C,)
        The sums of ``f * a * (x - mean)**2``.
    minimum, maximum : array-like of float, shape (C,), optional
        Smallest and largest value of some weight; unknown (NaN) if left out.
    omitted : array-like of int, shape (C,), optional
        Values left out: masked, NaN under "omit", and those of no weight.
    meta : Meta, optional

    Raises
    ------
    ValueError
        If the fields contradict each other.

    References
    ----------
    .. [1] Chan, Golub & LeVeque (1983), The American Statistician 37(3); D. H. D. West (1979),
       "Updating mean and variance estimates: an improved method", Comm. ACM 22(9).

    Examples
    --------
    >>> import numpy as np, streamnorm as sn
    >>> temperature = np.array([[270.0, 272.0], [300.0, 302.0]])  # latitude, longitude
    >>> area = np.cos(np.radians([[60.0], [0.0]]))
    >>> sn.measure_weighted(temperature, channel_axis=None, aweights=area)
    WeightedMoments(C=1, n=4, mean=[291], std=[14.18])
    """

    __slots__ = ()

    def __init__(
        self,
        count: ArrayLike,
        weight: ArrayLike,
        weight_squared: ArrayLike,
        mean: ArrayLike,
        m2: ArrayLike,
        minimum: ArrayLike | None = None,
        maximum: ArrayLike | None = None,
        omitted: ArrayLike | None = None,
        meta: Meta = NO_META,
    ) -> None:
        given = {
            "weight": weight,
            "weight_squared": weight_squared,
            "mean": mean,
            "m2": m2,
            "minimum": minimum,
            "maximum": maximum,
        }
        rows = filled(weights.empty, count, given, omitted)
        _check(rows)
        self._hold(rows, checked_meta(meta, rows.size))

    @classmethod
    def empty(cls, channels: int) -> Self:
        """Return the moments of no data: the identity of ``+``."""
        return cls.of_rows(weights.empty(channels))

    @classmethod
    def of_moments(cls, moments: Moments, weight: float | None = None) -> Self:
        """Give all values behind some moments the same weight.

        Parameters
        ----------
        moments : Moments
        weight : float, optional
            Of all values of a channel together: ``1`` makes every image count the same, whatever
            its size. Default: their number, so that each has the weight 1.

        Raises
        ------
        ValueError
            If the weight is not a finite number above 0.

        Examples
        --------
        >>> import streamnorm as sn
        >>> large, small = sn.measure([[1.0]] * 99), sn.measure([[3.0]])
        >>> each = [sn.WeightedMoments.of_moments(image, 1) for image in (large, small)]
        >>> sn.merge(each).mean.tolist(), (large + small).mean.tolist()
        ([2.0], [1.02])
        """
        if weight is not None and not 0 < weight < np.inf:
            msg = f"a weight must be a finite number above 0, got {weight}"
            raise ValueError(msg)
        return cls.of_rows(weights.of_partial(moments.rows, weight), moments.meta)

    @property
    def weight(self) -> Floats:
        """The weight of all values per channel, float64, shape (C,)."""
        return self._field("weight")

    @property
    def weight_squared(self) -> Floats:
        """The sum of ``f * a**2`` per channel, float64, shape (C,)."""
        return self._field("weight_squared")

    def variance(self, ddof: float = 0) -> Floats:
        """Return the weighted variance per channel, float64, shape (C,).

        Parameters
        ----------
        ddof : float
            Divides by ``weight - ddof * weight_squared / weight``. With fweights alone that is
            ``count - ddof``; with aweights alone, ddof 1 gives the unbiased estimate for weights
            that are reliabilities. Both together as in `numpy.cov`.

        Returns
        -------
        numpy.ndarray
            NaN, without a warning, where that divisor is not above 0, and where a non-finite value
            was seen.
        """
        rows = self._rows
        with np.errstate(all="ignore"):
            divisor = rows["weight"] - ddof * (rows["weight_squared"] / rows["weight"])
            return np.where(divisor > 0, rows["m2"] / divisor, np.nan)

    def affine(self, scale: ArrayLike, shift: ArrayLike = 0.0) -> "WeightedMoments":
        """Return the moments of ``scale * x + shift``; see `Moments.affine`."""
        plain = Moments(
            self.count, self.mean, self.m2, self.minimum, self.maximum, self.omitted, self._meta
        ).affine(scale, shift)
        rows = self._rows.copy()
        for name in ("mean", "m2", "minimum", "maximum"):
            rows[name] = getattr(plain, name)
        return WeightedMoments.of_rows(rows, plain.meta)

    @classmethod
    def _merged(cls, parts: Sequence["WeightedMoments"], meta: Meta) -> Self:
        rows = np.stack([part._rows for part in parts])  # noqa: SLF001
        some = rows["count"].any(axis=1) | rows["omitted"].any(axis=1)
        rows = rows[some] if some.any() and not some.all() else rows
        return cls.of_rows(weights.merge_tree(rows).copy(), meta)


def _check(rows: Weighted) -> None:
    some, weight = rows["count"] > 0, rows["weight"]
    wrong: Mapping[str, NDArray[np.bool_]] = {
        "a weight is negative or not finite": ~(weight >= 0) | ~np.isfinite(weight),
        "weight is not 0 although count is": ~some & (weight != 0),
        "weight is 0 although count is not": some & (weight == 0),
        "m2 is negative": some & (rows["m2"] < 0),
        "weight_squared is not above 0": some & ~(rows["weight_squared"] > 0),
        "minimum is above the maximum": some & (rows["minimum"] > rows["maximum"]),
    }
    for what, channels in wrong.items():
        if channels.any():
            at = int(np.flatnonzero(channels)[0])
            msg = f"these are no weighted moments of any data: {what}, channel {at}"
            raise ValueError(msg)
