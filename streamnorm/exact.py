"""ExactMoments: per-channel count, sum and sum of squares as integers, whatever the sharding."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from streamnorm import limbs, readers
from streamnorm.fields import Bools, Counts, Floats, checked_meta, integers, sized
from streamnorm.labels import cut
from streamnorm.limbs import COUNTS, NARROW, WIDE, Exact
from streamnorm.meta import NO_META, Meta, Report
from streamnorm.moments import Moments
from streamnorm.rationals import Rationals, known, nearest, nearest_root, rationals
from streamnorm.sums import check_possible, put_extremes, rows_of, subtracted
from streamnorm.value import Value, nameless

__all__ = ["ExactMoments"]


class ExactMoments(Value):
    """Per channel: how many values, their exact sum and sum of squares, and their extremes.

    The same readers as `Moments`, over integers: every split of the data, every order and every
    number of threads gives the same bits, and every reader gives the float64 nearest to the exact
    answer (rounded once, half to even). ``a + b`` is exact, and so is ``a - b``, which takes a part
    out again. `digest` names the numbers, for files and caches.

    Built by `measure`, `Accumulator.moments` and `compute` with ``exact=True``, by `merge`, `load`
    or `ExactMoments.empty`; the constructor is for sums that come from elsewhere.

    Parameters
    ----------
    count : array-like of int, shape (C,)
        Values seen, non-finite ones included, 0 to 2**63 - 1.
    sum, sum_of_squares : sequence of int, Fraction or float, length C
        Of the finite values. Whole multiples of 2**-1074, and of 2**-2148.
    minimum, maximum : sequence of float, int or Fraction, length C, optional
        Extremes of the finite values; unknown (NaN) if left out.
    omitted, nan, positive_infinity, negative_infinity : array-like of int, shape (C,), optional
        Values left out, and how many of those counted are NaN or infinite. Default 0.
    meta : Meta, optional
        Names and provenance.

    Raises
    ------
    ValueError
        If counts, sums and extremes contradict each other; the message says how.

    Notes
    -----
    ``==``, ``hash`` and `digest` look at counts and sums, neither at the extremes nor at `meta`. So
    ``(a + b) - b == a`` holds although the extremes of a rest are not always known.
    A result beyond float64's range is infinite; the sums are exact all the same. docs/exact.md has
    the algorithm and its proof.

    Examples
    --------
    >>> import streamnorm as sn
    >>> a = sn.measure([[0.1], [0.2], [0.3]], exact=True)
    >>> b = sn.measure([[1e16], [-1e16]], exact=True)
    >>> a + b
    ExactMoments(C=1, n=5, mean=[0.12], std=[6.325e+15])
    >>> (a + b) - b == a
    True
    >>> a.mean.tolist()
    [0.2]
    """

    __slots__ = ()
    _rows: Exact

    def __init__(
        self,
        count: ArrayLike,
        sum: Rationals,  # noqa: A002 - the field's own name
        sum_of_squares: Rationals,
        minimum: Rationals | None = None,
        maximum: Rationals | None = None,
        omitted: ArrayLike | None = None,
        nan: ArrayLike | None = None,
        positive_infinity: ArrayLike | None = None,
        negative_infinity: ArrayLike | None = None,
        meta: Meta = NO_META,
    ) -> None:
        counts = integers("count", count)
        size = counts.size
        others = zip(COUNTS[1:], (omitted, nan, positive_infinity, negative_infinity), strict=True)
        rows = rows_of(
            [counts, *(_given(name, given, size) for name, given in others)],
            rationals("sum", sum, size),
            rationals("sum_of_squares", sum_of_squares, size),
        )
        put_extremes(rows, known("minimum", minimum, size), known("maximum", maximum, size))
        check_possible(rows)
        self._hold(rows, checked_meta(meta, size))

    @classmethod
    def empty(cls, channels: int) -> Self:
        """Return the moments of no data: the identity of ``+``.

        Examples
        --------
        >>> from streamnorm import ExactMoments
        >>> ExactMoments.empty(2)
        ExactMoments(C=2, n=0, mean=[nan nan], std=[nan nan])
        """
        return cls.of_rows(limbs.empty(channels))

    @property
    def count(self) -> Counts:
        return self._counts("count")

    @property
    def omitted(self) -> Counts:
        return self._counts("omitted")

    @property
    def nan(self) -> Counts:
        """How many of the values counted are NaN, int64, shape (C,)."""
        return self._counts("nan")

    @property
    def positive_infinity(self) -> Counts:
        """How many of the values counted are +inf, int64, shape (C,)."""
        return self._counts("positive_infinity")

    @property
    def negative_infinity(self) -> Counts:
        """How many of the values counted are -inf, int64, shape (C,)."""
        return self._counts("negative_infinity")

    @property
    def sum(self) -> tuple[Fraction, ...]:
        """The sum of the finite values of every channel, exactly."""
        return tuple(s for _, s, _ in readers.sums_of(self._rows))

    @property
    def sum_of_squares(self) -> tuple[Fraction, ...]:
        """The sum of the squares of the finite values of every channel, exactly."""
        return tuple(q for _, _, q in readers.sums_of(self._rows))

    @property
    def mean(self) -> Floats:
        return readers.mean(self._rows)

    @property
    def m2(self) -> Floats:
        return readers.m2(self._rows)

    @property
    def minimum(self) -> Floats:
        return readers.extreme(self._rows, "minimum")

    @property
    def maximum(self) -> Floats:
        return readers.extreme(self._rows, "maximum")

    @property
    def finite_minimum(self) -> tuple[Fraction | None, ...]:
        """The smallest finite value of every channel, exactly; None where there is none known."""
        return tuple(readers.extremes_of(self._rows, "minimum"))

    @property
    def finite_maximum(self) -> tuple[Fraction | None, ...]:
        """The largest finite value of every channel, exactly; None where there is none known."""
        return tuple(readers.extremes_of(self._rows, "maximum"))

    @property
    def extremes_known(self) -> Bools:
        spoiled = (self.count == 0) | (self._rows["nan"] > 0)
        return np.asarray(spoiled | ~(np.isnan(self.minimum) | np.isnan(self.maximum)))

    @property
    def constant(self) -> Bools:
        return readers.constant(self._rows)

    def variance(self, ddof: float = 0) -> Floats:
        return readers.spread(self._rows, ddof, nearest)

    def std(self, ddof: float = 0) -> Floats:
        return readers.spread(self._rows, ddof, nearest_root)

    @property
    def moments(self) -> Moments:
        """The nearest `Moments`: every field rounded once; its std is that of the rounded m2."""
        return self.affine(1)

    def affine(self, scale: Rationals, shift: Rationals = 0) -> Moments:
        """Return the moments of ``scale * x + shift``, every field rounded once.

        A std of them is that of the rounded m2, so it may differ from `std` in its last digit.

        Parameters
        ----------
        scale, shift : int, Fraction, Decimal or float, or one per channel
            For example ``Fraction(1, 255)``. A float stands for the number that it holds. A scale
            is not 0.

        Raises
        ------
        ValueError
            If a number is not finite, a scale is 0, or there are more or fewer than channels.
        OverflowError
            If a mean or an extreme would leave float64's range. An m2 that does is infinite.

        Examples
        --------
        >>> from fractions import Fraction
        >>> import streamnorm as sn
        >>> seen = sn.measure([[0], [255], [255]], exact=True)
        >>> seen.affine(Fraction(1, 255)).mean.tolist()
        [0.6666666666666666]
        """
        a = rationals("scale", scale, self.channels)
        b = rationals("shift", shift, self.channels)
        if not all(a):
            msg = f"scale must not be 0, got {scale!r}"
            raise ValueError(msg)
        return Moments.of_rows(readers.affine(self._rows, a, b), self._meta)

    def digest(self) -> str:
        """Return a name of the numbers: a SHA-256, as 64 hexadecimal digits.

        Of counts and sums, in a form that no dtype, grid, machine or version of this library
        changes: every sum as an odd integer and a power of two. Neither extremes nor `meta` are
        part of it.

        Examples
        --------
        >>> import numpy as np, streamnorm as sn
        >>> numbers = np.array([[1, 2], [3, 4]])
        >>> floats = numbers.astype(np.float32)
        >>> digests = {sn.measure(x, exact=True).digest() for x in (numbers, floats)}
        >>> len(digests)
        1
        """
        return readers.digest(self._rows)

    def __sub__(self, other: object) -> Self:
        """Take a part out again: exactly the moments of the rest.

        An extreme of the rest is known where the part's is another; else it is NaN. ``meta`` keeps
        all passes, the part's as "subtracted"; its report still tells of all that was read.

        Raises
        ------
        ValueError
            If the part cannot have been a part of this: no data could have what is left, or its
            labels are not among these.
        """
        if not isinstance(other, Value):
            return NotImplemented
        if not isinstance(other, ExactMoments):
            msg = "cannot subtract Moments, which are rounded; measure the part with exact=True"
            raise TypeError(msg)
        if other.channels != self.channels:
            msg = f"cannot subtract {other.channels} channels from {self.channels}"
            raise ValueError(msg)
        meta = replace(self._meta, labels=(), unlabelled=False) + _taken_out(other._meta)
        meta = replace(meta, **self._left(other))
        return self.of_rows(subtracted(self._rows, other._rows), meta)

    def _left(self, other: Value) -> dict[str, Any]:
        """Return what labels tell of what is left without another."""
        mine, theirs = self._meta.labels, other.meta.labels
        # Without something that has no name nobody knows what is left.
        if not mine or nameless(other):
            return {"labels": (), "unlabelled": False}
        return {"labels": cut(mine, theirs), "unlabelled": self._meta.unlabelled}

    @classmethod
    def _merged(cls, parts: Sequence["ExactMoments"], meta: Meta) -> Self:
        return cls.of_rows(limbs.add_up([part._rows for part in parts]), meta)  # noqa: SLF001

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ExactMoments):
            return NotImplemented
        mine, theirs = limbs.alike(self._rows, other._rows)
        return mine.shape == theirs.shape and all(
            np.array_equal(mine[name], theirs[name]) for name in (*COUNTS, "sum", "squares")
        )

    def __hash__(self) -> int:
        return hash(self.digest())

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (limbs.grid_of(self._rows).name, self._rows.tobytes(), self._meta)

    def _counts(self, name: str) -> Counts:
        values = np.ascontiguousarray(self._rows[name])
        values.flags.writeable = False
        return values


def _restore(grid: str, data: bytes, meta: Meta) -> ExactMoments:
    dtype = next(known.dtype for known in (NARROW, WIDE) if known.name == grid)
    return ExactMoments.of_rows(np.frombuffer(data, dtype).copy(), meta)


def _given(name: str, counts: ArrayLike | None, channels: int) -> Counts:
    if counts is None:
        return np.zeros(channels, np.int64)
    return sized(name, integers(name, counts), channels)


_TAKEN = "subtracted: "


def _taken_out(meta: Meta) -> Meta:
    """Return what is known of a part that is subtracted: its passes, of which nothing is left."""
    passes = tuple(
        replace(entry, kind=f"{_TAKEN}{entry.kind.removeprefix(_TAKEN)}", report=Report())
        for entry in meta.provenance.passes
    )
    return replace(
        meta, labels=(), unlabelled=False, provenance=replace(meta.provenance, passes=passes)
    )
