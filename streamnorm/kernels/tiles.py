"""How a contiguous array is dealt out to the programs of a GPU: by size alone.

A program reads tiles of `rows` times `width` values, one after the other, and sums each place of
the tile by itself; only at its end are the places put together. Three shapes serve all arrays:

- *runs* (NCHW): a row is a piece of one channel's run; all of a program is of one channel;
- *lanes* (tables, channels last): a row is a whole number of units of all channels, so that a place
  of it is always of the same channel; a tile is so many places of some rows. 64 units of three
  channels are 3 times 64 places: rows begin where memory is aligned, and no place is left over. But
  small arrays are read a unit a row;
- *few* (RGB): the same, but a program puts the lanes of each channel together in the end. Where
  results are added by atomics, they would stand in each other's way.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["FEW", "LANES", "RUNS", "Shape", "Tiles", "inverse_of", "tiles_of"]

RUNS, FEW, LANES = 0, 1, 2

_PROGRAMS = 1024
"""Programs that a GPU wants at least: small arrays are dealt out in fewer tiles each."""
_SHORTEST_RUN = 8
"""Shorter runs are read side by side with the others."""
_MOST_FEW = 4
"""Channels that a program puts together one after the other."""
_WIDTHS = (2048, 1024, 512, 256, 128, 64, 32, 16, 8)
_WIDEST_UNIT = 512
_ROW = 24
"""What a row costs beside its places, in places."""
_STEP = 4
"""Tiles that a program reads at once: lanes of fewer are read a unit a row."""


class Shape(NamedTuple):
    """How a tile should be, and what a program that reads such tiles should have.

    Attributes
    ----------
    values : int
        Of a tile; a power of two.
    width : int
        The widest row.
    warps : int
        Groups of 32 threads.
    registers : int or None
        At most, of a thread.
    """

    values: int
    width: int
    warps: int = 4
    registers: int | None = None

    @property
    def options(self) -> dict[str, int]:
        """As Triton calls them."""
        most = {} if self.registers is None else {"maxnreg": self.registers}
        return {"num_warps": self.warps} | most


class Tiles(NamedTuple):
    """The deal for one (outer, channel, inner) shape.

    Attributes
    ----------
    kind : int
        `RUNS`, `LANES` or `FEW`.
    blocks : int
        Programs side by side: channels, or columns of lanes.
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
        Whether all rows are full, but for the last of all.
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


def tiles_of(
    outer: int, channels: int, inner: int, shapes: Mapping[int, Shape], most: int
) -> Tiles:
    """Deal out an array of this shape, which has values, to programs of at most so many values.

    `shapes` are those of every kind; without one for few channels these are lanes.
    """
    unit = channels * inner
    if inner >= _SHORTEST_RUN:
        shape = shapes[RUNS]
        width = _fitting(inner, shape.width)
        per = -(-inner // width)
        deal = Tiles(RUNS, channels, 0, 0, width, per, width, outer * per, 0, inner % width == 0, 1)
        return _dealt(deal, shape, most)
    kind = FEW if FEW in shapes and channels <= _MOST_FEW else LANES
    shape = shapes[kind]
    width = shape.width
    used = math.lcm(unit, width)
    if kind == LANES and outer * unit < _STEP * shape.values // width * used:
        width, used = _fitting(unit, min(_WIDEST_UNIT, shape.values)), unit
    rows = -(-outer * unit // used)
    blocks = -(-used // width)
    deal = Tiles(kind, blocks, 0, 0, width, 1, used, rows, 0, used % width == 0, used // channels)
    return _dealt(deal, shape, most)


def _fitting(length: int, widest: int) -> int:
    """Return the width of the rows that cover a length at the least cost."""
    widths = [width for width in _WIDTHS if width <= widest]
    return min(widths, key=lambda width: -(-length // width) * (width + _ROW))


def _dealt(deal: Tiles, shape: Shape, most: int) -> Tiles:
    """Share rows out among programs; `parts` of the deal are those of a row."""
    rows = shape.values // deal.width
    tiles = -(-deal.total // rows)
    each = min(most // shape.values, max(1, tiles * deal.blocks // _PROGRAMS))
    chunks = -(-tiles // each)
    return deal._replace(chunks=chunks, rows=rows, each=each * rows, parts=deal.parts * chunks)


def inverse_of(divisor: int) -> tuple[int, int]:
    """Return a factor and a shift that divide: ``n // divisor == n * factor >> shift``.

    For all n below 2**31, with a product below 2**63 (Granlund & Montgomery 1994, theorem 4.2). A
    GPU has no instruction for a division.
    """
    shift = 31 + (divisor - 1).bit_length()
    return -(-(1 << shift) // divisor), shift
