"""The fold: many batches, one after the other, into one value."""

import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar, overload

from streamnorm import threads as _threads
from streamnorm.arrays import pick, shape_of
from streamnorm.exact import ExactMoments
from streamnorm.layout import ChannelAxis
from streamnorm.limbs import Exact
from streamnorm.measure import (
    Measured,
    NanPolicy,
    check_nan_policy,
    measure_partial,
    meta_of,
)
from streamnorm.meta import Pass, Report
from streamnorm.moments import Moments
from streamnorm.origin import new_pass
from streamnorm.partial import Partial
from streamnorm.stacks import stack_for

__all__ = ["Accumulator"]

if TYPE_CHECKING:
    # A default, so that nobody need write Accumulator[Moments]; Python has it from 3.13 on.
    import typing_extensions

    V_co = typing_extensions.TypeVar(
        "V_co", bound=Moments | ExactMoments, covariant=True, default=Moments
    )
else:
    V_co = TypeVar("V_co", covariant=True)
T = TypeVar("T")


class Accumulator(Generic[V_co]):
    """Measures a stream of batches; the one thing here that changes.

    Memory is a few partial results, O(log batches). The result is bit for bit that of
    ``merge(measure(batch) for batch in batches)``. Threads may share one: updates take turns, so
    nothing is lost, but the last digits then depend on whose turn came first; for the same bits on
    every run give each thread its own and `merge` them in a fixed order, or pass ``exact=True``.

    Parameters
    ----------
    channel_axis, exact, nan_policy, threads
        As for `measure`.
    channels : int, optional
        The number of channels to expect. Default: that of the first batch.

    Examples
    --------
    >>> import numpy as np, streamnorm as sn
    >>> acc = sn.Accumulator(channel_axis=-1)
    >>> for batch in np.arange(12.0).reshape(2, 3, 2):
    ...     _ = acc.update(batch)
    >>> acc.moments
    Moments(C=2, n=6, mean=[5 6], std=[3.416 3.416])
    """

    @overload
    def __init__(
        self: "Accumulator[Moments]",
        *,
        channel_axis: ChannelAxis = 1,
        exact: Literal[False] = False,
        nan_policy: NanPolicy = "propagate",
        threads: int | None = None,
        channels: int | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self: "Accumulator[ExactMoments]",
        *,
        channel_axis: ChannelAxis = 1,
        exact: Literal[True],
        nan_policy: NanPolicy = "propagate",
        threads: int | None = None,
        channels: int | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self: "Accumulator[Moments | ExactMoments]",
        *,
        channel_axis: ChannelAxis = 1,
        exact: bool = False,
        nan_policy: NanPolicy = "propagate",
        threads: int | None = None,
        channels: int | None = None,
    ) -> None: ...
    def __init__(
        self,
        *,
        channel_axis: ChannelAxis = 1,
        exact: bool = False,
        nan_policy: NanPolicy = "propagate",
        threads: int | None = None,
        channels: int | None = None,
    ) -> None:
        check_nan_policy(nan_policy)
        self._channel_axis = channel_axis
        self._nan_policy: NanPolicy = nan_policy
        self._threads = _threads.resolve(threads)
        self._channels = channels
        self._channel_shape: tuple[int, ...] | None = None
        self._dtypes: dict[str, None] = {}
        self._exact = exact
        self._stack: Any = stack_for(exact)
        self._turn = threading.Lock()

    def update(self, batch: Any, mask: Any = None) -> Self:
        """Measure one more batch.

        Parameters
        ----------
        batch, mask
            As for `measure`. An empty batch changes no number.

        Returns
        -------
        Accumulator
            Itself.

        Raises
        ------
        ValueError
            If the number of channels differs from that of the earlier batches, or as `measure`
            does. Whatever is raised, the state is as before.
        """
        with self._turn:
            done = measure_partial(
                batch, self._channel_axis, self._nan_policy, mask, self._threads, self._exact
            )
            self._accept(done, batch)
            self._stack.push(done.rows, some=done.some)
        return self

    def watch(self, iterable: Iterable[T], select: Any = None) -> Iterator[T]:
        """Yield the batches of an iterable unchanged, and measure each on its way.

        A batch is measured before it is handed on, so what is done to it later changes nothing,
        and if the loop is left early, those it has had are counted and no others. It has no length:
        tell a progress bar ``total=len(loader)``.

        Parameters
        ----------
        iterable : iterable of batches
            For example a DataLoader; tuples and dicts of arrays are batches too.
        select : int, str or callable, optional
            Which item of a tuple (default the first) or key of a dict to measure, or what makes
            the array to measure of a batch.

        Examples
        --------
        >>> import numpy as np, streamnorm as sn
        >>> acc = sn.Accumulator()
        >>> loader = [(np.ones((4, 3)), "labels"), (np.zeros((4, 3)), "labels")]
        >>> [labels for batch, labels in acc.watch(loader)]
        ['labels', 'labels']
        >>> acc.moments.mean.tolist()
        [0.5, 0.5, 0.5]
        """
        for batch in iterable:
            self.update(pick(batch, select))
            yield batch

    @property
    def moments(self) -> V_co:
        """What was seen so far, as a value that later updates do not change.

        Raises
        ------
        ValueError
            If nothing was seen and ``channels`` was not given.
        """
        with self._turn:
            if self._channels is None:
                msg = (
                    "no batch seen yet, so the number of channels is unknown; pass channels=…, or "
                    "None to all_merge on a rank that has nothing"
                )
                raise ValueError(msg)
            rows = self._stack.fold(self._channels)
            shape = self._channel_shape
            meta = meta_of((self._channels,) if shape is None else shape)
            if self._stack.parts:
                meta = meta.with_pass(self._pass(rows))
            value: V_co = self._stack.value(rows, meta)
            return value

    def _accept(self, done: Measured, batch: Any) -> None:
        expected, channels = self._channel_shape, self._channels
        if expected not in (None, done.channel_shape) or channels not in (None, done.rows.size):
            msg = (
                f"the batch has {done.rows.size} channels (shape {shape_of(batch)}, channel_axis "
                f"{self._channel_axis}) but this Accumulator holds {expected or channels}; pass "
                f"another channel_axis or start a new Accumulator"
            )
            raise ValueError(msg)
        self._channels = done.rows.size
        self._channel_shape = done.channel_shape
        self._dtypes[done.dtype] = None

    def _pass(self, rows: Partial | Exact) -> Pass:
        report = Report(read=self._stack.parts, omitted=int(rows["omitted"].sum()))
        return new_pass("Accumulator", "batches", dtype="+".join(self._dtypes), report=report)

    def __repr__(self) -> str:
        seen = "nothing yet" if self._channels is None else repr(self.moments)
        return f"Accumulator({self._stack.parts:_} batches: {seen})"

    def __getstate__(self) -> dict[str, Any]:
        with self._turn:
            self._stack.settle()
            return {k: v for k, v in self.__dict__.items() if k != "_turn"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._turn = threading.Lock()
