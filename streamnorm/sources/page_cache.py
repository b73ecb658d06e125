"""Pieces of files that the system has in memory already, seen where they are instead of copied."""

import mmap
import os
from pathlib import Path

__all__ = ["CachedFile"]

_LEAST = 1 << 20
"""Bytes of a piece: less is copied as quickly."""
_POPULATE = 22
"""Linux's MADV_POPULATE_READ, which Python does not name: all pages now, or an error."""


class CachedFile:
    """A file that may be in memory already.

    What has to be fetched is better read: large reads fetch faster than accesses do. To look takes
    as long as 1 MB of a fast disk, so the first piece that is not there ends it. What is seen is to
    be used at once: where somebody cuts the file off meanwhile the system ends the process.

    Parameters
    ----------
    path : Path
        The file.
    look : bool
        Whether anything is to be seen.
    """

    def __init__(self, path: Path, *, look: bool = True) -> None:
        self._path = path
        self._there = look and hasattr(os, "RWF_NOWAIT")

    def see(self, offset: int, size: int) -> memoryview | None:
        """Return a piece of the file; None if it is small, or not in memory.

        It may be written to: that changes a copy of its own.
        """
        if size < _LEAST or not self._there:
            return None
        start = offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        try:
            with self._path.open("rb") as file:
                for place in (offset, offset + size // 2, offset + size - 1):
                    self._look(file.fileno(), place)
                length = offset + size - start
                pages = mmap.mmap(file.fileno(), length, access=mmap.ACCESS_COPY, offset=start)
            pages.madvise(_POPULATE)
        except (OSError, ValueError):
            # Whatever it is, to read the file tells.
            self._there = False
            return None
        return memoryview(pages)[offset - start :]

    def _look(self, file: int, place: int) -> None:
        if os.preadv(file, [bytearray(1)], place, os.RWF_NOWAIT) != 1:
            msg = "the file is shorter than it was"
            raise OSError(msg)
