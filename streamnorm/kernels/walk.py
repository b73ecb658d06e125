"""Compiled: a box -> strips, what a row kernel reads in one go, in the order of memory."""

from collections.abc import Callable
from typing import Any

import numpy as np

from streamnorm.arrays import Array
from streamnorm.kernels.compiled import jit, jit_inner
from streamnorm.kernels.machine import LINE, item

__all__ = ["EDGE", "gathered", "lines_of", "owners_of", "reader", "tile_rows"]

TILE_BYTES = 1 << 14
"""Rows are taken in tiles that stay in the first-level cache from one panel to the next."""
AHEAD_BYTES = 10240
FEWEST_ROWS = 16
MOST_ROWS = 256
EDGE = np.arange(2 * LINE) >= LINE
"""A mask that leaves the first lanes out: the ones before as many places from its middle."""


@jit
def lines_of(box: Any) -> Any:
    """Return how many lines a box has: a line is a row, or the tail, of every group."""
    return box["repeats"] * (box["rows"] + (1 if box["tail"] > 0 else 0))


@jit
def tile_rows(box: Any, lanes: int, itemsize: int) -> Any:
    """Return how many rows to read at a time."""
    fitting = TILE_BYTES // (max(box["width"], lanes) * itemsize)
    return min(max(fitting, FEWEST_ROWS), MOST_ROWS)


def reader(visit: Callable[..., None]) -> Any:
    """Compile a function that calls ``visit(context, lanes, strip)`` for every strip of some lines.

    `visit` is compiled into the loops: to call a function with arrays costs as much as 16 rows,
    and a table of strips as much as a tenth of the reading. `context` is what it needs, a tuple;
    a strip is a tuple too: which panel, where in memory, how far from row to row, how many rows,
    how many values of a row, from where to prefetch meanwhile, and whether the values before it
    are of the same channel, so that they can be read with it and not be counted.

    The last panel of a row reaches back into the one before rather than be partly empty: the lanes
    that stand for nothing new have no owner.
    """

    @jit_inner
    def read(box: Any, start: int, stop: int, lanes: int, itemsize: int, context: Any) -> None:
        rows = box["rows"]
        step = box["row_step"]
        lines = rows + (1 if box["tail"] > 0 else 0)
        tile = tile_rows(box, lanes, itemsize)
        panels = -(-box["width"] // lanes)
        # A tile of one panel is a plain stream; of several, all of it is in use until its end.
        ahead = tile * step if panels > 1 else AHEAD_BYTES // itemsize
        for repeat in range(start // lines, -(-stop // lines)):
            end = min(stop - repeat * lines, lines)
            for group in range(box["groups"]):
                base = box["start"] + repeat * box["repeat_step"] + group * box["group_step"]
                row = max(start - repeat * lines, 0)
                while row < end:
                    taken = min(tile, min(end, rows) - row) if row < rows else 1
                    width = box["width"] if row < rows else box["tail"]
                    at = base + row * step
                    # Shares of the next tile in the order of memory: the processor then sees one
                    # stream and not one per row.
                    line = at + ahead
                    share = 0
                    for p in range(-(-width // lanes)):
                        column = p * lanes
                        if row < rows and lanes < width < column + lanes:
                            column = width - lanes
                        fetch = line + share * lanes
                        filled = min(lanes, width - column)
                        panel = group * panels + p
                        spare = row == rows and rows > 0 and box["per"] == box["width"]
                        strip = (panel, at + column, step, taken, filled, fetch, spare)
                        visit(context, lanes, strip)
                        share += taken
                        while share >= panels:
                            share -= panels
                            line += step
                    row += taken

    return read


@jit
def gathered(x: Any, mask: Any, masked: bool, lanes: int, strip: Any) -> Any:
    """Copy the rows of a strip of fewer values than lanes; values and which of them count."""
    _, at, step, rows, width, _, _ = strip
    values = np.zeros(rows * lanes, np.asarray(item(x, at)).dtype)
    valid = np.zeros(rows * lanes, np.bool_)
    for r in range(rows):
        for j in range(width):
            i = at + r * step + j
            values[r * lanes + j] = item(x, i)
            valid[r * lanes + j] = not masked or item(mask, i)
    return values, valid


@jit
def owners_of(box: Any, lanes: int) -> Array:
    """Find the channel of every lane, shape (panels, lanes); -1 for lanes that hold none."""
    panels = -(-box["width"] // lanes)
    reach = panels * lanes - box["width"] if panels > 1 else 0
    owners = np.full((box["groups"] * panels, lanes), -1, np.int64)
    c = 0
    inside = 0
    place = 0
    for group in range(box["groups"]):
        for j in range(box["width"]):
            if c < box["channels"]:
                p = j // lanes
                lane = j % lanes + (reach if p == panels - 1 else 0)
                owners[group * panels + p, lane] = c
            inside += 1
            place += 1
            if inside == box["per"]:
                inside = 0
                c += 1
            if place == box["period"]:
                inside = 0
                place = 0
                c = 0
    return owners
