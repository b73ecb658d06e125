"""Formats that are read file by file: a generator of items becomes a source."""

import fnmatch
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from streamnorm.layout import ChannelAxis
from streamnorm.masks import batch_mask
from streamnorm.sources.inputs import inputs_of
from streamnorm.sources.items import Choice, Item, Named, Reading, Source
from streamnorm.sources.places import File, Files, Notes

__all__ = [
    "Items",
    "by_file",
    "failed",
    "in_file_order",
    "one_channel",
    "read_now",
    "wanted",
    "wanted_of",
]

Items = Callable[[File, Choice], Iterator[Item]]
"""Yields the pieces of one file in a fixed order; an item's `place` is its end, from 0 to 1."""


def by_file(
    items: Items,
    kind: str,
    axis: Callable[[tuple[int, ...]], ChannelAxis],
    *,
    one_kind: bool = False,
    single: bool = False,
    named: bool = False,
    slices_masks: bool = False,
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
    named : bool
        Whether files hold arrays by name, of which select= takes some.
    slices_masks : bool
        Whether the items have their part of a mask that is given for the whole of every array.
    """

    def opens(files: Files, choice: Choice) -> Source:
        choice.refuse(kind, "mode", "indices", "sample", *(() if named else ("select",)))
        files = wanted_of(files, choice)
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
            mask=batch_mask(choice.mask) if slices_masks else choice.mask,
            inputs=partial(inputs_of, files.names, files.place),
            notes=notes,
        )

    return opens


def wanted(name: str, choice: Choice) -> bool:
    """Whether include= and exclude= leave a path."""
    included = not choice.include or any(_matches(name, glob) for glob in choice.include)
    return included and not any(_matches(name, glob) for glob in choice.exclude)


def _matches(name: str, glob: str) -> bool:
    """Match a path; a folder stands for what is below it, and ``**/`` for no folder too."""
    globs = (glob, glob.removeprefix("**/"), f"{glob.rstrip('/')}/*")
    return any(fnmatch.fnmatch(name, pattern) for pattern in globs)


def wanted_of(files: Files, choice: Choice) -> Files:
    """Return the files that include= and exclude= leave; the others are ignored.

    Raises
    ------
    ValueError
        If there are none.
    """
    names = [name for name in files.names if wanted(name, choice)]
    if not names:
        msg = f"no files in {files.shown} that include= and exclude= leave"
        raise ValueError(msg)
    return Files(files.place, names, files.shown, files.ignored + len(files.names) - len(names))


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
        some = False
        try:
            for item in items(file, choice):
                some = True
                yield item._replace(place=before + item.place * size)
        except ImportError:
            raise
        except Exception as error:
            # Whatever a library raises, the file gets named.
            msg = f"cannot read {name}: {error}"
            if not choice.skips:
                raise ValueError(msg) from error
            rest = ValueError(f"{error}; what was read of it before counts") if some else error
            yield Item(name, partial(failed, rest), float(before + size))
        before += size


def read_now(read: Callable[[], Reading | Sequence[Named]]) -> Callable[[], Any]:
    """Read at once, and return what gives what was read, or raises what that raised."""
    try:
        done = read()
    except Exception as error:  # noqa: BLE001 - whatever a library raises, the item gets named
        return partial(failed, error)
    return lambda: done


def failed(error: Exception) -> Reading:
    """Raise, as the reading of an item."""
    raise error
