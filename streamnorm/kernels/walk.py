"""Compiled: a box -> bands, what a row kernel reads in one go, in the order of memory."""

from collections.abc import Callable
from typing import Any

import numpy as np

from streamnorm.kernels.compiled import jit_inner
from streamnorm.kernels.vectors import AHEAD_BYTES, SWEPT_PANELS

__all__ = ["reader"]

SWEPT_AHEAD_BYTES = 32768
"""How far ahead to ask for memory in wide rows that are swept."""


def reader(add: Callable[..., None], add_narrow: Callable[..., None]) -> Any:
    """Compile a function that hands lines `start` to `stop` of a box on, band by band.

    They go to ``add(x, flip, band, mask, omit, acc)``, or to `add_narrow` if rows have fewer values
    than lanes. Of `band` see `streamnorm.kernels.vectors.Band`.

    Rather than be partly empty, the last of several panels reaches back into the one before (its
    lanes that stand for nothing new have no owner), and the tail of a run into the row before it,
    whose values are of the same channel.
    """

    @jit_inner
    def read(
        box: Any, start: int, stop: int, lanes: int, itemsize: int, size: int, x: Any, flip: int,
        mask: Any, omit: bool | None, acc: Any,
    ) -> None:  # fmt: skip
        one = np.int64(1)
        none = np.int64(0)
        rows = box["rows"]
        step = box["row_step"]
        width = box["width"]
        tail = box["tail"]
        lines = rows + (one if tail > 0 else none)
        panels = box["panels"] // box["groups"]
        # A tile of one panel is a plain stream; of several, all of it is in use until its end.
        tile = box["tile"]
        ahead = tile * step if panels > 1 else AHEAD_BYTES // itemsize
        if mask is None and omit is None and itemsize >= 4 and panels >= SWEPT_PANELS:
            tile = rows
            ahead = step * (1 + SWEPT_AHEAD_BYTES // (itemsize * width))
        run = box["per"] == width and rows > 0
        for repeat in range(start // lines, -(-stop // lines)):
            end = stop - repeat * lines
            end = end if end < lines else lines
            for group in range(box["groups"]):
                base = box["start"] + repeat * box["repeat_step"] + group * box["group_step"]
                panel = group * panels
                row = start - repeat * lines
                row = row if row > 0 else none
                while row < end:
                    at = base + row * step
                    taken = (end if end < rows else rows) - row
                    taken = taken if taken < tile else tile
                    row += taken
                    behind = tail if row == rows and end > rows and (run or taken == 0) else none
                    row += one if behind > 0 else none
                    length = width
                    if behind > 0 and not run:
                        length, behind, taken = behind, none, one
                    whole = length == width and length >= lanes
                    full = panels if whole else length // lanes
                    if full > 0:
                        last = (width if whole else full * lanes) - lanes
                        band = (panel, at, step, taken, behind, full, last, ahead, size)
                        add(x, flip, band, mask, omit, acc)
                    if not whole and length > full * lanes:
                        column = full * lanes
                        if panels > 1 and full == panels - 1:
                            column = width - lanes
                        at += column
                        length -= column
                        band = (panel + full, at, step, taken, length, one, none, ahead, size)
                        add_narrow(x, flip, band, mask, omit, acc)

    return read
