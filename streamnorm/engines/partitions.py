"""What engines have in common: one partition -> a value, values of partitions -> one.

A partition without any rows gives None, since nobody may know its channels.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from streamnorm.accumulator import Accumulator
from streamnorm.arrays import shape_of, sliceable
from streamnorm.arrow import batches_of, is_scalar
from streamnorm.exact import ExactMoments
from streamnorm.layout import ChannelAxis
from streamnorm.limbs import widened
from streamnorm.measure import NanPolicy, check_nan_policy
from streamnorm.meta import Provenance, Report
from streamnorm.moments import Moments
from streamnorm.origin import new_pass
from streamnorm.sources.items import auto_axis
from streamnorm.value import merge

__all__ = ["ONE", "How", "Partition", "Value", "beside", "merged", "renamed"]

Value = Moments | ExactMoments
Batch = tuple[Any, Any]
ONE = ""
"""Stands for the name of what has none: a source of one value."""


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
        """Measure a pyarrow array; one of scalars is one channel."""
        if is_scalar(column.type):
            self._how = self._how._replace(channel_axis=None)
        return self.add(batches_of(column))

    @property
    def value(self) -> Value | None:
        """What was measured; None if there was nothing."""
        if self._accumulator is None:
            return None
        value: Value = self._accumulator.moments
        rows = bool(value.count.any() or value.omitted.any())
        return _with_pass(value, self._name, [value.meta.provenance.passes[0].dtype], int(rows))

    def _begin(self, shape: Sequence[int]) -> None:
        self._accumulator = Accumulator(
            channel_axis=self._how.axis(shape),
            exact=self._how.exact,
            nan_policy=self._how.nan_policy,
            threads=1,
        )


def renamed(value: Value | None, name: str) -> Value | None:
    """Name the partition behind a value, where only now its number is known."""
    if value is None:
        return None
    entry = replace(value.meta.provenance.passes[0], source=name)
    return value.with_meta(provenance=Provenance((entry,)))


def merged(parts: Sequence[Value | None]) -> Value | None:
    """Merge the values of partitions in their order; the passes behind them become one.

    Raises
    ------
    ValueError
        If their channels differ; the message names both partitions.
    """
    some = [part for part in parts if part is not None]
    if not some:
        return None
    for part in some:
        if part.channel_shape != some[0].channel_shape:
            mine, first = (value.meta.provenance.passes[0].source for value in (part, some[0]))
            msg = (
                f"{mine} has {part.channels} channels but {first} has {some[0].channels}; measure "
                f"them apart, or make them alike"
            )
            raise ValueError(msg)
    first, last = (part.meta.provenance.passes[0].source for part in (some[0], some[-1]))
    return _as_one(merge(some), first if len(some) == 1 else f"{first} to {last}", some)


def beside(values: Sequence[Value | None], grid: Sequence[int]) -> Value | None:
    """Join the values of pieces of the channels.

    Parameters
    ----------
    values : sequence of Moments, or of ExactMoments
        One for each piece, in C order.
    grid : sequence of int
        In how many pieces each kept axis was cut.
    """
    some = [value for value in values if value is not None]
    if len(some) < len(values):
        return None
    records = [value.rows for value in some]
    if len({rows.dtype for rows in records}) > 1:
        records = list(map(widened, records))
    pieces = np.empty(tuple(grid), object)
    for at, (value, rows) in enumerate(zip(some, records, strict=True)):
        pieces.flat[at] = rows.reshape(value.channel_shape)
    rows = np.block(pieces.tolist())
    meta = replace(some[0].meta, channel_shape=rows.shape if rows.ndim > 1 else None)
    exact = isinstance(some[0], ExactMoments)
    whole = (ExactMoments.of_rows if exact else Moments.of_partial)(rows.reshape(-1), meta)
    return _as_one(whole, some[0].meta.provenance.passes[0].source, some)


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
