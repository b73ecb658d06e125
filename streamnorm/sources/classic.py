"""How long a NetCDF file of a classic format (CDF-1, -2, -5) must be, by its header.

The NetCDF library reads zeros beyond the end of such a file. The layout is that of "The NetCDF
Classic Format Specification" (Unidata).
"""

from dataclasses import dataclass
from math import prod
from typing import IO

__all__ = ["length_of_classic"]

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8, 7: 1, 8: 2, 9: 4, 10: 8, 11: 8}
"""Bytes of a value, by the number of its type."""
_STREAMING = -1


@dataclass(frozen=True)
class _Header:
    """A header, read from its first byte on."""

    stream: IO[bytes]
    version: int

    def whole(self, size: int) -> int:
        return int.from_bytes(self.stream.read(size), "big", signed=True)

    def number(self) -> int:
        return self.whole(8 if self.version == 5 else 4)

    def listed(self) -> range:
        """Return the places in a list, once its tag is read."""
        self.whole(4)
        return range(self.number())

    def skip(self, size: int) -> None:
        self.stream.seek(size + -size % 4, 1)

    def skip_attributes(self) -> None:
        for _ in self.listed():
            self.skip(self.number())
            size = _SIZES.get(self.whole(4), 1)
            self.skip(size * self.number())


def length_of_classic(stream: IO[bytes]) -> int:
    """Return how many bytes a file of a classic format needs for its values; 0 of another format.

    Parameters
    ----------
    stream : file
        Open for bytes, at its start.
    """
    magic = stream.read(4)
    if magic[:3] != b"CDF" or magic[3] not in (1, 2, 5):
        return 0
    header = _Header(stream, magic[3])
    records = header.number()
    lengths = []
    for _ in header.listed():
        header.skip(header.number())
        lengths.append(header.number())
    header.skip_attributes()
    ends, steps = [0], []
    for _ in header.listed():
        header.skip(header.number())
        shape = [lengths[header.number()] for _ in range(header.number())]
        header.skip_attributes()
        size = _SIZES.get(header.whole(4), 1)
        header.number()
        begin = header.whole(4 if header.version == 1 else 8)
        # A length of 0 is that of the dimension along which records follow each other.
        if shape[:1] == [0]:
            steps.append((begin, size * prod(shape[1:])))
        else:
            ends.append(begin + size * prod(shape))
    if records > 0 and records != _STREAMING:
        # A single variable of records is not padded to four bytes.
        step = sum(each + (-each % 4 if len(steps) > 1 else 0) for _, each in steps)
        ends += [begin + (records - 1) * step + each for begin, each in steps]
    return max(ends)
