"""What a source is: a name, and items in a fixed order, each read when its turn comes."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from streamnorm.arrays import shape_of
from streamnorm.layout import ChannelAxis
from streamnorm.sources.inputs import Inputs
from streamnorm.sources.places import Notes

__all__ = [
    "DEVICE_ITEM_VALUES",
    "ITEM_VALUES",
    "ONLY",
    "Axes",
    "Choice",
    "Item",
    "Named",
    "Packing",
    "Reading",
    "Source",
    "Tally",
    "auto_axis",
    "describe",
    "drawn",
    "rows_per_item",
]

Axes = ChannelAxis | str | Mapping[str, ChannelAxis]
"""A channel axis, "auto", or one for each named array."""

ITEM_VALUES = 1 << 21
"""Values in a slice of an array: enough to outweigh the handing over, little enough to stop at."""
DEVICE_ITEM_VALUES = 1 << 28
"""In a slice of a tensor on a device, where to start a kernel takes as long as to read millions."""
ONLY = None
"""The name of the array of a source that has only one."""

Packing = tuple[float, float]
"""Scale and offset by which stored numbers are to be read: value = stored · scale + offset."""


class Reading(NamedTuple):
    """One array read.

    Attributes
    ----------
    array : array-like
        The batch.
    mask : array of bool or None
        False where the format itself says that a value is missing.
    packing : (float, float) or None
        Scale and offset that the stored numbers are still without.
    names : tuple of str or None
        Names of the channels, where the format has them.
    batch : object
        What the array was taken from, where that is more than the array; a mask may lie there.
    converted : tuple of str
        The changes that were made to it.
    samples : int
        Their number in the batch.
    nulls : int
        Rows of which nothing is known, not even how many values they would have; without an array.
    """

    array: Any
    mask: Any = None
    packing: Packing | None = None
    names: tuple[str, ...] | None = None
    batch: Any = None
    converted: tuple[str, ...] = ()
    samples: int = 0
    nulls: int = 0


Named = tuple[str | None, Reading]
"""The name of an array, and one piece of it."""


class Item(NamedTuple):
    """One piece of a source.

    Attributes
    ----------
    name : str
        For error messages and lists of what was skipped.
    read : callable
        Gives the reading, or those of all named arrays that the piece holds some of; called once,
        on whichever thread is free.
    place : float
        How far in the source its end is, in the unit of ``Source.size``.
    """

    name: str
    read: Callable[[], Reading | Sequence[Named]]
    place: float = 0.0


@dataclass(frozen=True, slots=True)
class Tally:
    """What a source saw of itself in a pass, to compare with what it should have been."""

    samples: int
    first: Sequence[bytes]


@dataclass(frozen=True)
class Source:
    """A data set to be read once.

    Attributes
    ----------
    name, kind : str
        For provenance.
    items : iterable of Item
        In a fixed order; made on the caller's thread.
    total : int or None
        Number of items where known beforehand.
    axis : callable
        Shape of an item -> its channel axis under ``channel_axis="auto"``.
    decoder : str
        Name and version of what turns files into numbers.
    ignored : int
        Files that were left out by their name.
    one_kind : bool
        Whether all items must be of one dtype, so that scales are never mixed.
    lasting : bool
        Whether an item stays as it is when the next one is made. A generator may fill one buffer
        again and again: its items are measured before it goes on.
    group : int
        Items that one thread takes at a time: small ones cost more to hand over than to read.
    pictures : bool
        Whether every item is one picture, shape (height, width, channels).
    single : bool
        Whether an item is one sample where that is asked for: an image, or a row of an array.
    drawn : (int, int) or None
        How many samples are read, of how many, where some were drawn.
    size : int
        Bytes of all files, where items say how far they are in them instead of being counted.
    mask : array, int, str or callable, optional
        What is to be counted, where the items do not say that already.
    audit : callable or None
        What a finished pass says about the source, as warnings.
    inputs : callable or None
        What the items are made of.
    once : str
        Why another pass would not give the same items, if so.
    rest : callable or None
        The items from a position on, where they can be had without those before.
    notes : Notes
        What the making of the items adds to: what is said of it at the end.
    """

    name: str
    kind: str
    items: Iterable[Item]
    total: int | None
    axis: Callable[[tuple[int, ...]], ChannelAxis]
    decoder: str = ""
    ignored: int = 0
    one_kind: bool = False
    lasting: bool = True
    group: int = 1
    pictures: bool = False
    single: bool = False
    drawn: tuple[int, int] | None = None
    size: int = 0
    mask: Any = None
    audit: Callable[[Tally], list[str]] | None = None
    inputs: Callable[[], Inputs] | None = None
    once: str = ""
    rest: Callable[[int], Iterable[Item]] | None = None
    notes: Notes = field(default_factory=Notes)

    def items_from(self, start: int) -> Iterable[Item]:
        """Return the items from a position on."""
        if start == 0:
            return self.items
        return islice(self.items, start, None) if self.rest is None else self.rest(start)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which part of a source to read, and how; see `streamnorm.compute`.

    Attributes
    ----------
    by_sample : int
        If not 0, an item is one sample; of a table, whose rows are one value a channel, so many
        rows.
    skips, copies : bool
        Whether what cannot be read is to be an item all the same; whether memory must be the
        reader's own, for a transform that keeps it.
    """

    channel_axis: Axes = "auto"
    select: Any = None
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    indices: Sequence[int] | None = None
    mode: str | None = None
    mask: Any = None
    nodata: Any = "auto"
    sample: int | None = None
    weigh: str = ""
    by_folder: bool = False
    by_sample: int = 0
    skips: bool = False
    copies: bool = False

    def refuse(self, kind: str, *names: str) -> None:
        """Refuse options that mean nothing for this kind of source.

        Raises
        ------
        ValueError
            Naming the option.
        """
        for name in names:
            given = getattr(self, name)
            # Not compared with `in`: an array of indices would compare element by element.
            if given is not None and not (isinstance(given, tuple) and not given):
                msg = f"{name}= does not apply to {kind}; choose the data before passing it"
                raise ValueError(msg)

    @property
    def missing_values(self) -> Any:
        """What else than a format declares means "nothing here": a number, or one per channel."""
        return None if isinstance(self.nodata, str) else self.nodata

    @property
    def declared(self) -> bool:
        """Whether what a format declares missing is left out."""
        return self.nodata is not None

    def axis(self, name: str | None, auto: Callable[[], ChannelAxis]) -> ChannelAxis:
        """Return the channel axis asked for, of the array of this name."""
        asked = self.channel_axis
        if isinstance(asked, Mapping):
            asked = asked.get(name or "", "auto")
        return auto() if isinstance(asked, str) else asked


def drawn(length: int, choice: Choice) -> list[int] | None:
    """Draw some of so many samples, always the same ones; None if all are to be read.

    Raises
    ------
    ValueError
        If there are fewer, or indices are given too.
    """
    if choice.sample is None:
        return None
    if choice.indices is not None:
        msg = "pass sample= or indices=, not both"
        raise ValueError(msg)
    if choice.sample > length:
        msg = f"sample={choice.sample} is more than the {length} that there are"
        raise ValueError(msg)
    chosen = np.random.default_rng(0).choice(length, choice.sample, replace=False)
    return sorted(chosen.tolist())


def auto_axis(shape: tuple[int, ...]) -> ChannelAxis:
    """Return the channel axis of a batch of this shape: 1 for 2-D, and for 4-D and up.

    Raises
    ------
    ValueError
        Where that would be a guess: 1-D, 3-D, and what looks like channels last.
    """
    if len(shape) not in (0, 1, 3):
        last, second = shape[-1], shape[1]
        if len(shape) == 4 and last in (1, 3, 4) and second not in (1, 3, 4):
            msg = (
                f"an array of shape {shape} looks like channels last; pass channel_axis=-1, or "
                f"channel_axis=1 if axis 1 really holds {second} channels"
            )
            raise ValueError(msg)
        return 1
    msg = (
        f"which axis of an array of shape {shape} holds the channels? pass channel_axis=, or "
        f"channel_axis=None for one channel over everything"
    )
    raise ValueError(msg)


def rows_per_item(
    shape: tuple[int, ...], axis: int, choice: Choice, values: int = ITEM_VALUES
) -> int:
    """Return how many indices along `axis` make an item: one sample, or about so many values."""
    if choice.by_sample:
        return choice.by_sample if len(shape) < 3 else 1
    size = math.prod(length for other, length in enumerate(shape) if other != axis)
    return max(1, values // max(size, 1))


def describe(array: Any) -> str:
    """Name an array for provenance."""
    return f"{type(array).__name__} of shape {shape_of(array)}"
