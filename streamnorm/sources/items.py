"""What a source is: a name, and items in a fixed order, each read when its turn comes."""

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from streamnorm.arrays import shape_of
from streamnorm.layout import ChannelAxis

__all__ = [
    "DEVICE_ITEM_VALUES",
    "ITEM_VALUES",
    "Choice",
    "Inputs",
    "Item",
    "Reading",
    "Source",
    "Tally",
    "auto_axis",
    "describe",
    "inputs_of",
    "rows_per_item",
]


ITEM_VALUES = 1 << 21
"""Values in a slice of an array: enough to outweigh the handing over, little enough to stop at."""
_LOOKED_INTO = 16
"""Files, evenly spread: to look into all would be to read the data twice."""
_LOOK = 4096
"""Bytes, in three places of a file."""
DEVICE_ITEM_VALUES = 1 << 28
"""In a slice of a tensor on a device, where to start a kernel takes as long as to read millions."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One array read: a batch, its number of samples, and the changes that were made to it."""

    array: Any
    converted: tuple[str, ...] = ()
    samples: int = 0


@dataclass(frozen=True, slots=True)
class Item:
    """One piece of a source.

    Attributes
    ----------
    name : str
        For error messages and lists of what was skipped.
    read : callable
        Gives the array; called once, on whichever thread is free.
    """

    name: str
    read: Callable[[], Reading]


@dataclass(frozen=True, slots=True)
class Tally:
    """What a source saw of itself in a pass, to compare with what it should have been."""

    samples: int
    first: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the items of a source are made of, by which a change is noticed.

    Attributes
    ----------
    sizes : list of (str, int)
        Names and sizes.
    looks : list of (str, str)
        Of some files, a digest of some of their bytes: a data set made anew may have equal sizes.
    ways : list of (str, str)
        How they are read, beyond what was asked for.
    """

    sizes: list[tuple[str, int]]
    looks: list[tuple[str, str]] = field(default_factory=list)
    ways: list[tuple[str, str]] = field(default_factory=list)


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
    audit : callable or None
        What a finished pass says about the source, as warnings.
    inputs : callable or None
        What the items are made of.
    once : str
        Why another pass would not give the same items, if so.
    rest : callable or None
        The items from a position on, where they can be had without those before.
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
    audit: Callable[[Tally], list[str]] | None = None
    inputs: Callable[[], Inputs] | None = None
    once: str = ""
    rest: Callable[[int], Iterable[Item]] | None = None

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
    by_sample, skips, copies : bool
        Whether an item is one sample; whether what cannot be read is to be an item all the same;
        whether memory must be the reader's own, for a transform that keeps it.
    """

    select: Any = None
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    indices: Sequence[int] | None = None
    mode: str | None = None
    by_sample: bool = False
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
    size = math.prod(length for other, length in enumerate(shape) if other != axis)
    return 1 if choice.by_sample else max(1, values // max(size, 1))


def describe(array: Any) -> str:
    """Name an array for provenance."""
    return f"{type(array).__name__} of shape {shape_of(array)}"


def inputs_of(files: Sequence[str], root: str = "", **ways: str | None) -> Inputs:
    """Return names and sizes of files, in their order, and a look into some of them.

    A file that cannot be read has the size -1.
    """
    sizes = [(file, _size_of(os.path.join(root, file))) for file in files]
    looked = {len(files) * k // _LOOKED_INTO for k in range(_LOOKED_INTO)} if files else ()
    looks = [
        (files[at], _look(os.path.join(root, files[at]), sizes[at][1])) for at in sorted(looked)
    ]
    return Inputs(sizes, looks, [(name, str(way)) for name, way in ways.items()])


def _size_of(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def _look(path: str, size: int) -> str:
    """Return a digest of the beginning, the middle and the end of a file."""
    seen = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            for start in (0, size // 2, max(0, size - _LOOK)):
                file.seek(start)
                seen.update(file.read(_LOOK))
    except OSError:
        return ""
    return seen.hexdigest()[:16]
