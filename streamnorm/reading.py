"""Items of a source -> measured outcomes, in order, on several threads."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from streamnorm import threads
from streamnorm.arrays import shape_of, sliceable
from streamnorm.layout import ChannelAxis
from streamnorm.masks import both, mask_of, unpacked, where_not
from streamnorm.measure import Measured, NanPolicy, measure_partial
from streamnorm.sources.items import ONLY, Choice, Item, Packing, Reading, Source

__all__ = ["Outcome", "Part", "Plan", "outcomes"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to read, and how to measure each item."""

    choice: Choice
    nan_policy: NanPolicy = "propagate"
    exact: bool = False
    transform: Callable[[Any], Any] | None = None

    def fits(self, source: Source) -> "Plan":
        """Return this, if its transform is one for the items of a source.

        Raises
        ------
        ValueError
            If it is for pictures, and they are none.
        """
        if getattr(self.transform, "of_pictures", False) and not source.pictures:
            msg = f"to resize and crop is for files of images, not for {source.kind}"
            raise ValueError(msg)
        return self


class Part(NamedTuple):
    """One measured array of an item; or nothing but rows of which nothing is known."""

    measured: Measured | None
    shape: tuple[int, ...]
    packing: Packing | None
    names: tuple[str, ...] | None
    converted: tuple[str, ...]
    samples: int
    nulls: int


class Outcome(NamedTuple):
    """What became of one item: its arrays measured, by their names, or not readable and why."""

    item: Item
    parts: Sequence[tuple[str | None, Part]] = ()
    error: Exception | None = None
    size: int = 0

    def result(self) -> Sequence[tuple[str | None, Part]]:
        """Return what was measured.

        Raises
        ------
        ValueError
            If the item could not be read.
        """
        if self.error is not None:
            msg = (
                f"cannot read {self.item.name}: {self.error}; repair or remove it, or leave such "
                f"items out with on_error='skip'"
            )
            raise ValueError(msg) from self.error
        return self.parts


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
        readings = item.read()
    except Exception as error:  # noqa: BLE001 - whatever a decoder raises, the file gets named
        return Outcome(item, error=error)
    given = [(ONLY, readings)] if isinstance(readings, Reading) else readings
    parts = [(name, _part(source, plan, name, reading, measure_threads)) for name, reading in given]
    size = 0
    for _, reading in given:
        size += getattr(reading.array, "nbytes", 0)
    return Outcome(item, parts, size=size)


def _part(source: Source, plan: Plan, name: str | None, reading: Reading, workers: int) -> Part:
    array, packing = reading.array, reading.packing
    if reading.nulls:
        return Part(None, (), packing, None, (), 0, reading.nulls)
    mask = both(reading.mask, mask_of(source.mask, reading))
    missing = plan.choice.missing_values
    if missing is not None:
        # Compared as they are stored, before anything is made of them.
        mask = both(mask, where_not(array, missing, _axis(source, plan, name, array)))
    if packing is not None and (plan.exact or plan.transform is not None):
        array, packing = unpacked(array, packing), None
    if plan.transform is not None:
        before = shape_of(array)
        array = plan.transform(array)
        if mask is not None and shape_of(array) != before:
            msg = (
                f"the transform makes {shape_of(array)} of {before}, which the mask of what is "
                f"missing does not fit; transform the data before, or pass nodata=None and no mask="
            )
            raise ValueError(msg)
    # What it holds comes before how it lies: text has no channel axis.
    sliceable(array)
    axis = _axis(source, plan, name, array)
    measured = measure_partial(array, axis, plan.nan_policy, mask, workers, plan.exact)
    shape = shape_of(array)
    return Part(measured, shape, packing, reading.names, reading.converted, reading.samples, 0)


def _axis(source: Source, plan: Plan, name: str | None, array: Any) -> ChannelAxis:
    shape = shape_of(array)
    # A named array of one axis is a column: one channel.
    column = name is not None and len(shape) == 1
    return plan.choice.axis(name, lambda: None if column else source.axis(shape))
