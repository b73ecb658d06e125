"""What all values are: immutable, mergeable, with the same readers; and the merge of many."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from streamnorm.errors import warn
from streamnorm.fields import MAX_COUNT, Bools, Counts, Floats, checked_meta
from streamnorm.labels import Label, labels_of, listed, missing
from streamnorm.meta import NO_META, Meta

__all__ = ["Value", "checked_value", "merge", "nameless"]


class Value(ABC):
    """Statistics of every channel: what `Moments`, `ExactMoments` and `WeightedMoments` share."""

    __slots__ = ("_meta", "_rows")
    _meta: Meta
    _rows: NDArray[np.void]

    @classmethod
    def of_rows(cls, rows: NDArray[np.void], meta: Meta = NO_META) -> Self:
        """Wrap what a kernel or a merge made, unchecked; `rows` must not be changed afterwards."""
        self = object.__new__(cls)
        self._hold(rows, meta)
        return self

    @classmethod
    @abstractmethod
    def empty(cls, channels: int) -> Self:
        """Return the value of no data: the identity of ``+``."""

    def _hold(self, rows: NDArray[np.void], meta: Meta) -> None:
        rows.flags.writeable = False
        object.__setattr__(self, "_rows", rows)
        object.__setattr__(self, "_meta", meta)

    def __delattr__(self, name: str) -> None:
        self.__setattr__(name, None)

    def __setattr__(self, name: str, value: object) -> None:
        msg = f"{type(self).__name__} cannot change; make new ones instead of setting {name!r}"
        raise AttributeError(msg)

    @property
    def channels(self) -> int:
        """Number of channels, C."""
        return self._rows.size

    @property
    def channel_shape(self) -> tuple[int, ...]:
        """Shape of the kept axes; ``(C,)`` unless several axes were kept."""
        return self._meta.channel_shape or (self.channels,)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names of the channels; their positions where they have none."""
        return self._meta.names or tuple(map(str, range(self.channels)))

    @property
    def meta(self) -> Meta:
        """Names, provenance and report."""
        return self._meta

    @property
    def rows(self) -> NDArray[np.void]:
        """The numbers as they are in memory: records, read-only, shape (C,)."""
        return self._rows

    @property
    @abstractmethod
    def count(self) -> Counts:
        """Values seen per channel, int64, shape (C,), non-finite ones included."""

    @property
    @abstractmethod
    def mean(self) -> Floats:
        """Mean per channel, float64, shape (C,); NaN where nothing was seen."""

    @property
    @abstractmethod
    def m2(self) -> Floats:
        """Sum of squared deviations from the mean, float64, shape (C,). Not the variance."""

    @property
    @abstractmethod
    def minimum(self) -> Floats:
        """Smallest value per channel; NaN where empty, unknown, or a NaN was seen."""

    @property
    @abstractmethod
    def maximum(self) -> Floats:
        """Largest value per channel; NaN where empty, unknown, or a NaN was seen."""

    @property
    @abstractmethod
    def omitted(self) -> Counts:
        """Values left out per channel, int64, shape (C,): skipped NaN and masked ones."""

    @property
    @abstractmethod
    def extremes_known(self) -> Bools:
        """Whether minimum and maximum are those of all values counted, bool, shape (C,)."""

    @property
    @abstractmethod
    def constant(self) -> Bools:
        """Whether all values are known to be the same, bool, shape (C,)."""

    @abstractmethod
    def variance(self, ddof: float = 0) -> Floats:
        """Return the variance per channel, float64, shape (C,).

        Parameters
        ----------
        ddof : float
            Divides by ``count - ddof``: 0 gives the variance of the data as they are, 1 the
            unbiased estimate (``numpy.var(ddof=1)``, ``torch.var(correction=1)``).

        Returns
        -------
        numpy.ndarray
            NaN, without a warning, where ``count <= ddof`` and where a non-finite value was seen.
        """

    @abstractmethod
    def std(self, ddof: float = 0) -> Floats:
        """Return the standard deviation per channel, float64, shape (C,); see `variance`."""

    def with_meta(self, **changes: Any) -> Self:
        """Return the same numbers with fields of `meta` replaced, for example ``names``."""
        if "labels" in changes:
            changes.setdefault("unlabelled", False)
        return self.of_rows(self._rows, checked_meta(replace(self._meta, **changes), self.channels))

    def select(self, channels: str | int | Sequence[str | int]) -> Self:
        """Return some of the channels, in the order asked for.

        Parameters
        ----------
        channels : str, int, or sequence of these
            Names, or positions; negative ones count from the end.

        Raises
        ------
        KeyError
            If a name is not there.
        IndexError
            If a position is not there.
        ValueError
            If there are no names, or a channel is asked for twice.

        Examples
        --------
        >>> import streamnorm as sn
        >>> value = sn.measure([[1.0, 2.0, 3.0]]).with_meta(names=("red", "green", "blue"))
        >>> value.select(["blue", "red"]).mean.tolist()
        [3.0, 1.0]
        """
        asked = [channels] if isinstance(channels, str | int) else list(channels)
        at = [_position(channel, self._meta.names, self.channels) for channel in asked]
        if len(set(at)) < len(at):
            msg = f"a channel is asked for twice in {asked}; name each once"
            raise ValueError(msg)
        return self.of_rows(self.rows[at], self._meta.of_channels(at))

    @classmethod
    @abstractmethod
    def _merged(cls, parts: Sequence[Any], meta: Meta) -> Self:
        """Merge parts of this type and of as many channels."""

    def __add__(self, other: object) -> Self:
        if not isinstance(other, Value):
            return NotImplemented
        both: list[Any] = [self, other]
        merged: Self = merge(both)
        return merged

    def __repr__(self) -> str:
        fewest = int(self.count.min(initial=MAX_COUNT))
        most = int(self.count.max(initial=0))
        seen = f"{most:_}" if fewest >= most else f"{fewest:_} to {most:_}"
        head = self.of_rows(self.rows[:_SHOWN].copy(), NO_META)
        more = " …" if self.channels > _SHOWN else ""
        mean, std = (_short(values) + more for values in (head.mean, head.std()))
        return f"{type(self).__name__}(C={self.channels}, n={seen}, mean=[{mean}], std=[{std}])"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


V = TypeVar("V", bound=Value)
_SHOWN = 6


@overload
def merge(
    parts: Iterable[Mapping[str, V]], *, expect: Iterable[Label | str] | None = None
) -> dict[str, V]: ...
@overload
def merge(parts: Iterable[V], *, expect: Iterable[Label | str] | None = None) -> V: ...
def merge(parts: Iterable[Any], *, expect: Iterable[Label | str] | None = None) -> Any:
    """Merge many values into that of all data together.

    `Moments` are merged in a balanced tree in the order given: the same parts in the same order
    give the same bits, whoever computed them, and the ones that an `Accumulator` over the same
    batches holds. `ExactMoments` give the same bits in any order.

    Parameters
    ----------
    parts : iterable of Moments, of ExactMoments, or of dicts of these
        At least one; all of the same number of channels. Empty ones change nothing. Dicts, as
        `compute` gives for tables, are merged name by name, and must have the same names.
    expect : iterable of Label or str, optional
        The labels that all parts together must have, no fewer and no more: what is missing, or is
        there without being expected, is named in an error. For parts measured apart, see
        `Label` and the ``label`` of `compute`.

    Returns
    -------
    Moments or ExactMoments, or a dict of them

    Warns
    -----
    StreamnormWarning
        If two parts of different labels have equal numbers, of inputs of equal names and sizes.

    Raises
    ------
    ValueError
        If there are no parts, their channels or channel names differ, their labels overlap, or
        are not those expected.
    TypeError
        If a part is something else, or both kinds are among them.
    OverflowError
        If a count would exceed 2**63 - 1.

    Examples
    --------
    >>> import streamnorm as sn
    >>> sn.merge(sn.measure([[float(x)]]) for x in range(5)).mean.tolist()
    [2.0]
    """
    values = list(parts)
    if not values:
        msg = "nothing to merge: expected at least one part; start from Moments.empty"
        raise ValueError(msg)
    if isinstance(values[0], Mapping):
        return _merged_by_name(values, expect)
    for at, part in enumerate(values):
        if not isinstance(part, Value):
            what = type(part).__name__
            msg = (
                f"part {at} is a {what}, expected Moments; measure or load it first, or pass an "
                f"accumulator's .moments"
            )
            raise TypeError(msg)
        _of_type(values[0], part)
        if part.channels != values[0].channels:
            msg = (
                f"part {at} has {part.channels} channels but part 0 has {values[0].channels}; "
                f"only moments of the same channels can be merged"
            )
            raise ValueError(msg)
    meta = Meta.joined(part.meta for part in values)
    if meta.labels or expect is not None:
        without = sum(map(nameless, values))
        meta = replace(meta, unlabelled=bool(meta.labels) and without > 0)
        if expect is not None:
            _check_complete(without, meta, labels_of(expect))
        _warn_of_twins(values)
    return type(values[0])._merged(values, meta)  # noqa: SLF001


def _merged_by_name(parts: Sequence[Any], expect: Any) -> dict[str, Any]:
    names = list(parts[0])
    for at, part in enumerate(parts):
        if not isinstance(part, Mapping) or set(part) != set(names):
            what = f"the arrays {list(part)}" if isinstance(part, Mapping) else "one array"
            msg = f"part {at} holds {what} but part 0 {names}; only equal names can be merged"
            raise ValueError(msg)
    return {name: merge([part[name] for part in parts], expect=expect) for name in names}


def nameless(value: Value) -> bool:
    """Whether it is of data without a label, or some of them are."""
    labels, unlabelled = value.meta.labels, value.meta.unlabelled
    return unlabelled or (not labels and bool(value.count.any() or value.omitted.any()))


def _warn_of_twins(values: Sequence[Value]) -> None:
    """Say where one thing seems to have been measured under two names: no label tells that."""
    named = [(value, value.meta.labels[0]) for value in values if len(value.meta.labels) == 1]
    often = Counter(label.digest for _, label in named if label.digest)
    first: dict[tuple[str, int], Label] = {}
    for value, label in named:
        if often[label.digest] > 1 and value.count.any():
            other = first.setdefault((label.digest, hash(value.rows.tobytes())), label)
            if other is not label:
                both = f"{other} and {label} are of inputs of the same names and sizes, and have"
                warn(f"{both} the same numbers: was one measured under two names?")
                return


def _check_complete(without: int, meta: Meta, expected: Sequence[Label]) -> None:
    found = [f"{without:,} part(s) with data without a label"] if without else []
    if lost := missing(meta.labels, expected):
        found.append(f"{len(lost):,} missing: {listed(lost)}")
    if alien := missing(expected, meta.labels):
        found.append(f"{len(alien):,} not expected: {listed(alien)}")
    if found:
        msg = f"the parts do not make up the data expected: {'; '.join(found)}"
        raise ValueError(msg)


def checked_value(given: Any) -> Value:
    """Return what was given, if it is the statistics of one array.

    Raises
    ------
    TypeError
        If it is several, the path of a file, or something else.
    """
    if isinstance(given, Value):
        return given
    if isinstance(given, Mapping):
        names = ", ".join(map(str, given))
        msg = f"expected Moments, got a dict of {names}; take one, or all by streamnorm.concat"
    else:
        what = type(given).__name__
        msg = f"expected Moments, got a {what}; of a state file load(path) gives them"
    raise TypeError(msg)


def _of_type(first: Value, other: Value) -> Value:
    if type(first) is not type(other):
        names = {type(first).__name__, type(other).__name__}
        if "WeightedMoments" in names:
            msg = (
                f"cannot merge {type(first).__name__} with {type(other).__name__}: in one every "
                f"value counts alike, in the other by its weight; measure both with weights, or "
                f"none"
            )
            raise TypeError(msg)
        msg = (
            f"cannot merge {type(first).__name__} with {type(other).__name__}: what was rounded "
            f"cannot become exact again; measure both with exact=True, or give up exactness with "
            f"exact_moments.moments"
        )
        raise TypeError(msg)
    return other


def _position(channel: str | int, names: Sequence[str] | None, channels: int) -> int:
    if isinstance(channel, str):
        if names is None:
            msg = f"the channels have no names, so there is no {channel!r}; select by position"
            raise ValueError(msg)
        if channel not in names:
            msg = f"no channel is named {channel!r}; there are {', '.join(names)}"
            raise KeyError(msg)
        return names.index(channel)
    if not -channels <= channel < channels:
        msg = f"there is no channel {channel}: there are {channels}"
        raise IndexError(msg)
    return channel % channels


def _short(values: NDArray[Any]) -> str:
    return " ".join(f"{v:.4g}" for v in values.tolist())
