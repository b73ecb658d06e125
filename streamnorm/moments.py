"""Moments: per-channel count, mean and spread as an immutable, mergeable value."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from streamnorm import partial
from streamnorm.fields import (
    Floats,
    canonical,
    check,
    checked_meta,
    filled,
    floats,
    integers,
)
from streamnorm.meta import NO_META, Meta
from streamnorm.partial import PARTIAL
from streamnorm.rounded import Rounded

__all__ = ["Moments"]


class Moments(Rounded):
    """Per channel: how many values, their mean, spread and extremes.

    An immutable value. ``a + b`` merges two of them into the moments of both data sets together
    [1]_. `Moments` are a commutative monoid: ``a + b == b + a`` and ``a + empty == a`` hold bit for
    bit, ``(a + b) + c == a + (b + c)`` to rounding. Equality, hash and laws look at the numbers
    only, never at `meta`; any NaN equals any NaN.

    Built by `measure`, `Accumulator.moments`, `compute`, `merge`, `load`, `Moments.empty` or
    `Moments.from_mean_std`; the constructor is for numbers that come from elsewhere.

    Parameters
    ----------
    count : array-like of int, shape (C,)
        Values seen, 0 to 2**63 - 1.
    mean : array-like of float, shape (C,)
        Arithmetic means; anything where the count is 0.
    m2 : array-like of float, shape (C,)
        Sums of squared deviations from the mean (not divided by anything: no ddof inside).
    minimum, maximum : array-like of float, shape (C,), optional
        Smallest and largest value; unknown (NaN) if left out.
    omitted : array-like of int, shape (C,), optional
        Values left out: NaN under ``nan_policy="omit"``, and masked ones. Default 0.
    meta : Meta, optional
        Names and provenance.

    Raises
    ------
    ValueError
        If the fields contradict each other; the message names field and channel.

    References
    ----------
    .. [1] Chan, Golub & LeVeque (1983), "Algorithms for computing the sample variance: analysis
       and recommendations", The American Statistician 37(3), doi:10.1080/00031305.1983.10483115.

    Examples
    --------
    >>> import streamnorm as sn
    >>> a = sn.measure([[1.0, 10.0], [3.0, 30.0]])
    >>> b = sn.measure([[5.0, 80.0]])
    >>> a + b
    Moments(C=2, n=3, mean=[3 40], std=[1.633 29.44])
    >>> (a + b).variance(ddof=1).tolist()
    [4.0, 1300.0]
    """

    __slots__ = ()

    def __init__(
        self,
        count: ArrayLike,
        mean: ArrayLike,
        m2: ArrayLike,
        minimum: ArrayLike | None = None,
        maximum: ArrayLike | None = None,
        omitted: ArrayLike | None = None,
        meta: Meta = NO_META,
    ) -> None:
        given = {"mean": mean, "m2": m2, "minimum": minimum, "maximum": maximum}
        rows = filled(partial.empty, count, given, omitted)
        check(rows)
        self._hold(canonical(rows), checked_meta(meta, rows.size))

    @classmethod
    def empty(cls, channels: int) -> Self:
        """Return the moments of no data: the identity of ``+``.

        Examples
        --------
        >>> from streamnorm import Moments
        >>> Moments.empty(2)
        Moments(C=2, n=0, mean=[nan nan], std=[nan nan])
        """
        return cls.of_rows(partial.empty(channels))

    @classmethod
    def from_mean_std(
        cls,
        count: ArrayLike,
        mean: ArrayLike,
        std: ArrayLike,
        ddof: float = 0,
        minimum: ArrayLike | None = None,
        maximum: ArrayLike | None = None,
    ) -> Self:
        """Take over statistics that someone else computed.

        Parameters
        ----------
        count : int or array-like of int
            Values behind each channel (a scalar serves all channels). Not the number of images:
            pixels per channel.
        mean, std : float or array-like, shape (C,)
            Their mean and standard deviation.
        ddof : float
            What the std was divided by: ``count - ddof``.
        minimum, maximum : array-like, shape (C,), optional
            Extremes where known.

        Returns
        -------
        Moments
            m2 is ``std**2 * (count - ddof)``; 0 where ``count <= 1``.

        Raises
        ------
        ValueError
            If a std is negative, or is not 0 or NaN although only one value was counted.

        Examples
        --------
        >>> from streamnorm import Moments
        >>> many = Moments.from_mean_std(1000, [0.4], [0.2])
        >>> few = Moments.from_mean_std(10, [0.9], [0.1])
        >>> (many + few).std().round(4).tolist()
        [0.2053]
        """
        means = np.atleast_1d(np.asarray(mean, np.float64))
        counts = np.broadcast_to(integers("count", count), means.shape)
        stds = floats("std", std, means.size)
        if (stds < 0).any():
            msg = f"std must not be negative, got {stds.min()}; is it a variance or a log?"
            raise ValueError(msg)
        if ((counts <= np.maximum(ddof, 1)) & (stds > 0)).any():
            msg = (
                f"a std above 0 needs a count of at least 2 and above ddof {ddof}; count is the "
                f"number of values"
            )
            raise ValueError(msg)
        with np.errstate(all="ignore"):
            m2 = np.where(counts <= 1, 0.0, stds * stds * (counts - ddof))
        return cls(counts, means, m2, minimum, maximum)

    def variance(self, ddof: float = 0) -> Floats:
        rows = self._rows
        with np.errstate(all="ignore"):
            variance = rows["m2"] / (rows["count"] - ddof)
        return np.where(rows["count"] > ddof, variance, np.nan)

    def affine(self, scale: ArrayLike, shift: ArrayLike = 0.0) -> "Moments":
        """Return the moments of ``scale * x + shift`` without reading the data again.

        Parameters
        ----------
        scale, shift : float or array-like, shape (C,)
            Finite numbers, for example ``1 / 255``; a scale is not 0.

        Raises
        ------
        ValueError
            If a number is not finite, a scale is 0, or the shapes do not fit.
        OverflowError
            If a mean or an extreme would leave float64's range. An m2 that does is infinite.

        Examples
        --------
        >>> import streamnorm as sn
        >>> bytes_seen = sn.measure([[0], [255]])
        >>> bytes_seen.affine(1 / 255).maximum.tolist()
        [1.0]
        """
        a = floats("scale", scale, self.channels)
        b = floats("shift", shift, self.channels)
        if not (np.isfinite(a).all() and np.isfinite(b).all() and a.all()):
            msg = (
                f"scale and shift must be finite and scale not 0, got scale {scale!r} and shift "
                f"{shift!r}"
            )
            raise ValueError(msg)
        rows = self._rows.copy()
        with np.errstate(all="ignore"):
            ends = [a * rows["minimum"] + b, a * rows["maximum"] + b]
            rows["minimum"] = np.where(a < 0, ends[1], ends[0])
            rows["maximum"] = np.where(a < 0, ends[0], ends[1])
            # fmax and fmin pass over unknown extremes; rounding may leave the mean outside.
            mean = np.fmin(np.fmax(a * rows["mean"] + b, rows["minimum"]), rows["maximum"])
            rows["mean"] = np.where(np.isnan(rows["mean"]), np.nan, mean)
            rows["m2"] = rows["m2"] * a * a
        for name in ("mean", "minimum", "maximum"):
            if (np.isfinite(self._rows[name]) & ~np.isfinite(rows[name])).any():
                msg = f"scale {scale!r} and shift {shift!r} take the {name} beyond float64"
                raise OverflowError(msg)
        return Moments.of_rows(canonical(rows), self._meta.times(a.tolist()))

    def __sub__(self, other: object) -> Self:
        msg = (
            "Moments cannot be subtracted: rounding has lost what was added; measure with "
            "exact=True, and the difference is exact"
        )
        raise TypeError(msg)

    @classmethod
    def _merged(cls, parts: Sequence["Moments"], meta: Meta) -> Self:
        # Bytes: np.stack compares the fields of structured arrays one by one, 5 µs a part.
        states: Any = (np.ascontiguousarray(part._rows) for part in parts)  # noqa: SLF001
        rows = np.frombuffer(b"".join(states), PARTIAL).reshape(len(parts), -1)
        # Parts without values must not shift the tree: they would change the last digits.
        some = (rows["count"].any(axis=1)) | (rows["omitted"].any(axis=1))
        rows = rows[some] if some.any() and not some.all() else rows
        return cls.of_rows(partial.merge_tree(rows).copy(), meta)
