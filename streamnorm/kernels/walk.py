"""Compiled: a box -> strips, what a row kernel reads in one go, in the order of memory."""

from collections.abc import Callable
from typing import Any

import numpy as np

from streamnorm.kernels.compiled import jit_part
from streamnorm.kernels.machine import LINE

__all__ = ["EDGE", "reader"]

AHEAD_BYTES = 10240
EDGE = np.arange(2 * LINE) >= LINE
"""A mask for strips without one. From its middle on all values count; from as many places before
it, the first lanes are left out."""


def reader(visit: Callable[..., None]) -> Any:
    """Compile a function that calls ``visit(context, lanes, strip)`` for every strip of some lines.

    `visit` is compiled into the loops: to call a function with arrays costs as much as 16 rows,
    and a table of strips as much as a tenth of the reading. `context` is what it needs, a tuple;
    a strip is a tuple too: which panel, where in memory, how far from row to row, how many rows,
    how many values of a row, from where to prefetch meanwhile, whether the values before it are of
    the same channel, so that they can be read with it and not be counted, and where its mask
    (`EDGE` if there is none) begins and how far it is from row to row.

    The last panel of a row reaches back into the one before rather than be partly empty: the lanes
    that stand for nothing new have no owner.
    """

    @jit_part
    def read(
        box: Any, start: int, stop: int, lanes: int, itemsize: int, masked: bool, context: Any
    ) -> None:
        rows = box["rows"]
        step = box["row_step"]
        lines = rows + (1 if box["tail"] > 0 else 0)
        tile = box["tile"]
        panels = box["panels"] // box["groups"]
        # A tile of one panel is a plain stream; of several, all of it is in use until its end.
        ahead = tile * step if panels > 1 else AHEAD_BYTES // itemsize
        for repeat in range(start // lines, -(-stop // lines)):
            end = stop - repeat * lines
            end = end if end < lines else lines
            for group in range(box["groups"]):
                base = box["start"] + repeat * box["repeat_step"] + group * box["group_step"]
                row = start - repeat * lines
                row = row if row > 0 else 0
                while row < end:
                    taken = 1
                    if row < rows:
                        taken = (end if end < rows else rows) - row
                        taken = taken if taken < tile else tile
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
                        filled = width - column
                        filled = filled if filled < lanes else lanes
                        panel = group * panels + p
                        spare = row == rows and rows > 0 and box["per"] == box["width"]
                        begin = at + column if masked else LINE - (lanes - filled) * spare
                        stride = step if masked else 0
                        strip = (
                            panel, at + column, step, taken, filled, fetch, spare, begin, stride
                        )  # fmt: skip
                        visit(context, lanes, strip)
                        share += taken
                        while share >= panels:
                            share -= panels
                            line += step
                    row += taken

    return read
