"""Compiled kernel of exact sums: boxes of floats and of 32-bit integers -> integers on the grid.

Each channel has a window of exponents in which its values are expected, from those before. A box is
read in strips; what the lanes of a strip have gathered is added to the limbs of their channels, and
windows move. A panel with values outside of its windows is read again, while it is in the cache:
once to see what there is, and once for every window in which there is something. Since integers are
added, windows decide how fast it goes, and never what comes out.
"""

from typing import Any

import numpy as np

from streamnorm.arrays import Array
from streamnorm.kernels import records, walk
from streamnorm.kernels.compiled import jit, jit_part
from streamnorm.kernels.desk import clear, offer
from streamnorm.kernels.exact_panels import (
    ENTRY,
    FIELDS,
    HIGH,
    LARGEST,
    LOW,
    MINUS,
    NAN,
    OTHERS,
    PLUS,
    ROWS,
    SQUARES,
    SUMS,
    TOP,
    begin,
    finish,
)
from streamnorm.kernels.exact_rows import add_window, survey_rows, try_narrow_rows, try_rows
from streamnorm.kernels.helping import serve_by
from streamnorm.kernels.machine import (
    LINE,
    NEXT,
    atomic_add,
    keep,
    plain_floats,
    pointer,
    set_floats,
)
from streamnorm.kernels.records import (
    BIAS,
    COUNT,
    DEPTH,
    EXPONENT,
    FRACTION,
    LEAST_TOP,
    LIMBS,
    MOST_TOP,
    SQUARE_RUNGS,
    SUM_LIMBS,
    SUM_RUNGS,
    UNITS,
    WORDS,
    add_integer,
    carry_records,
    close_records,
    form_of,
    note_extremes,
    open_records,
)
from streamnorm.kernels.windows import NOWHERE

__all__ = ["measure_boxes", "serve"]

FIRST_LINES = 32
GROWTH = 4
MOST_LINES = 4096
MOST_ENTRIES = 1 << 18
"""Lines in the first strip of a box, for windows may not be known yet; how much longer each next
one is, up to so many lines; but in wide tables, where every line of every panel might be refused,
no more than so many entries."""
MARGIN = 1
"""How much higher than their largest value windows are set: the next may be larger."""
_UNSEEN = -(1 << 20)


@jit_part
def _top_above(magnitude: int, form: Any) -> int:
    """Return the smallest top of a window with nothing of a magnitude, or smaller, above it."""
    exponent = magnitude >> form[FRACTION]
    top: int = (exponent if exponent > 0 else 1) - form[BIAS] + 1
    return top


@jit_part
def _add_lane(
    acc: Any, place: int, lanes: int, top: int, words: Any, record: int, form: Any
) -> None:
    """Add what a lane has gathered in its window to the limbs of its channel."""
    start = record + LIMBS
    bottom = top - form[EXPONENT]
    field = place + SUMS * lanes
    unit = UNITS
    for _ in range(form[SUM_RUNGS]):
        add_integer(words, start, acc[field], bottom + form[unit])
        field += lanes
        unit += 1
    start += form[SUM_LIMBS]
    field = place + SQUARES * lanes
    for _ in range(form[SQUARE_RUNGS]):
        add_integer(words, start, acc[field], 2 * bottom + form[unit])
        field += lanes
        unit += 1


@jit_part
def _note_lane(acc: Any, place: int, lanes: int, lane: int, words: Any, record: int) -> None:
    """Count the values of a lane, and note its extremes."""
    at = place + lane
    words[record + COUNT] += acc[place + ROWS * lanes] - acc[at + OTHERS * lanes]
    note_extremes(words, record, acc[at + LOW * lanes], acc[at + HIGH * lanes])


@jit_part
def _add_by_windows(
    x: Any, band: Any, mask: Any, spare: Any, lanes: int, owners: Any, words: Any, seen: Any,
    form: Any,
) -> None:  # fmt: skip
    """Add rows of one panel, window after window; `owners` are those of its lanes."""
    survey_rows(x, band, mask, spare)
    for lane in range(lanes):
        channel = owners[lane]
        if channel < 0:
            spare[LARGEST * lanes + lane] = 0
            continue
        record = channel * form[WORDS]
        _note_lane(spare, 0, lanes, lane, words, record)
        for field, word in ((NAN, records.NAN), (PLUS, records.PLUS), (MINUS, records.MINUS)):
            words[record + word] += spare[field * lanes + lane]
        if spare[LARGEST * lanes + lane] > 0:
            top = _top_above(spare[LARGEST * lanes + lane], form) + MARGIN
            seen[channel] = max(seen[channel], top)
    left = np.empty(lanes, np.bool_)
    some = True
    while some:
        some = False
        for lane in range(lanes):
            magnitude = spare[LARGEST * lanes + lane]
            left[lane] = magnitude > 0
            some |= left[lane]
            above = _top_above(magnitude, form) - form[LEAST_TOP]
            # These windows lie side by side; a lane that is done has the lowest, for nothing.
            steps = -(-above // form[DEPTH]) if left[lane] and above > 0 else 0
            spare[TOP * lanes + lane] = form[LEAST_TOP] + steps * form[DEPTH]
        if some:
            begin(x, spare, 1)
            add_window(x, band, mask, spare)
            for lane in range(lanes):
                if left[lane]:
                    top = spare[TOP * lanes + lane]
                    _add_lane(spare, lane, lanes, top, words, owners[lane] * form[WORDS], form)


@jit_part
def _add_refused(
    x: Any, refused: Any, size: int, mask: Any, spare: Any, lanes: int, owners: Array, words: Any,
    seen: Any, form: Any,
) -> None:  # fmt: skip
    """Add the panels that are listed as refused."""
    # Not literals, of which Numba would compile versions of their own.
    one = np.int64(1)
    none = np.int64(0)
    for k in range(refused[0]):
        entry = 1 + k * ENTRY
        panel, start, step = refused[entry], refused[entry + 1], refused[entry + 2]
        own = owners[panel * lanes : (panel + 1) * lanes]
        rows, width = refused[entry + 3], refused[entry + 4]
        for part in range(2):
            if part == 1:
                start += rows * step
                width = refused[entry + 5]
                rows = one if width > 0 else none
            if rows > 0:
                band = (none, start, step, rows, width, one, none, none, size)
                _add_by_windows(x, band, mask, spare, lanes, own, words, seen, form)


_read = walk.reader(try_rows, try_narrow_rows)


@jit
def measure_boxes(
    x: Array, mask: Array | None, boxes: Array, owners: Array, turn: Array, flip: int,
    omit: None, rows: Array, desk: Array, worker: int,
) -> None:  # fmt: skip
    """Add boxes to the worker's row of records, and at last all rows to the first.

    Parameters are those of `streamnorm.kernels.floats.measure_boxes`, but for

    omit : None
        Every NaN is counted.
    rows : array of int64, shape (workers, C * words of a record)
        What stands in the first row is added to; the others are zeros.
    worker : int
        0 for whom the job belongs to, who merges; others only help.
    """
    offer(desk, (x, mask, boxes, owners, turn, rows), 0)
    mode = plain_floats()
    form = form_of(x)
    lanes = LINE // x.itemsize
    channels = rows.shape[1] // form[WORDS]
    open_records(pointer(rows[worker]), channels, form)
    tops = np.full(channels, form[LEAST_TOP])
    seen = np.full(channels, _UNSEEN)
    spare = np.zeros((FIELDS, lanes), np.int64)
    b = atomic_add(turn, NEXT, 1)
    while b < len(boxes):
        box = boxes[b]
        b = atomic_add(turn, NEXT, 1)
        first = box["first"]
        panels = box["panels"]
        own = owners[box["owners"] : box["owners"] + panels * lanes]
        words = pointer(rows[worker, first * form[WORDS] :])
        acc = np.empty((panels * FIELDS, lanes), np.int64)
        most = max(min(MOST_LINES, MOST_ENTRIES // panels), FIRST_LINES)
        # Not literals, of which Numba would compile versions of their own.
        start: Any = np.int64(0)
        length: Any = np.int64(FIRST_LINES)
        lines = box["lines"]
        refused = np.empty(1 + min(most, lines) * panels * ENTRY, np.int64)
        while start < lines:
            stop = min(start + length, lines)
            refused[0] = 0
            sums = pointer(acc)
            for k in range(panels * lanes):
                channel = own[k]
                top = tops[first + channel] if channel >= 0 else NOWHERE
                sums[(k // lanes * FIELDS + TOP) * lanes + k % lanes] = top
            begin(pointer(x), sums, panels)
            _read(
                box, start, stop, lanes, x.itemsize, x.size, pointer(x), 0, pointer(mask), False,
                (sums, pointer(refused)),
            )  # fmt: skip
            finish(pointer(x), sums, panels)
            for k in range(panels * lanes):
                channel = own[k]
                if channel >= 0:
                    place = k // lanes * FIELDS * lanes
                    lane = k % lanes
                    record = channel * form[WORDS]
                    _note_lane(sums, place, lanes, lane, words, record)
                    top = tops[first + channel]
                    _add_lane(sums, place + lane, lanes, top, words, record, form)
            _add_refused(
                pointer(x), pointer(refused), x.size, pointer(mask), pointer(spare), lanes, own,
                words, seen[first:], form,
            )  # fmt: skip
            start = stop
            length = min(GROWTH * length, most)
            for c in range(first, first + box["channels"]):
                if seen[c] != _UNSEEN:
                    tops[c] = min(max(seen[c], form[LEAST_TOP]), form[MOST_TOP])
                    seen[c] = _UNSEEN
        carry_records(words, 0, box["channels"], form)
        keep(acc)
        keep(refused)
    keep(spare)
    set_floats(mode)
    if worker == 0:
        clear(desk)
        close_records(rows, form)


serve = serve_by(measure_boxes, "exact_boxes")
