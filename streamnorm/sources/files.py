"""Formats that are read file by file: a generator of items becomes a source."""

from collections.abc import Callable, Iterator
from functools import partial

from streamnorm.layout import ChannelAxis
from streamnorm.sources.inputs import inputs_of
from streamnorm.sources.items import Choice, Item, Reading, Source
from streamnorm.sources.places import File, Files, Notes

__all__ = ["Items", "by_file", "in_file_order", "one_channel"]

Items = Callable[[File, Choice], Iterator[Item]]
"""Yields the pieces of one file in a fixed order; an item's `place` is its end, from 0 to 1."""


def by_file(
    items: Items,
    kind: str,
    axis: Callable[[tuple[int, ...]], ChannelAxis],
    *,
    one_kind: bool = False,
    single: bool = False,
) -> Callable[[Files, Choice], Source]:
    """Return what opens files of a format, given what yields the items of one.

    Parameters
    ----------
    items : callable
        See `Items`.
    kind : str
        What provenance calls them.
    axis, one_kind, single
        As in `Source`.
    """

    def opens(files: Files, choice: Choice) -> Source:
        choice.refuse(kind, "include", "exclude", "mode", "indices", "sample")
        notes = Notes()
        found, size = in_file_order(files, choice, items, notes)
        return Source(
            files.shown,
            kind,
            found,
            None,
            axis,
            ignored=files.ignored,
            one_kind=one_kind,
            single=single,
            size=size,
            mask=choice.mask,
            inputs=partial(inputs_of, files.names, files.place),
            notes=notes,
        )

    return opens


def one_channel(_: tuple[int, ...]) -> ChannelAxis:
    """Take everything for one channel."""
    return None


def in_file_order(
    files: Files, choice: Choice, items: Items, notes: Notes
) -> tuple[Iterator[Item], int]:
    """Return the items of all files, and the bytes of all, in which items say where they are."""
    sizes = [max(files.place.size(name), 0) for name in files.names]
    return _chained(files, choice, items, notes, sizes), sum(sizes)


def _chained(
    files: Files, choice: Choice, items: Items, notes: Notes, sizes: list[int]
) -> Iterator[Item]:
    before = 0
    arrays: list[str] = []
    for name, size in zip(files.names, sizes, strict=True):
        file = File(files.place, name, notes, arrays)
        try:
            for item in items(file, choice):
                yield item._replace(place=before + item.place * size)
        except ImportError:
            raise
        except Exception as error:
            # Whatever a library raises, the file gets named.
            msg = f"cannot read {name}: {error}"
            if not choice.skips:
                raise ValueError(msg) from error
            yield Item(name, partial(_raise, error), float(before + size))
        before += size


def _raise(error: Exception) -> Reading:
    raise error
