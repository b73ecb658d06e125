"""What the items of a source are made of, by which a change of it is noticed."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from streamnorm.meta import Contents
from streamnorm.sources.places import HERE, Place

__all__ = ["Inputs", "inputs_of"]

_LOOKED_INTO = 16
"""Files, evenly spread: to look into all would be to read the data twice."""
_LOOK = 4096
"""Bytes, in three places of a file."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the items of a source are made of.

    Attributes
    ----------
    sizes : list of (str, int)
        Names and sizes.
    looks : callable
        Gives, of some files, a digest of some of their bytes: a data set made anew may have equal
        sizes.
    ways : list of (str, str)
        How they are read, beyond what was asked for.
    """

    sizes: list[tuple[str, int]]
    looks: Callable[[], list[tuple[str, str]]] = list
    ways: list[tuple[str, str]] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """SHA-256 of names and sizes."""
        return _digest(self.sizes)

    @property
    def contents(self) -> Contents:
        """What provenance keeps of them, wherever they lie: names are those below their folder."""
        # Cut at a slash, so that no name is.
        common = os.path.commonprefix([name for name, _ in self.sizes])  # noqa: RUF071
        folder = common.rpartition("/")[0]
        sizes = [(name[len(folder) :].lstrip("/"), size) for name, size in self.sizes]
        first, last = (sizes[0][0], sizes[-1][0]) if sizes else ("", "")
        return Contents(len(sizes), first, last, _digest(sizes))


def _digest(sizes: Sequence[tuple[str, int]]) -> str:
    return hashlib.sha256(json.dumps(sizes).encode()).hexdigest()


def inputs_of(files: Sequence[str], place: Place = HERE, **ways: str | None) -> Inputs:
    """Return names and sizes of files, in their order, and a look into some of them.

    A file that cannot be read has the size -1.
    """
    sizes = [(file, place.size(file)) for file in files]
    looks = partial(_looks, sizes, place)
    return Inputs(sizes, looks, [(name, str(way)) for name, way in ways.items()])


def _looks(sizes: Sequence[tuple[str, int]], place: Place) -> list[tuple[str, str]]:
    looked = {len(sizes) * k // _LOOKED_INTO for k in range(_LOOKED_INTO)} if sizes else ()
    return [(sizes[at][0], _look(place, *sizes[at])) for at in sorted(looked)]


def _look(place: Place, name: str, size: int) -> str:
    """Return a digest of the beginning, the middle and the end of a file."""
    seen = hashlib.sha256()
    try:
        with place.open(name) as file:
            for start in (0, size // 2, max(0, size - _LOOK)):
                file.seek(start)
                seen.update(file.read(_LOOK))
    except (OSError, ValueError):
        return ""
    return seen.hexdigest()[:16]
