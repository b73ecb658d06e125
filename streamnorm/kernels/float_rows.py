"""The innermost loop over floats: rows of lanes -> sums of deviations and extremes per lane.

A row is one cache line, a panel a column of its lanes. What a panel gathers stands in one
(FIELDS, lanes) slice of `acc`; while rows are read it stays in registers: per value a subtraction,
an addition, a multiply-add and two comparisons. From memory that is as fast as reading
(docs/design.md, "Speed").

The sums of one call begin at zero and are then added to `acc`, so no sum grows over more than
`boxes.MOST_TILE_ROWS` values and one in a row. Nothing here is fastmath: lanes are summed in the
order written.
"""

from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from streamnorm.arrays import Array
from streamnorm.kernels.machine import JIT_OFF, LINE
from streamnorm.kernels.numbers import Halves, Plain, floats_of, numbers_of
from streamnorm.kernels.panels import Panel, over_panels
from streamnorm.kernels.vectors import Band, Vectors, Where, rows_of

__all__ = [
    "FIELDS",
    "HIGH",
    "LOW",
    "NANS",
    "NUMBERS",
    "ROWS",
    "S1",
    "S2",
    "SHIFT",
    "add_narrow_rows",
    "add_rows",
    "begin",
    "finish",
]

SHIFT, LOW, HIGH, S1, S2, NUMBERS, NANS, ROWS = range(8)
FIELDS = 8
"""Fields of `acc`: the shift; smallest and largest value; what is added up: ``x - shift`` and its
square; how many values are numbers, how many NaN. Where an extreme is infinite, the sums mean
nothing. Between `begin` and `finish` the extremes are of the type in which they are compared,
counts are 32-bit integers, NUMBERS tells how many values are no numbers or do not count, and ROWS,
in the first lane, how many rows there were."""

_BYTE = ir.IntType(8)
_F64 = ir.DoubleType()
_I64 = ir.IntType(64)


class _Sums:
    """What one call gathers in a panel, in registers.

    Values that count are taken to be numbers, or if it `checks` may be NaN, which are counted. An
    infinity is a number like others: the extremes tell of it, and nobody asks for the sums then.
    If `some` then some values of most rows do not count.
    """

    def __init__(
        self, words: Vectors, numbers: Plain | Halves, place: Panel, *, some: bool, checks: bool
    ) -> None:
        self.words = words
        self.numbers = numbers
        self.place = place
        self.shift = place.load(words.of(_F64), SHIFT)
        self.zero = words.constant(self.shift.type, 0.0)
        self.s1 = words.variable(self.zero)
        self.s2 = words.variable(self.zero)
        self.low = words.variable(place.load(numbers.compared, LOW))
        self.high = words.variable(place.load(numbers.compared, HIGH))
        # In bytes, which the rows of one call do not overflow.
        none = words.constant(words.of(_BYTE), 0)
        self.left_out = words.variable(none) if some or checks else None
        self.counted = words.variable(none) if checks else None

    def add(self, raw: Any, where: Where | None = None) -> None:
        builder = self.words.builder
        lanes = None
        if where is not None:
            lanes = where.lanes
            self.leave_out(where.others)
        if self.counted is not None:
            number = self.numbers.is_number(raw)
            lanes = number if lanes is None else builder.and_(lanes, number)
            less = builder.sext(lanes, self.words.of(_BYTE))
            self.words.update(self.counted, lambda n: builder.sub(n, less))
        self.add_deviations(raw, lanes)
        self.add_extremes(raw, lanes)

    def leave_out(self, others: Any) -> None:
        if self.left_out is None:
            self.place.count(others, NUMBERS)
        else:
            self.words.update(self.left_out, partial(self.words.builder.add, others))

    def add_deviations(self, raw: Any, where: Any) -> None:
        words, builder = self.words, self.words.builder
        deviation = self.numbers.deviation(raw, self.shift)
        if where is not None:
            deviation = builder.select(where, deviation, self.zero)
        words.update(self.s1, lambda s: builder.fadd(s, deviation))
        name = f"llvm.fmuladd.v{words.width}f64"
        words.update(self.s2, lambda s: words.call(name, s.type, [deviation, deviation, s]))

    def add_extremes(self, raw: Any, where: Any) -> None:
        numbers = self.numbers
        ordered = numbers.ordered(raw)
        self.words.update(self.low, lambda v: numbers.smaller(ordered, v), where)
        self.words.update(self.high, lambda v: numbers.larger(ordered, v), where)

    def end(self, rows: Any) -> None:
        place, builder = self.place, self.words.builder
        place.add(builder.load(self.s1), S1)
        place.add(builder.load(self.s2), S2)
        place.store(builder.load(self.low), LOW)
        place.store(builder.load(self.high), HIGH)
        place.count_rows(rows, ROWS)
        if self.left_out is None:
            return
        others = builder.load(self.left_out)
        if self.counted is not None:
            every = self.words.splat(builder.trunc(rows, _BYTE))
            numbers = builder.load(self.counted)
            place.count(builder.sub(builder.sub(every, others), numbers), NANS)
            others = builder.sub(every, numbers)
        place.count(others, NUMBERS)


def _begin(words: Vectors, numbers: Plain | Halves, place: Panel) -> None:
    place.store(numbers.highest, LOW)
    place.store(numbers.lowest, HIGH)
    place.clear(range(S1, FIELDS))


def _finish(words: Vectors, numbers: Plain | Halves, place: Panel) -> None:
    builder = words.builder
    for field in (LOW, HIGH):
        place.store(numbers.number(place.load(numbers.compared, field)), field)
    counts = words.of(ir.IntType(32))
    others, nans = (place.load(counts, field) for field in (NUMBERS, NANS))
    how_many = builder.sub(builder.trunc(place.rows(ROWS), counts), others)
    for count, field in ((how_many, NUMBERS), (nans, NANS)):
        place.store(builder.sitofp(count, words.of(_F64)), field)


def _words_of(context: Any, builder: Any, kind: Any) -> tuple[Vectors, Plain | Halves]:
    words = Vectors(context, builder, 8 * LINE // kind.bitwidth)
    return words, numbers_of(words, kind)


def _rows(*, narrow: bool) -> Any:
    """Build the intrinsic for rows of floats."""

    @intrinsic
    def add_rows(_: Any, x: Any, flip: Any, band: Any, mask: Any, omit: Any, acc: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data, _, lines, bytes_, _, sums = arguments
            words, numbers = _words_of(context, builder, x.dtype)
            masked, checks = mask != types.none, omit != types.none

            def gather(panel: Any) -> _Sums:
                place = Panel(words, sums, panel, FIELDS)
                return _Sums(words, numbers, place, some=narrow or masked, checks=checks)

            words.read(
                data, Band(*cgutils.unpack_tuple(builder, lines)), gather,  # type: ignore[no-untyped-call]
                bytes_ if masked else None, narrow=narrow,
                sweep=not (narrow or masked or checks) and isinstance(numbers, Plain),
            )  # fmt: skip
            return context.get_dummy_value()

        return types.void(x, flip, band, mask, omit, acc), generate

    return add_rows


def _add(raw: Array, valid: Array, place: Array) -> None:
    """Add rows of values where `valid`; the specification of all functions."""
    values = floats_of(raw)
    numbers = valid & ~np.isnan(values)
    with np.errstate(all="ignore"):
        d = np.where(numbers, values - place[SHIFT], 0.0)
        place[S1] += d.sum(0)
        place[S2] += (d * d).sum(0)
    place[LOW] = np.fmin(place[LOW], np.where(numbers, values, np.inf).min(0, initial=np.inf))
    place[HIGH] = np.fmax(place[HIGH], np.where(numbers, values, -np.inf).max(0, initial=-np.inf))
    place[NUMBERS] += numbers.sum(0)
    place[NANS] += (valid & ~numbers).sum(0)


def _add_plainly(
    x: Array, band: tuple[int, ...], mask: Array | None, omit: bool | None, acc: Array,
    *, narrow: bool,
) -> None:  # fmt: skip
    for panel, raw, valid in rows_of(x, Band(*band), mask, narrow=narrow):
        place = acc.reshape(-1, FIELDS, raw.shape[1])[panel]
        _add(raw, valid, place)
        if omit is None and not np.isfinite(floats_of(raw)[valid]).all():
            place[S2] = np.nan


def _begin_plainly(x: Array, acc: Array, panels: int) -> None:
    """Make all panels those of no values; their shifts stay."""
    place = acc.reshape(-1, FIELDS, LINE // x.itemsize)
    place[:, S1:] = 0.0
    place[:, LOW] = np.inf
    place[:, HIGH] = -np.inf


def _finish_plainly(x: Array, acc: Array, panels: int) -> None:
    """Do nothing: plain panels hold float64 all along."""


def _add_rows_plainly(
    x: Array, flip: int, band: tuple[int, ...], mask: Array | None, omit: bool | None, acc: Array
) -> None:
    """Add a band, a tuple as `vectors.Band` says, to panels of `acc`.

    `x`, `acc`, of shape (panels, FIELDS, lanes), and `mask`, of bytes at the same places as the
    values, are pointers. If `omit` is None, what counts is taken to be finite: if it is not, or a
    square overflows, then S2 is not finite either, or an extreme is infinite. Otherwise NaN are
    counted and left out. `flip` is for integers.
    """
    _add_plainly(x, band, mask, omit, acc, narrow=False)


def _add_narrow_rows_plainly(
    x: Array, flip: int, band: tuple[int, ...], mask: Array | None, omit: bool | None, acc: Array
) -> None:
    """Add as `add_rows` does rows of fewer values than lanes, to the first lanes."""
    _add_plainly(x, band, mask, omit, acc, narrow=True)


begin: Any = _begin_plainly if JIT_OFF else over_panels(_begin, _words_of, FIELDS)
finish: Any = _finish_plainly if JIT_OFF else over_panels(_finish, _words_of, FIELDS)
add_rows: Any = _add_rows_plainly if JIT_OFF else _rows(narrow=False)
add_narrow_rows: Any = _add_narrow_rows_plainly if JIT_OFF else _rows(narrow=True)
