"""What engines have in common: what a partition holds, and what all partitions hold together."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from math import prod
from typing import Any, NamedTuple

import numpy as np

from streamnorm import columns
from streamnorm.accumulator import Accumulator
from streamnorm.arrays import shape_of, sliceable
from streamnorm.arrow import batches_of, is_scalar, is_unknown
from streamnorm.channels import alike, with_rows
from streamnorm.exact import ExactMoments
from streamnorm.layout import ChannelAxis, kept_axes
from streamnorm.measure import NanPolicy, check_nan_policy
from streamnorm.meta import Provenance, Report
from streamnorm.moments import Moments
from streamnorm.origin import new_pass
from streamnorm.sources.items import auto_axis
from streamnorm.value import merge

__all__ = [
    "NOTHING",
    "Found",
    "How",
    "Partition",
    "Value",
    "beside",
    "merged",
    "renamed",
    "with_nulls",
]

Value = Moments | ExactMoments
Batch = tuple[Any, Any]


class Found(NamedTuple):
    """What was found in a partition, or in several.

    Attributes
    ----------
    value : Moments, ExactMoments or None
        None where there were no rows, or only nulls: nobody may know the channels then.
    nulls : int
        Rows of which nothing is known there, not even how many values they would have.
    each : tuple of int
        How many values of a channel a row has, where that is known: one number, if all agree.
    skipped : int
        Rows that were left out before anything was made of them.
    """

    value: Value | None = None
    nulls: int = 0
    each: tuple[int, ...] = ()
    skipped: int = 0


NOTHING = Found()


class How(NamedTuple):
    """How to measure: as the arguments of `streamnorm.measure`."""

    channel_axis: ChannelAxis | str = "auto"
    exact: bool = False
    nan_policy: NanPolicy = "propagate"

    def checked(self) -> "How":
        """Return this.

        Raises
        ------
        ValueError
            If the policy is not known.
        """
        check_nan_policy(self.nan_policy)
        return self

    def axis(self, shape: Sequence[int]) -> ChannelAxis:
        """Return the channel axis of a batch."""
        named = self.channel_axis
        if not isinstance(named, str):
            return named
        if named != "auto":
            msg = f"channel_axis must be an int, a tuple of ints, None or 'auto', got {named!r}"
            raise TypeError(msg)
        return auto_axis(tuple(shape))


class Partition:
    """Measures what one partition holds, on one thread: the engine has spread the work.

    Parameters
    ----------
    how : How
        The arguments of `streamnorm.measure`.
    name : str
        Of the partition, for errors.
    """

    def __init__(self, how: How, name: str) -> None:
        self._how, self._name = how, name
        self._accumulator: Any = None
        self._axis: ChannelAxis = None
        self._nulls = self._skipped = 0
        self._each: set[int] = set()

    def add(self, batches: Iterable[Batch]) -> "Partition":
        """Measure arrays, each with its mask or None."""
        with _named_error(self._name):
            for array, mask in batches:
                if self._accumulator is None:
                    # What it holds comes before how it lies: text has no channel axis.
                    self._begin(shape_of(sliceable(array)))
                self._accumulator.update(array, mask)
        return self

    def add_column(self, column: Any) -> "Partition":
        """Measure a column of rows, of pyarrow or pandas; one of scalars is one channel."""
        # Of a pandas Series attributes are also the labels of its rows.
        if not hasattr(type(column), "type"):
            # NaN of pandas is a number here, as it is elsewhere; what is missing is None or NA.
            column = import_module("pyarrow").array(column, from_pandas=False)
        if is_unknown(column):
            self._nulls += len(column)
            return self
        if is_scalar(column.type):
            self._how = self._how._replace(channel_axis=None)
        return self.add(map(self._of_rows, batches_of(column)))

    def skip(self, rows: int) -> "Partition":
        """Count rows that nothing can be made of."""
        self._skipped += rows
        return self

    @property
    def found(self) -> Found:
        """What was measured."""
        value = None
        if self._accumulator is not None:
            value = self._accumulator.moments
            rows = bool(value.count.any() or value.omitted.any())
            dtype = value.meta.provenance.passes[0].dtype
            value = _with_pass(value, self._name, [dtype], int(rows))
        return Found(value, self._nulls, tuple(sorted(self._each)), self._skipped)

    def _begin(self, shape: Sequence[int]) -> None:
        self._axis = self._how.axis(shape)
        self._accumulator = Accumulator(
            channel_axis=self._axis,
            exact=self._how.exact,
            nan_policy=self._how.nan_policy,
            threads=1,
        )

    def _of_rows(self, batch: Batch) -> Batch:
        """Note how many values of a channel a row has; rows are no channels."""
        shape = batch[0].shape
        begun = self._accumulator is not None
        kept = kept_axes(len(shape), self._axis if begun else self._how.axis(shape))
        if 0 in kept:
            msg = (
                f"channel_axis={self._how.channel_axis} of batches of shape {shape} is that of the "
                f"rows, which are not channels; axis 1 is the first of a value"
            )
            raise ValueError(msg)
        self._each.add(prod(n for axis, n in enumerate(shape[1:], 1) if axis not in kept))
        return batch


def renamed(found: Found, name: str) -> Found:
    """Name the partition behind a value, where only now its number is known."""
    if found.value is None:
        return found
    entry = replace(found.value.meta.provenance.passes[0], source=name)
    return found._replace(value=found.value.with_meta(provenance=Provenance((entry,))))


def merged(parts: Sequence[Found]) -> Found:
    """Merge what was found in partitions, in their order; the passes behind them become one.

    Raises
    ------
    ValueError
        If their channels differ; the message names both partitions.
    """
    each = sorted({number for part in parts for number in part.each})
    counted = sum(part.nulls for part in parts), tuple(each), sum(part.skipped for part in parts)
    some = [part.value for part in parts if part.value is not None]
    if not some:
        return Found(None, *counted)
    for part in some:
        if part.channel_shape != some[0].channel_shape:
            mine, first = (value.meta.provenance.passes[0].source for value in (part, some[0]))
            msg = (
                f"{mine} has {part.channels} channels but {first} has {some[0].channels}; measure "
                f"them apart, or make them alike"
            )
            raise ValueError(msg)
    first, last = (part.meta.provenance.passes[0].source for part in (some[0], some[-1]))
    name = first if len(some) == 1 else f"{first} to {last}"
    return Found(_as_one(merge(some), name, some), *counted)


def beside(parts: Sequence[Found], grid: Sequence[int]) -> Found:
    """Join the values of pieces of the channels.

    Parameters
    ----------
    parts : sequence of Found
        One for each piece, in C order.
    grid : sequence of int
        In how many pieces each kept axis was cut.
    """
    some = [part.value for part in parts if part.value is not None]
    if len(some) < len(parts):
        return NOTHING
    records = alike([value.rows for value in some])
    pieces = np.empty(tuple(grid), object)
    for at, (value, rows) in enumerate(zip(some, records, strict=True)):
        pieces.flat[at] = rows.reshape(value.channel_shape)
    rows = np.block(pieces.tolist())
    meta = replace(some[0].meta, channel_shape=rows.shape if rows.ndim > 1 else None)
    whole = with_rows(some[0], rows.reshape(-1), meta)
    return Found(_as_one(whole, some[0].meta.provenance.passes[0].source, some))


def with_nulls(found: Found) -> Value | None:
    """Return the value with the nulls among its omitted values, now that all is known of it.

    Raises
    ------
    ValueError
        If it is not known how many values a null stands for.
    """
    if found.value is None:
        return None
    return columns.with_nulls(found.value, found.nulls, found.each, "partitions")


@contextmanager
def _named_error(name: str) -> Iterator[None]:
    """Let errors say in which partition they happened."""
    try:
        yield
    except (TypeError, ValueError) as error:
        # Some kinds of these take more than a text.
        kind = TypeError if isinstance(error, TypeError) else ValueError
        msg = f"{error} (in {name})"
        raise kind(msg) from error


def _as_one(value: Value, name: str, parts: Sequence[Value]) -> Value:
    """Put one pass in place of those of the parts, which says what they said together."""
    # Where all is missing, the dtype says nothing.
    some = [part for part in parts if part.count.any()] or parts
    dtypes = [part.meta.provenance.passes[0].dtype for part in some]
    read = sum(part.meta.provenance.passes[0].report.read for part in parts)
    return _with_pass(value, name, dict.fromkeys("+".join(dtypes).split("+")), read)


def _with_pass(value: Value, name: str, dtypes: Iterable[str], read: int) -> Value:
    report = Report(read=read, omitted=int(value.omitted.sum()))
    entry = new_pass(name, "partitions", dtype="+".join(dtypes), report=report)
    return value.with_meta(provenance=Provenance((entry,)))
