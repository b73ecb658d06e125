"""How a contiguous array is dealt out to the programs of a GPU: by size alone.

A program reads tiles of `rows` times `width` values, one after the other, and sums each place of
the tile by itself; only at its end are the places put together. Three shapes serve all arrays:

- *runs* (NCHW): a row is a piece of one channel's run; all of a program is of one channel;
- *lanes* (tables, channels last): a row is a whole number of units of all channels, so that a place
  of it is always of the same channel, and rows begin where memory is aligned; or a part of a unit;
- *few* (RGB): the same, but a program puts the lanes of each channel together in the end. Where
  results are added by atomics, they would stand in each other's way.
"""

import math
from functools import lru_cache
from typing import NamedTuple

__all__ = ["FEW", "LANES", "RUNS", "Tiles", "tiles_of"]

RUNS, FEW, LANES = 0, 1, 2

TILE = 2048
"""Values in a tile: 16 of each of 128 threads, one load of 16 bytes in the narrowest dtype."""
BYTES = 1 << 20
"""A program reads: enough that its beginning and its end cost little, and so little that thousands
of programs share a gigabyte evenly."""
_PROGRAMS = 1024
"""Programs that a GPU wants at least: small arrays are dealt out in fewer tiles each."""
_SMALL = 1 << 16
"""Values of arrays that are read a unit a row: results of one lane need no merging."""
_SHORTEST_RUN = 8
"""Shorter runs are read side by side with the others."""
_MOST_FEW = 4
"""Channels that a program puts together one after the other."""
_ALIGNED = 16
FEW_WIDTHS, LANES_WIDTHS = (2048,), (256, 512)
"""Of rows of whole units. Where every lane gives a result, there should not be too many."""
_WIDTHS = (2048, 1024, 512, 256, 128, 64, 32, 16, 8)
_ROW = 24
"""What a row costs beside its places, in places."""


class Tiles(NamedTuple):
    """The deal for one (outer, channel, inner) shape.

    Attributes
    ----------
    kind : int
        `RUNS`, `LANES` or `FEW`.
    blocks : int
        Programs side by side: channels, one, or columns of lanes.
    chunks : int
        Programs one after the other.
    rows, width : int
        Of a tile; powers of two.
    per : int
        Rows that one run is cut into; 1 unless `RUNS`.
    used : int
        Places of a row, in all blocks: so far apart rows are, unless they are of `RUNS`.
    total : int
        Rows of all programs together.
    each : int
        Rows of a program.
    even : bool
        Whether all rows are full, but for the last unless they are of `RUNS`.
    parts : int
        Partial results of a channel, where every lane gives one.
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


@lru_cache(maxsize=1024)
def tiles_of(
    outer: int, channels: int, inner: int, itemsize: int, most_tiles: int, *, few: bool
) -> Tiles:
    """Deal out an array of this shape, which has values.

    A program gets at most so many tiles. `few` asks for that shape where channels are few.
    """
    most = min(most_tiles, BYTES // (TILE * itemsize))
    if inner >= _SHORTEST_RUN:
        width = _fitting(inner, widest=TILE if itemsize > 1 else 256)
        per = -(-inner // width)
        return _dealt(RUNS, channels, width, per, width, outer * per, inner % width == 0, 1, most)
    unit = channels * inner
    small = outer * unit <= _SMALL and not few
    if unit > LANES_WIDTHS[-1] // 2 or small:
        width = _fitting(unit, widest=512)
        return _dealt(LANES, -(-unit // width), width, 1, unit, outer, True, inner, most)
    kind = FEW if few and channels <= _MOST_FEW else LANES
    most = most if few else min(most_tiles, 2 * most)
    used = _aligned(unit, FEW_WIDTHS if kind == FEW else LANES_WIDTHS)
    rows = -(-outer * unit // used)
    return _dealt(kind, 1, _power(used), 1, used, rows, True, used // channels, most)


def _fitting(length: int, widest: int = TILE) -> int:
    """Return the width of the rows that cover a length at the least cost."""
    widths = [width for width in _WIDTHS if width <= widest]
    return min(widths, key=lambda width: -(-length // width) * (width + _ROW))


def _aligned(unit: int, widths: tuple[int, ...]) -> int:
    """Return a row of whole units that begins where memory is aligned and fills its width best.

    Of those that fill it alike the longest, but of those that fill it wholly the shortest.
    """
    step = math.lcm(unit, _ALIGNED)
    step = step if step <= widths[-1] else unit
    rows = [width // step * step for width in widths if width >= step]
    return max(rows, key=lambda used: (used / _power(used), -used))


def _power(length: int) -> int:
    """Return the power of two that holds a length."""
    return 1 << (length - 1).bit_length()


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
