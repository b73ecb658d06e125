"""Items of a source -> measured outcomes, in order, on several threads."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from streamnorm import threads
from streamnorm.arrays import shape_of, sliceable
from streamnorm.layout import ChannelAxis
from streamnorm.measure import Measured, NanPolicy, measure_partial
from streamnorm.sources.items import Item, Source

__all__ = ["Outcome", "Plan", "outcomes"]


@dataclass(frozen=True, slots=True)
class Plan:
    """How to measure each item."""

    channel_axis: ChannelAxis | str = "auto"
    nan_policy: NanPolicy = "propagate"
    exact: bool = False
    transform: Callable[[Any], Any] | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one item: measured, or not readable and why."""

    name: str
    measured: Measured | None
    shape: tuple[int, ...] = ()
    converted: tuple[str, ...] = ()
    samples: int = 0
    error: Exception | None = None
    size: int = 0

    def result(self) -> Measured:
        """Return what was measured.

        Raises
        ------
        ValueError
            If the item could not be read.
        """
        if self.measured is None:
            msg = (
                f"cannot read {self.name}: {self.error}; repair or remove it, or leave such files "
                f"out with on_error='skip'"
            )
            raise ValueError(msg) from self.error
        return self.measured


def outcomes(source: Source, plan: Plan, workers: int, start: int = 0) -> Iterator[Outcome]:
    """Read and measure the items from a position on; yield in their order."""

    def work(item: Item) -> Outcome:
        try:
            return _measured(source, plan, item, 1 if source.lasting else workers)
        except (TypeError, ValueError) as error:
            error.add_note(f"in {item.name}")
            raise

    items = source.items_from(start)
    return threads.in_order(work, items, workers if source.lasting else 1, source.group)


def _measured(source: Source, plan: Plan, item: Item, measure_threads: int) -> Outcome:
    try:
        reading = item.read()
    except Exception as error:  # noqa: BLE001 - whatever a decoder raises, the file gets named
        return Outcome(item.name, None, error=error)
    array = reading.array if plan.transform is None else plan.transform(reading.array)
    # What it holds comes before how it lies: text has no channel axis.
    sliceable(array)
    shape = shape_of(array)
    axis = source.axis(shape) if isinstance(plan.channel_axis, str) else plan.channel_axis
    measured = measure_partial(array, axis, plan.nan_policy, None, measure_threads, plan.exact)
    size = int(getattr(array, "nbytes", 0))
    return Outcome(item.name, measured, shape, reading.converted, reading.samples, size=size)
