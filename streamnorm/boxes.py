"""Strides -> boxes: what a kernel reads in one go, as it lies in memory.

A box is `repeats` times `groups` times `rows` rows of `width` neighbouring values, and after the
last row of each group a shorter one, the tail. It fits two kinds of memory:

- long runs (NCHW, transposed tables): a group is a channel's run, cut into rows of one vector;
- short units (channels last, tables, small images): a row is a unit of all channels, or several
  of them side by side, so that few lanes of a vector stay empty.

Crops, steps along rows and channels taken out of pixels only change the steps, so they are read
where they are. Boxes are cut by size alone: what is measured never depends on threads.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["BOX", "BOX_VALUES", "MOST_TILE_ROWS", "Cut", "Sizes", "boxes_of"]

_FIELDS = (
    "start", "repeats", "repeat_step", "groups", "group_step", "rows", "row_step", "width", "tail",
    "period", "per", "channels", "first", "row", "each", "owners", "lines",
    "tile", "panels",
)  # fmt: skip
BOX = np.dtype([(name, np.int64) for name in _FIELDS])
"""Where a box lies, in values: `start`, counts and steps. Value j of a row of group g is of the
channel ``first + (g * width + j) % period // per``, or a gap if that is not one of `channels`.
Its result goes to row `row`; it holds `each` values of every channel. From `owners` on stands the
table that names the channel of every lane. It has `lines` lines (a line is a row, or the tail, of
every group), read `tile` rows at a time, and `panels` vectors side by side in all groups."""

BOX_VALUES = 1 << 18
MOST_BOX_VALUES = 1 << 20
_MANY_BOXES = 64
"""Values in a box: few, so that threads share small arrays well; more, up to four times as many, in
arrays that have many boxes. By size alone: a box's partial depends on the data, not on threads."""
_FEWEST_ROWS = 2048
_MOST_FEWEST_ROWS = 8192
_FEW_BOXES = 16
"""But at least this many of each channel, since its partial has 48 bytes and to close it has a
price; more, up to four times as many, in arrays that have more than a few such boxes."""
_SHORT_RUN = 256
"""Shorter runs of a channel are read side by side with the others: a tail would cost more."""
MOST_LANES = 4096
"""Lanes in a box, whose sums then stay in the second-level cache; wide tables are read in parts."""
_WIDEST_RUN = 1 << 16
"""Values in a row of a crop, for what they gather to stay small; wider ones are copied."""
_WIDEST_ROW = 512
"""Values in a row made of units side by side."""
TILE_LINES = 256
_FEWEST_TILE_ROWS = 8
MOST_TILE_ROWS = 254
"""Cache lines in a tile, and the bounds of its rows: a byte can count them, and a tail."""
_DENSE = 2
"""Units with gaps up to their own size are read together with the gaps: the cache lines are the
same."""

Axis = tuple[int, int]


class Sizes(NamedTuple):
    """How large a kernel wants its tiles and boxes; see `TILE_LINES` and `MOST_LANES`."""

    tile_lines: int
    most_lanes: int


class Cut(NamedTuple):
    """An array cut into boxes.

    Attributes
    ----------
    boxes : array of BOX, shape (B,)
    owners : array of int64
        Tables of the channel of every lane, counted within the box; -1 for lanes that have none.
    rows : int
        How many rows of results there are.
    """

    boxes: NDArray[np.void]
    owners: NDArray[np.int64]
    rows: int


@dataclass(frozen=True, slots=True)
class _Grid:
    """One whole array, described as one box."""

    channels: int
    repeats: Axis = (1, 0)
    groups: Axis = (1, 0)
    rows: Axis = (1, 0)
    width: int = 1
    tail: int = 0
    period: int = 1
    per: int = 1

    def each(self, length: int) -> int:
        """Values of each channel in a row, or tail, of `length` values of every group."""
        periods, rest = divmod(length, self.period)
        return periods * self.per + min(rest, self.per)


@lru_cache(maxsize=256)
def boxes_of(
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    outer: int,
    kept: int,
    lanes: int,
    sizes: Sizes | None = None,
) -> Cut | None:
    """Cut an arranged array into boxes.

    Parameters
    ----------
    shape, strides : tuple of int
        Of the array; strides in values, those of reduced axes not negative.
    outer, kept : int
        How many axes come before the kept ones, and how many are kept.
    lanes : int
        Values in a vector of the kernel.
    sizes : Sizes, optional
        Default: `TILE_LINES` and `MOST_LANES`.

    Returns
    -------
    Cut or None
        None if the array cannot be read where it lies. Without boxes if it holds no values.
    """
    sizes = sizes or Sizes(TILE_LINES, MOST_LANES)
    axes = list(zip(shape, strides, strict=True))
    if math.prod(shape) == 0:
        return Cut(np.empty(0, BOX), np.empty(0, np.int64), 0)
    channel = _joined(axes[outer : outer + kept]) or [(1, 0)]
    if len(channel) > 1:
        return None
    if channel[0][0] == 1:
        grid = _runs(1, 0, [], _joined([*axes[:outer], *axes[outer + kept :]]) or [(1, 1)], lanes)
    else:
        grid = _grid(channel[0], _joined(axes[:outer]), _joined(axes[outer + kept :]), lanes)
    values = min(max(BOX_VALUES, math.prod(shape) // _MANY_BOXES), MOST_BOX_VALUES)
    each = math.prod(shape) // math.prod(shape[outer : outer + kept])
    fewest = min(max(_FEWEST_ROWS, each // _FEW_BOXES), _MOST_FEWEST_ROWS)
    return None if grid is None else _cut(grid, lanes, values, fewest, sizes)


def _joined(axes: list[Axis]) -> list[Axis]:
    """Join neighbouring axes that are one in memory, and drop those of size 1."""
    joined: list[Axis] = []
    for size, step in axes:
        if size == 1:
            continue
        together = joined and joined[-1][1] == size * step
        joined.append((size * joined.pop()[0] if together else size, step))
    return joined


def _grid(channel: Axis, outer: list[Axis], inner: list[Axis], lanes: int) -> _Grid | None:
    channels, step = channel
    if step < 0:
        return None
    if not inner:
        return _units(channels, 1, outer, lanes) if step == 1 else None
    if len(inner) == 1 and inner[0] == (step, 1) and step < _SHORT_RUN:
        return _units(channels, step, outer, lanes)
    return _runs(channels, step, outer, inner, lanes)


def _runs(
    channels: int, step: int, outer: list[Axis], inner: list[Axis], lanes: int
) -> _Grid | None:
    """Read each channel's values along the inner axes."""
    if len(outer) > 1 or len(inner) > 2 + (not outer) or inner[-1][1] != 1:
        return None
    length, _ = inner[-1]
    repeats = outer[0] if outer else (inner[0] if len(inner) == 3 else (1, 0))
    grid = _Grid(channels, repeats, (channels, step))
    if len(inner) > 1:
        # All values of a row have lanes of their own.
        if length > _WIDEST_RUN:
            return None
        return replace(grid, rows=inner[-2], width=length, period=channels * length, per=length)
    width = min(lanes, length)
    return replace(
        grid, rows=(length // width, width), width=width, tail=length % width,
        period=channels * width, per=width,
    )  # fmt: skip


def _units(channels: int, per: int, outer: list[Axis], lanes: int) -> _Grid | None:
    """Read units of all channels, each with `per` values, along the outer axes."""
    unit = channels * per
    count, step = outer[-1] if outer else (1, unit)
    grid = _Grid(channels, period=unit, per=per)
    if not unit <= step <= _DENSE * unit:
        if len(outer) > 2:
            return None
        repeats = outer[0] if len(outer) == 2 else (1, 0)
        return replace(grid, repeats=repeats, rows=(count, step), width=unit)
    grid = replace(grid, period=step)
    span = (count - 1) * step + unit
    if len(outer) > 1 and span <= MOST_LANES:
        if len(outer) > 3:
            return None
        repeats = outer[0] if len(outer) == 3 else (1, 0)
        return replace(grid, repeats=repeats, rows=outer[-2], width=span)
    if len(outer) > 2:
        return None
    beside = max(1, min(lanes // math.gcd(step, lanes), _WIDEST_ROW // step))
    # A gap after the very last unit may lie outside of the memory: that unit goes to the tail.
    rows = (count - (step > unit)) // beside
    left = count - rows * beside
    return replace(
        grid,
        repeats=outer[0] if len(outer) == 2 else (1, 0),
        rows=(rows, beside * step),
        width=beside * step,
        tail=(left - 1) * step + unit if left else 0,
    )


def _cut(grid: _Grid, lanes: int, values: int, fewest: int, sizes: Sizes) -> Cut:
    """Cut into boxes of so many values, and `fewest` of each channel.

    They are ranges of channels, if there are many, of repeats and of rows.
    """
    most = _channels_in_a_box(grid, lanes, sizes.most_lanes)
    widest = _part(grid, 0, most)
    spans = _spans(grid, max(values, fewest * most), widest.groups[0] * widest.width)
    tile = _tile(widest, lanes, sizes.tile_lines)
    boxes = []
    tables: list[NDArray[np.int64]] = []
    table_of: dict[int, int] = {}
    for first in range(0, grid.channels, most):
        part = _part(grid, first, min(first + most, grid.channels))
        start = first * (grid.per if grid.groups[0] == 1 else grid.groups[1])
        if part.channels not in table_of:
            table_of[part.channels] = sum(table.size for table in tables)
            tables.append(_owners(part, lanes))
        for row, (repeats, rows, tail) in enumerate(spans):
            at = start + repeats.start * grid.repeats[1] + rows.start * grid.rows[1]
            each = len(repeats) * (len(rows) * part.each(part.width) + part.each(tail))
            boxes.append(
                (at, len(repeats), grid.repeats[1], *part.groups, len(rows), grid.rows[1],
                 part.width, tail, part.period, part.per, part.channels, first, row, each,
                 table_of[part.channels],
                 len(repeats) * (len(rows) + (tail > 0)), tile,
                 part.groups[0] * -(-part.width // lanes))
            )  # fmt: skip
    return Cut(np.array(boxes, BOX), np.concatenate(tables), len(spans))


def _tile(grid: _Grid, lanes: int, lines: int) -> int:
    """Return how many rows to read at a time, so that they stay in the cache."""
    fitting = lines * lanes // max(grid.width, lanes)
    return min(max(fitting, _FEWEST_TILE_ROWS), MOST_TILE_ROWS)


def _owners(grid: _Grid, lanes: int) -> NDArray[np.int64]:
    """Name the channel of every lane, -1 for lanes that have none or stand for values twice.

    Of several panels in a row the last reaches back, so that all its lanes are read from the row.
    """
    panels = -(-grid.width // lanes)
    place = np.arange(panels * lanes)
    own = place < grid.width
    if panels > 1:
        last = place >= (panels - 1) * lanes
        reach = panels * lanes - grid.width
        own = ~last | (place >= (panels - 1) * lanes + reach)
        place = np.where(last, place - reach, place)
    place = (np.arange(grid.groups[0])[:, None] * grid.width + place) % grid.period
    channel = place // grid.per
    return np.where(own & (channel < grid.channels), channel, -1).ravel()


def _channels_in_a_box(grid: _Grid, lanes: int, most_lanes: int) -> int:
    """Return how many channels to take at a time, so that what a box gathers stays in the cache."""
    run = grid.rows[0] * grid.width
    if grid.groups[0] > 1:
        # Runs that will be cut are long: a box takes few of them, so as to read far in each.
        values = BOX_VALUES // run if run * grid.groups[0] > BOX_VALUES else grid.channels
        most = max(1, min(values, most_lanes // (-(-grid.width // lanes) * lanes)))
    elif grid.channels * grid.per == grid.width and grid.width > most_lanes:
        most = max(1, most_lanes // grid.per)
    else:
        return grid.channels
    size = -(-grid.channels // -(-grid.channels // most))
    # Whole vectors, where a lane is a channel.
    return -(-size // lanes) * lanes if grid.groups[0] == 1 and grid.per == 1 else size


def _part(grid: _Grid, first: int, last: int) -> _Grid:
    """Return the grid of a range of channels."""
    size = last - first
    if size == grid.channels:
        return grid
    if grid.groups[0] > 1:
        groups = (size, grid.groups[1])
        return replace(grid, channels=size, groups=groups, period=size * grid.per)
    return replace(grid, channels=size, width=size * grid.per, period=size * grid.per)


def _spans(grid: _Grid, most: int, row: int) -> list[tuple[range, range, int]]:
    """Cut repeats and rows into pieces of at most `most` values, `row` of them in a row.

    Gives the repeats, the rows and the length of the tail of each piece.
    """
    repeats, rows = grid.repeats[0], grid.rows[0]
    one = max(1, rows * row + grid.tail * row // grid.width)
    if one <= most:
        return [(piece, range(rows), grid.tail) for piece in _evenly(repeats, most // one)]
    pieces = _evenly(rows, max(1, most // row)) or [range(0)]
    last = pieces[-1]
    return [
        (range(i, i + 1), piece, grid.tail if piece is last else 0)
        for i in range(repeats)
        for piece in pieces
    ]


def _evenly(size: int, most: int) -> list[range]:
    """Cut into the fewest pieces of at most `most`, about equally long: threads share them well."""
    step = -(-size // max(1, -(-size // most)))
    return [range(i, min(i + step, size)) for i in range(0, size, max(1, step))]
