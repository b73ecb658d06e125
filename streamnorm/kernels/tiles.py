"""How a contiguous array is dealt out to the programs of a GPU: by size alone.

A program reads tiles of `rows` times `width` values, one after the other, and sums each place of
the tile by itself; only at its end are the places put together. Three shapes serve all arrays:

- *runs* (NCHW): a row is a piece of one channel's run; all of a program is of one channel;
- *few* (RGB, channels last): a row is a whole number of units of all channels, so that a place is
  always of the same channel, and rows begin where memory is aligned;
- *lanes* (tables): a place of a row is of one channel, which has it in all rows.
"""

import math
from functools import lru_cache
from typing import NamedTuple

__all__ = ["FEW", "LANES", "RUNS", "Tiles", "tiles_of"]

RUNS, FEW, LANES = 0, 1, 2

TILE = 2048
"""Values in a tile: 16 of each of 128 threads, one load of 16 bytes in the narrowest dtype."""
_BYTES = 1 << 18
"""A program reads: enough that its beginning and its end cost little, and so little that thousands
of programs share a gigabyte evenly."""
MOST_TILES = 128
"""Places add up at most so many values, which a ladder of exact sums can hold."""
_PROGRAMS = 1024
"""Programs that a GPU wants at least: small arrays are dealt out in fewer tiles each."""
_SHORTEST_RUN = 8
"""Shorter runs are read side by side with the others."""
_MOST_FEW = 16
"""Channels that a program puts together one after the other."""
_ALIGNED = 16
_WIDTHS = (2048, 1024, 512, 256, 128, 64, 32, 16, 8)
_ROW = 24
"""What a row costs beside its places, in places."""


class Tiles(NamedTuple):
    """The deal for one (outer, channel, inner) shape.

    Attributes
    ----------
    kind : int
        `RUNS`, `FEW` or `LANES`.
    blocks : int
        Programs side by side: channels, one, or columns of lanes.
    chunks : int
        Programs one after the other.
    rows, width : int
        Of a tile; powers of two.
    per : int
        Rows that one run is cut into; 1 unless `RUNS`.
    used : int
        How much of a row's width is used; rows of `FEW` are so far apart.
    total : int
        Rows of all programs together.
    each : int
        Rows of a program.
    even : bool
        Whether all rows are full, but for the last of `FEW`.
    parts : int
        Partial results of a channel.
    """

    kind: int
    blocks: int
    chunks: int
    rows: int
    width: int
    per: int
    used: int
    total: int
    each: int
    even: bool
    parts: int


@lru_cache(maxsize=256)
def tiles_of(outer: int, channels: int, inner: int, itemsize: int) -> Tiles:
    """Deal out an array of this shape, which has values."""
    most = min(MOST_TILES, _BYTES // (TILE * itemsize))
    if inner >= _SHORTEST_RUN:
        width = _fitting(inner)
        per = -(-inner // width)
        return _dealt(RUNS, channels, width, per, width, outer * per, inner % width == 0, 1, most)
    unit = channels * inner
    if channels <= _MOST_FEW:
        used = _aligned(unit)
        width = 1 << (used - 1).bit_length()
        return _dealt(FEW, 1, width, 1, used, -(-outer * unit // used), True, 1, most)
    width = _fitting(unit, widest=512)
    blocks = -(-unit // width)
    return _dealt(LANES, blocks, width, 1, unit, outer, True, inner, most)


def _fitting(length: int, widest: int = TILE) -> int:
    """Return the width of the rows that cover a length at the least cost."""
    widths = [width for width in _WIDTHS if width <= widest]
    return min(widths, key=lambda width: -(-length // width) * (width + _ROW))


def _aligned(unit: int) -> int:
    """Return the longest row of whole units that begins where memory is aligned, if one does."""
    step = math.lcm(unit, _ALIGNED)
    step = step if step <= TILE else unit
    return max(width // step * step for width in _WIDTHS if width >= step and width >= TILE // 4)


def _dealt(
    kind: int, blocks: int, width: int, per: int, used: int, total: int, even: bool, sub: int,
    most: int,
) -> Tiles:  # fmt: skip
    rows = TILE // width
    tiles = -(-total // rows)
    each = min(most, max(1, tiles * blocks // _PROGRAMS))
    chunks = -(-tiles // each)
    return Tiles(
        kind, blocks, chunks, rows, width, per, used, total, each * rows, even, chunks * sub
    )
