"""Where files are: on this machine, or behind a URL that fsspec opens."""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from streamnorm.sources.needs import needed

__all__ = ["HERE", "File", "Files", "Notes", "Place", "is_hidden", "is_url", "place_of"]


@dataclass(frozen=True, slots=True)
class Place:
    """A folder, or all of a file system, whose files are opened by their names below it.

    Attributes
    ----------
    root : str
        The folder; "" where names are whole paths or URLs.
    system : fsspec file system, optional
        None is this machine.
    """

    root: str = ""
    system: Any = None

    def path(self, name: str) -> str:
        """Return the whole path or URL of a file."""
        if self.system is None:
            return os.path.join(self.root, name)
        return f"{self.root.rstrip('/')}/{name}" if self.root else name

    def open(self, name: str) -> BinaryIO:
        """Open a file to read its bytes; whoever opens closes."""
        path = self.path(name)
        return open(path, "rb") if self.system is None else self.system.open(path, "rb")

    def read(self, name: str) -> bytes:
        """Return all bytes of a file."""
        with self.open(name) as file:
            return file.read()

    def size(self, name: str) -> int:
        """Return the bytes of a file, -1 where it cannot be asked."""
        path = self.path(name)
        try:
            return os.stat(path).st_size if self.system is None else int(self.system.size(path))
        except (OSError, TypeError):
            return -1

    def exists(self, name: str) -> bool:
        """Whether there is a file or folder of this name."""
        path = self.path(name)
        return os.path.exists(path) if self.system is None else bool(self.system.exists(path))

    def is_folder(self, name: str) -> bool:
        """Whether it is a folder."""
        path = self.path(name)
        return os.path.isdir(path) if self.system is None else bool(self.system.isdir(path))

    def matching(self, pattern: str) -> list[str]:
        """Return what a glob matches, sorted."""
        if not glob.has_magic(pattern):
            return []
        if self.system is None:
            return sorted(glob.glob(pattern, recursive=True))
        return sorted(map(self.system.unstrip_protocol, self.system.glob(pattern)))

    def walk(self) -> Iterator[str]:
        """Yield every file below the root, by its path from there; a linked folder once."""
        if self.system is not None:
            root = self.system._strip_protocol(self.root).rstrip("/")  # noqa: SLF001 - fsspec's way
            for path in self.system.find(root):
                yield path[len(root) :].lstrip("/")
            return
        seen = set()
        for parent, folders, files in os.walk(self.root, followlinks=True, onerror=_raise):
            status = os.stat(parent)
            if (status.st_dev, status.st_ino) in seen:
                folders.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            folders.sort()
            inside = os.path.relpath(parent, self.root)
            for name in files:
                yield os.path.normpath(os.path.join(inside, name))


HERE = Place()


@dataclass(slots=True)
class Notes:
    """What is found out about a source while its items are made.

    Attributes
    ----------
    warnings : list of str
        To be given at the end.
    ignored : int
        Pieces inside of files that are no data: members, coordinates.
    common : dict
        What the first file has, and all must have.
    """

    warnings: list[str] = field(default_factory=list)
    ignored: int = 0
    common: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class File:
    """One file of a source, and what all its files share.

    Attributes
    ----------
    place : Place
    name : str
    notes : Notes
    arrays : list of str
        Names of the arrays in the first file, once they are known.
    """

    place: Place
    name: str
    notes: Notes = field(default_factory=Notes)
    arrays: list[str] = field(default_factory=list)

    @property
    def path(self) -> str:
        """The whole path or URL."""
        return self.place.path(self.name)

    @property
    def local(self) -> bool:
        """Whether other libraries can open its path themselves."""
        return self.place.system is None

    def open(self) -> BinaryIO:
        """Open it to read its bytes; whoever opens closes."""
        return self.place.open(self.name)

    def agrees(self, what: str, value: Any) -> None:
        """Say something that must be the same in all files of a source.

        Raises
        ------
        ValueError
            If it was something else in the first file.
        """
        first = self.notes.common.setdefault(what, value)
        if value != first:
            msg = f"{what}: {value}, but {first} in the first file; measure them apart"
            raise ValueError(msg)

    def holds(self, arrays: Sequence[str]) -> None:
        """Say which named arrays are read from it: from all files of a source the same.

        Raises
        ------
        ValueError
            If the first file had others.
        """
        if not self.arrays:
            self.arrays.extend(arrays)
        elif set(arrays) != set(self.arrays):
            here = [name for name in arrays if name not in self.arrays]
            lost = [name for name in self.arrays if name not in arrays]
            what = [f"also {', '.join(here)}"] * bool(here) + [f"no {', '.join(lost)}"] * bool(lost)
            msg = f"it holds {' and '.join(what)}, other than the first file; pass select="
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Files:
    """The files of a source, in their order.

    Attributes
    ----------
    place : Place
    names : list of str
    shown : str
        What they are called together.
    ignored : int
        Files beside them that were left out by their names.
    """

    place: Place
    names: list[str]
    shown: str
    ignored: int = 0


def is_hidden(name: str) -> bool:
    """Whether a file below a folder is the system's, not the user's, by a part of its path.

    ``._photo.jpg``, ``.ipynb_checkpoints/photo.jpg``, ``__MACOSX/photo.jpg``.
    """
    parts = name.replace(os.sep, "/").split("/")
    return any(part == "__MACOSX" or part.startswith(".") for part in parts)


def is_url(path: str) -> bool:
    """Whether a path is a URL, such as ``s3://bucket/folder`` or ``memory://file``."""
    return "://" in path


def place_of(path: str) -> tuple[Place, str]:
    """Return where a path or URL leads, and its name there.

    Raises
    ------
    ImportError
        If it is a URL, and fsspec or what it needs for its protocol is not installed.
    """
    if not is_url(path):
        return HERE, path
    fsspec = needed("fsspec", "cloud", f"the URL {path}")
    system, inner = fsspec.core.url_to_fs(path)
    if "file" in system.protocol:
        return HERE, inner
    return Place(system=system), path


def _raise(error: OSError) -> None:
    raise error
