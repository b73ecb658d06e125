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

    What has to be fetched is better read: large reads fetch faster than accesses do, and what fails
    on the way is an error then, while an access could only end the process. To look takes as long
    as 1 MB of a fast disk, so the first piece that is not there ends it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._there = hasattr(os, "RWF_NOWAIT")

    def see(self, offset: int, size: int) -> memoryview | None:
        """Return a piece of the file; None if it is small, or not in memory."""
        if size < _LEAST or not self._there:
            return None
        start = offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        try:
            with self._path.open("rb") as file:
                self._look(file.fileno(), offset + size - 1)
                length = offset + size - start
                pages = mmap.mmap(file.fileno(), length, access=mmap.ACCESS_READ, offset=start)
            pages.madvise(_POPULATE)
        except (OSError, ValueError):
            # Whatever it is, to read the file tells.
            self._there = False
            return None
        return memoryview(pages)[offset - start :]

    def _look(self, file: int, last: int) -> None:
        if os.preadv(file, [bytearray(1)], last, os.RWF_NOWAIT) != 1:
            msg = "the file is shorter than it was"
            raise OSError(msg)
