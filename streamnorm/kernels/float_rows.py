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
from streamnorm.kernels.vectors import Band, Mask, Vectors, rows_of

__all__ = [
    "FIELDS",
    "HIGH",
    "INFINITE",
    "LOW",
    "NANS",
    "NUMBERS",
    "ROWS",
    "S1",
    "S2",
    "SHIFT",
    "add_narrow_rows",
    "add_narrow_rows_where",
    "add_rows",
    "add_rows_where",
    "begin",
    "finish",
]

SHIFT, LOW, HIGH, S1, S2, NUMBERS, INFINITE, NANS, ROWS = range(9)
FIELDS = 9
"""Fields of `acc`: the shift; smallest and largest value; and what is added up: ``x - shift`` and
its square over finite values, how many are finite, infinite, NaN; and in the first lane, how many
rows were added whole, whose values are not among the other numbers. Between `begin` and `finish`
the extremes are of the type in which they are compared."""

_BYTE = ir.IntType(8)
_F64 = ir.DoubleType()
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

    def load_as(self, vector: Any, field: int) -> Any:
        """Load a field that holds a vector of another type."""
        return self.words.builder.load(self._place_of(vector, field), align=8)

    def store_as(self, value: Any, field: int) -> None:
        """Store a vector of another type to a field."""
        self.words.builder.store(value, self._place_of(value.type, field), align=8)

    def count_rows(self, rows: Any) -> None:
        builder = self.words.builder
        place = builder.gep(self.data, [self._index(ROWS)])
        builder.store(builder.fadd(builder.load(place), builder.uitofp(rows, _F64)), place)

    def _place_of(self, vector: Any, field: int) -> Any:
        place = self.words.builder.gep(self.data, [self._index(field)])
        return self.words.builder.bitcast(place, vector.as_pointer())

    def _index(self, field: int) -> Any:
        return self.words.builder.add(self.start, _I64(field * self.words.width))


class _Sums:
    """What one call gathers in a panel, in registers; all values that count are finite."""

    def __init__(self, words: Vectors, numbers: Plain | Halves, place: _Panel) -> None:
        self.words = words
        self.numbers = numbers
        self.place = place
        self.shift = place.load(SHIFT)
        self.zero = words.constant(self.shift.type, 0.0)
        self.s1 = words.variable(self.zero)
        self.s2 = words.variable(self.zero)
        self.low = words.variable(place.load_as(numbers.compared, LOW))
        self.high = words.variable(place.load_as(numbers.compared, HIGH))

    def add(self, raw: Any, where: Any = None) -> None:
        self.add_deviations(raw, where)
        self.add_extremes(raw, where)
        if where is not None:
            number = self.words.builder.uitofp(where, self.shift.type)
            self.place.add(NUMBERS, number)

    def add_deviations(self, raw: Any, where: Any) -> None:
        words, builder = self.words, self.words.builder
        deviation = self.numbers.deviation(raw, self.shift)
        if where is not None:
            deviation = builder.select(where, deviation, self.zero)
        words.update(self.s1, lambda s: builder.fadd(s, deviation))
        name = f"llvm.fmuladd.v{words.width}f64"
        words.update(self.s2, lambda s: words.call(name, s.type, [deviation, deviation, s]))

    def add_extremes(self, raw: Any, where: Any) -> None:
        numbers, select = self.numbers, self.words.builder.select
        low = high = numbers.ordered(raw)
        if where is not None:
            # Chosen before they are compared: LLVM then finds the processor's own minimum.
            low = select(where, low, numbers.highest)
            high = select(where, high, numbers.lowest)
        self.words.update(self.low, lambda v: numbers.smaller(low, v))
        self.words.update(self.high, lambda v: numbers.larger(high, v))

    def end(self, rows: Any) -> None:
        place, load = self.place, self.words.builder.load
        place.add(S1, load(self.s1))
        place.add(S2, load(self.s2))
        place.store_as(load(self.low), LOW)
        place.store_as(load(self.high), HIGH)
        place.count_rows(rows)


class _CountingSums(_Sums):
    """The same of values that may not count, be NaN or infinite."""

    def __init__(self, words: Vectors, numbers: Plain | Halves, place: _Panel) -> None:
        super().__init__(words, numbers, place)
        fields = (NUMBERS,) if numbers.finite_only else (NUMBERS, INFINITE, NANS)
        none = words.constant(words.of(_BYTE), 0)
        self.counts = {field: words.variable(none) for field in fields}

    def add(self, raw: Any, where: Any = None) -> None:
        builder = self.words.builder
        finite = other = where
        if not self.numbers.finite_only:
            finite = builder.and_(where, self.numbers.is_finite(raw))
            nan = builder.and_(where, self.numbers.is_nan(raw))
            other = builder.xor(where, nan)
            self.count(INFINITE, builder.xor(other, finite))
            self.count(NANS, nan)
        self.count(NUMBERS, finite)
        self.add_deviations(raw, finite)
        self.add_extremes(raw, other)

    def count(self, field: int, where: Any) -> None:
        """Count in bytes, which the rows of one call do not overflow."""
        builder = self.words.builder
        one = builder.zext(where, self.words.of(_BYTE))
        self.words.update(self.counts[field], lambda n: builder.add(n, one))

    def end(self, rows: Any) -> None:
        super().end(rows)
        for field, counted in self.counts.items():
            number = self.words.builder.uitofp(self.words.builder.load(counted), self.shift.type)
            self.place.add(field, number)


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
                if not at_the_end:
                    for field in (S1, S2, NUMBERS, INFINITE, NANS, ROWS):
                        place.store(field, words.constant(words.of(_F64), 0.0))
            return context.get_dummy_value()

        return types.void(x, acc, types.int64), generate

    return turn_panels


def _words_of(context: Any, builder: Any, kind: Any) -> tuple[Vectors, Plain | Halves]:
    words = Vectors(context, builder, 8 * LINE // kind.bitwidth)
    return words, numbers_of(words, kind)


def _rows(*, narrow: bool) -> Any:
    """Build the intrinsic for rows of finite values."""

    @intrinsic
    def add_rows(_: Any, x: Any, flip: Any, band: Any, acc: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data, _, band, acc = arguments
            _add_band(
                context, builder, signature.args[0].dtype, _Sums, data, band, None, acc, narrow
            )
            return context.get_dummy_value()

        return types.void(x, flip, band, acc), generate

    return add_rows


def _rows_where(*, narrow: bool) -> Any:
    """Build the intrinsic that counts."""

    @intrinsic
    def add_rows(_: Any, x: Any, flip: Any, band: Any, mask: Any, scale: Any, acc: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data, _, band, mask, scale, acc = arguments
            mask = Mask(mask, scale)
            kind = signature.args[0].dtype
            _add_band(context, builder, kind, _CountingSums, data, band, mask, acc, narrow)
            return context.get_dummy_value()

        return types.void(x, flip, band, mask, types.int64, acc), generate

    return add_rows


def _add_band(
    context: Any, builder: Any, kind: Any, sums: type[_Sums], data: Any, band: Any,
    mask: Mask | None, acc: Any, narrow: bool,
) -> None:  # fmt: skip
    words, numbers = _words_of(context, builder, kind)

    words.read(
        data, Band(*cgutils.unpack_tuple(builder, band)),  # type: ignore[no-untyped-call]
        lambda panel: sums(words, numbers, _Panel(words, acc, panel)), mask, narrow=narrow,
        sweep=not (narrow or mask) and isinstance(numbers, Plain),
    )  # fmt: skip


def _floats(raw: Array) -> Array:
    if raw.dtype == np.int16:
        return raw.view(np.float16).astype(np.float64)
    if raw.dtype == np.uint16:
        return (raw.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return raw.astype(np.float64)


def _add(raw: Array, valid: Array, place: Array) -> None:
    """Add rows of values where `valid`; the specification of all functions."""
    values = _floats(raw)
    with np.errstate(all="ignore"):
        finite = valid & np.isfinite(values)
        d = np.where(finite, values - place[SHIFT], 0.0)
        place[S1] += d.sum(0)
        place[S2] += (d * d).sum(0)
    numbers = valid & ~np.isnan(values)
    place[LOW] = np.fmin(place[LOW], np.where(numbers, values, np.inf).min(0, initial=np.inf))
    place[HIGH] = np.fmax(place[HIGH], np.where(numbers, values, -np.inf).max(0, initial=-np.inf))
    place[NUMBERS] += finite.sum(0)
    place[INFINITE] += (valid & np.isinf(values)).sum(0)
    place[NANS] += (valid & np.isnan(values)).sum(0)


def _add_plainly(
    x: Array, band: tuple[int, ...], mask: Array | None, scale: int, acc: Array, *, narrow: bool
) -> None:
    for panel, raw, valid in rows_of(x, Band(*band), mask, scale, narrow=narrow):
        place = acc.reshape(-1, FIELDS, raw.shape[1])[panel]
        _add(raw, valid, place)
        if mask is None and not np.isfinite(_floats(raw)[valid]).all():
            place[S2] = np.nan


def _begin_plainly(x: Array, acc: Array, panels: int) -> None:
    """Make all panels those of no values; their shifts stay."""
    place = acc.reshape(-1, FIELDS, LINE // x.itemsize)
    place[:, S1:] = 0.0
    place[:, LOW] = np.inf
    place[:, HIGH] = -np.inf


def _finish_plainly(x: Array, acc: Array, panels: int) -> None:
    """Turn the extremes of all panels into float64."""


def _add_rows_plainly(x: Array, flip: int, band: tuple[int, ...], acc: Array) -> None:
    """Add a band, a tuple as `vectors.Band` says, to panels of `acc`.

    `x` and `acc`, of shape (panels, FIELDS, lanes), are pointers. All values are taken to be
    finite: if one is not, or a square overflows, then S2 is not finite either, or an extreme is
    infinite. `flip` is for integers.
    """
    _add_plainly(x, band, None, 0, acc, narrow=False)


def _add_narrow_rows_plainly(x: Array, flip: int, band: tuple[int, ...], acc: Array) -> None:
    """Add as `add_rows` does rows of fewer values than lanes, to the first lanes."""
    _add_plainly(x, band, None, 0, acc, narrow=True)


def _add_rows_where_plainly(
    x: Array, flip: int, band: tuple[int, ...], mask: Array, scale: int, acc: Array
) -> None:
    """Add as `add_rows` does, where `mask`, whose bytes are at ``scale`` times the same places.

    NaN and infinities are counted and left out of the sums, infinities are among the extremes.
    """
    _add_plainly(x, band, mask, scale, acc, narrow=False)


def _add_narrow_rows_where_plainly(
    x: Array, flip: int, band: tuple[int, ...], mask: Array, scale: int, acc: Array
) -> None:
    """Add as `add_rows_where` does rows of fewer values than lanes, to the first lanes."""
    _add_plainly(x, band, mask, scale, acc, narrow=True)


begin: Any = _begin_plainly if JIT_OFF else _panels(at_the_end=False)
finish: Any = _finish_plainly if JIT_OFF else _panels(at_the_end=True)
add_rows: Any = _add_rows_plainly if JIT_OFF else _rows(narrow=False)
add_narrow_rows: Any = _add_narrow_rows_plainly if JIT_OFF else _rows(narrow=True)
add_rows_where: Any = _add_rows_where_plainly if JIT_OFF else _rows_where(narrow=False)
add_narrow_rows_where: Any = _add_narrow_rows_where_plainly if JIT_OFF else _rows_where(narrow=True)
