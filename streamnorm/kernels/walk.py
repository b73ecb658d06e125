"""Compiled: a box -> strips, what a row kernel reads in one go, in the order of memory."""

from collections.abc import Callable
from typing import Any

import numpy as np

from streamnorm.kernels.compiled import jit_inner
from streamnorm.kernels.machine import LINE, pointer

__all__ = ["lines_of", "mask_of", "panels_of", "reader", "tile_rows"]

TILE_BYTES = 1 << 14
"""Rows are taken in tiles that stay in the first-level cache from one panel to the next."""
AHEAD_BYTES = 10240
FEWEST_ROWS = 16
MOST_ROWS = 256
EDGE = np.arange(2 * LINE) >= LINE
"""A mask that leaves the first lanes out: the ones before as many places from its middle."""


@jit_inner
def panels_of(box: Any, lanes: int) -> Any:
    """Return how many panels of `lanes` lanes the rows of all groups take."""
    return box["groups"] * -(-box["width"] // lanes)


@jit_inner
def lines_of(box: Any) -> Any:
    """Return how many lines a box has: a line is a row, or the tail, of every group."""
    return box["repeats"] * (box["rows"] + (1 if box["tail"] > 0 else 0))


@jit_inner
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


@jit_inner
def mask_of(mask: Any, masked: bool, lanes: int, strip: Any) -> Any:
    """Return the mask of a strip: where it is, from which value on, and its step from row to row.

    Without a mask all values of the strip count, and none of those read with it.
    """
    _, at, step, _, width, _, spare = strip
    if masked:
        return mask, at, step
    return pointer(EDGE), LINE - (lanes - width if spare else 0), 0
