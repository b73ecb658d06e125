"""The innermost loop over floats: rows of lanes -> sums of deviations and extremes per lane.

A row is one cache line, a panel a column of its lanes. What a panel gathers stands in one
(FIELDS, lanes) slice of `acc`; while rows are read it stays in registers: per value a subtraction,
an addition, a multiply-add and two comparisons. From memory that is as fast as reading
(docs/design.md, "Speed").

The sums of one call begin at zero and are then added to `acc`, so no sum grows over more than
`boxes.MOST_TILE_ROWS` values and one in a row. Nothing here is fastmath: lanes are summed in the
order written.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from streamnorm.arrays import Array
from streamnorm.kernels.machine import JIT_OFF, LINE
from streamnorm.kernels.numbers import Halves, Plain, numbers_of
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
counts are 32-bit integers, NUMBERS tells how many values are none, and ROWS, in the first lane, how
many rows there were."""

_BYTE = ir.IntType(8)
_F64 = ir.DoubleType()
_I32 = ir.IntType(32)
_I64 = ir.IntType(64)


class _Panel:
    """The fields of one panel in memory."""

    def __init__(self, words: Vectors, data: Any, panel: Any) -> None:
        self.words = words
        self.data = data
        self.start = words.builder.mul(panel, _I64(FIELDS * words.width))

    def load(self, field: int) -> Any:
        return self.words.load(self.data, self._index(field))

    def store(self, field: int, value: Any) -> None:
        self.words.store(value, self.data, self._index(field))

    def add(self, field: int, value: Any) -> None:
        self.store(field, self.words.builder.fadd(self.load(field), value))

    def count(self, field: int, how_many: Any) -> None:
        """Add bytes to a field of counts."""
        wide = self.words.of(_I32)
        more = self.words.builder.zext(how_many, wide)
        self.store_as(self.words.builder.add(self.load_as(wide, field), more), field)

    def load_as(self, vector: Any, field: int) -> Any:
        """Load a field that holds a vector of another type."""
        return self.words.builder.load(self._place_of(vector, field), align=8)

    def store_as(self, value: Any, field: int) -> None:
        """Store a vector of another type to a field."""
        self.words.builder.store(value, self._place_of(value.type, field), align=8)

    def count_rows(self, rows: Any) -> None:
        builder, place = self.words.builder, self.rows()
        builder.store(builder.add(builder.load(place), rows), place)

    def rows(self) -> Any:
        """Return where the number of rows stands."""
        place = self.words.builder.gep(self.data, [self._index(ROWS)])
        return self.words.builder.bitcast(place, _I64.as_pointer())

    def _place_of(self, vector: Any, field: int) -> Any:
        place = self.words.builder.gep(self.data, [self._index(field)])
        return self.words.builder.bitcast(place, vector.as_pointer())

    def _index(self, field: int) -> Any:
        return self.words.builder.add(self.start, _I64(field * self.words.width))


class _Sums:
    """What one call gathers in a panel, in registers.

    Values that count are taken to be numbers, or if it `checks` may be NaN, which are counted. An
    infinity is a number like others: the extremes tell of it, and nobody asks for the sums then.
    """

    def __init__(
        self, words: Vectors, numbers: Plain | Halves, place: _Panel, *, checks: bool
    ) -> None:
        self.words = words
        self.numbers = numbers
        self.place = place
        self.shift = place.load(SHIFT)
        self.zero = words.constant(self.shift.type, 0.0)
        self.s1 = words.variable(self.zero)
        self.s2 = words.variable(self.zero)
        self.low = words.variable(place.load_as(numbers.compared, LOW))
        self.high = words.variable(place.load_as(numbers.compared, HIGH))
        # In bytes, which the rows of one call do not overflow.
        none = words.constant(words.of(_BYTE), 0)
        self.left_out = words.variable(none)
        self.counted = words.variable(none) if checks else None

    def add(self, raw: Any, where: Where | None = None) -> None:
        builder = self.words.builder
        lanes = None
        if where is not None:
            lanes = where.lanes
            self.words.update(self.left_out, lambda n: builder.add(n, where.others))
        if self.counted is not None:
            number = self.numbers.is_number(raw)
            lanes = number if lanes is None else builder.and_(lanes, number)
            less = builder.sext(lanes, self.words.of(_BYTE))
            self.words.update(self.counted, lambda n: builder.sub(n, less))
        self.add_deviations(raw, lanes)
        self.add_extremes(raw, lanes)

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
        place.add(S1, builder.load(self.s1))
        place.add(S2, builder.load(self.s2))
        place.store_as(builder.load(self.low), LOW)
        place.store_as(builder.load(self.high), HIGH)
        place.count_rows(rows)
        others = builder.load(self.left_out)
        if self.counted is not None:
            every = self.words.splat(builder.trunc(rows, _BYTE))
            numbers = builder.load(self.counted)
            place.count(NANS, builder.sub(builder.sub(every, others), numbers))
            others = builder.sub(every, numbers)
        place.count(NUMBERS, others)


def _panels(*, at_the_end: bool) -> Any:
    """Build the intrinsic that clears all panels, or turns their extremes into float64."""

    @intrinsic
    def turn_panels(_: Any, x: Any, acc: Any, panels: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            words, numbers = _words_of(context, builder, signature.args[0].dtype)
            with cgutils.for_range(builder, arguments[2], intp=_I64) as loop:
                place = _Panel(words, arguments[1], loop.index)
                for field, neutral in ((LOW, numbers.highest), (HIGH, numbers.lowest)):
                    if at_the_end:
                        ordered = place.load_as(numbers.compared, field)
                        place.store(field, numbers.number(ordered))
                    else:
                        place.store_as(neutral, field)
                if at_the_end:
                    rows = builder.trunc(builder.load(place.rows()), _I32)
                    counts = words.splat(rows)
                    others, nans = (place.load_as(counts.type, f) for f in (NUMBERS, NANS))
                    for field, count in ((NUMBERS, builder.sub(counts, others)), (NANS, nans)):
                        place.store(field, builder.sitofp(count, words.of(_F64)))
                else:
                    for field in range(S1, FIELDS):
                        place.store(field, words.constant(words.of(_F64), 0.0))
            return context.get_dummy_value()

        return types.void(x, acc, types.int64), generate

    return turn_panels


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
            words.read(
                data, Band(*cgutils.unpack_tuple(builder, lines)),  # type: ignore[no-untyped-call]
                lambda panel: _Sums(words, numbers, _Panel(words, sums, panel), checks=checks),
                bytes_ if masked else None, narrow=narrow,
                sweep=not (narrow or masked or checks) and isinstance(numbers, Plain),
            )  # fmt: skip
            return context.get_dummy_value()

        return types.void(x, flip, band, mask, omit, acc), generate

    return add_rows


def _floats(raw: Array) -> Array:
    if raw.dtype == np.int16:
        return raw.view(np.float16).astype(np.float64)
    if raw.dtype == np.uint16:
        return (raw.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return raw.astype(np.float64)


def _add(raw: Array, valid: Array, place: Array) -> None:
    """Add rows of values where `valid`; the specification of all functions."""
    values = _floats(raw)
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
        if omit is None and not np.isfinite(_floats(raw)[valid]).all():
            place[S2] = np.nan


def _begin_plainly(x: Array, acc: Array, panels: int) -> None:
    """Make all panels those of no values; their shifts stay."""
    place = acc.reshape(-1, FIELDS, LINE // x.itemsize)
    place[:, S1:] = 0.0
    place[:, LOW] = np.inf
    place[:, HIGH] = -np.inf


def _finish_plainly(x: Array, acc: Array, panels: int) -> None:
    """Turn the extremes of all panels into float64."""


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


begin: Any = _begin_plainly if JIT_OFF else _panels(at_the_end=False)
finish: Any = _finish_plainly if JIT_OFF else _panels(at_the_end=True)
add_rows: Any = _add_rows_plainly if JIT_OFF else _rows(narrow=False)
add_narrow_rows: Any = _add_narrow_rows_plainly if JIT_OFF else _rows(narrow=True)
