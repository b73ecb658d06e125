"""Compiled: a box -> strips, what a row kernel reads in one go, in the order of memory."""

from collections.abc import Callable
from typing import Any

import numpy as np

from streamnorm.kernels.compiled import jit_inner
from streamnorm.kernels.machine import LINE

__all__ = ["EDGE", "reader"]

AHEAD_BYTES = 10240
EDGE = np.arange(2 * LINE) >= LINE
"""A mask for strips without one. From its middle on all values count; from as many places before
it, the first lanes are left out."""


def reader(visit: Callable[..., None]) -> Any:
    """Compile a function that calls ``visit(context, lanes, strip)`` for every strip of some lines.

    `context` is what `visit` needs, a tuple. A strip is a tuple too: which panel, where in memory,
    how far from row to row, how many rows, how many values of a row, from where to prefetch
    meanwhile, whether every value counts, and where the mask (`EDGE` if there is none) begins and
    how far it is from row to row.

    Rather than be partly empty, the last of several panels reaches back into the one before, in
    rows and tails alike (its lanes that stand for nothing new have no owner), and the tail of a run
    into the row before it, whose values are of the same channel and are masked out.
    """

    @jit_inner
    def read(
        box: Any, start: int, stop: int, lanes: int, itemsize: int, masked: bool, context: Any
    ) -> None:
        rows = box["rows"]
        step = box["row_step"]
        lines = rows + (1 if box["tail"] > 0 else 0)
        tile = box["tile"]
        panels = box["panels"] // box["groups"]
        # A tile of one panel is a plain stream; of several, all of it is in use until its end.
        run = rows > 0 and box["per"] == box["width"]
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
                        if p > 0 and p == panels - 1:
                            column = box["width"] - lanes
                        filled = width - column
                        filled = filled if filled < lanes else lanes
                        begin = at + column if masked else LINE
                        stride = step if masked else 0
                        if filled < lanes and not masked and run and row == rows:
                            begin = LINE - (lanes - filled)
                            column -= lanes - filled
                            filled = lanes
                        fetch = line + share * lanes
                        plain = begin == LINE and not masked and filled == lanes
                        strip = (
                            group * panels + p, at + column, step, taken, filled, fetch, plain,
                            begin, stride,
                        )  # fmt: skip
                        visit(context, lanes, strip)
                        share += taken
                        while share >= panels:
                            share -= panels
                            line += step
                    row += taken

    return read
