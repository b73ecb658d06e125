"""The innermost loop over floats: rows of lanes -> sums of deviations and extremes per lane.

A row is one cache line, a panel a column of its lanes. What a panel gathers stands in one
(FIELDS, lanes) slice of `acc`; while rows are read it stays in registers: per value a subtraction,
an addition, a multiply-add and two comparisons. From memory that is as fast as reading
(docs/design.md, "Speed").

The sums of one call begin at zero and are then added to `acc`, so no sum grows over more than
`boxes.MOST_TILE_ROWS` values in a row. Nothing here is fastmath: lanes are summed in the order
written.
"""

from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from streamnorm.arrays import Array
from streamnorm.kernels.machine import JIT_OFF, LINE, padded
from streamnorm.kernels.vectors import Vectors

__all__ = [
    "FIELDS",
    "HIGH",
    "INFINITE",
    "LOW",
    "NANS",
    "NUMBERS",
    "S1",
    "S2",
    "SHIFT",
    "add_narrow_rows",
    "add_rows",
    "add_rows_where",
    "largest",
]

SHIFT, LOW, HIGH, S1, S2, NUMBERS, INFINITE, NANS = range(8)
FIELDS = 8
"""Fields of `acc`: the shift; smallest and largest value; and what is added up: ``x - shift`` and
its square over finite values, how many are finite, infinite, NaN."""

_F32 = ir.FloatType()
_F64 = ir.DoubleType()
_I32 = ir.IntType(32)
_I64 = ir.IntType(64)
_LARGEST_HALF = 65504.0


def _wide_bits(words: Vectors, bits: Any, special: bool) -> Any:
    """Return float16 bits (as int16) as float32; NaN and infinities too if `special`.

    Shifted to the place of a float32's exponent, the bits stand for the number times 2**-112,
    denormals included. NaN and infinities, whose exponent is all ones, then look like 65536 and
    more; they get an exponent of all ones again.
    """
    builder, vector = words.builder, words.of(_I32)
    moved = builder.shl(builder.sext(bits, vector), words.constant(vector, 13))
    moved = builder.and_(moved, words.constant(vector, 0x8FFFE000))
    if special:
        ones = words.constant(vector, 0x0F800000)
        odd = builder.icmp_unsigned("==", builder.and_(moved, ones), ones)
        full = builder.or_(moved, words.constant(vector, 0x7F800000))
        moved = builder.select(odd, full, moved)
    small = builder.bitcast(moved, words.of(_F32))
    return builder.fmul(small, words.constant(words.of(_F32), 2.0**112))


def _values(words: Vectors, kind: Any, raw: Any, special: bool) -> tuple[Any, Any]:
    """Return stored values as floats to compare and as float64 to sum, both exact."""
    builder, double = words.builder, words.of(_F64)
    if kind == types.float64:
        return raw, raw
    if kind in (types.int32, types.uint32):
        cast = builder.sitofp if kind == types.int32 else builder.uitofp
        exact = cast(raw, double)
        return exact, exact
    value = raw
    if kind == types.uint16:
        shifted = builder.shl(builder.zext(raw, words.of(_I32)), words.constant(words.of(_I32), 16))
        value = builder.bitcast(shifted, words.of(_F32))
    elif kind == types.int16:
        value = _wide_bits(words, raw, special)
    return value, builder.fpext(value, double)


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

    def widen(self, low: Any, high: Any) -> None:
        """Merge the extremes of a call, given as float32 or float64."""
        if low.type.element == _F32:
            low, high = (self.words.builder.fpext(v, self.words.of(_F64)) for v in (low, high))
        self.store(LOW, self.words.smaller(low, self.load(LOW)))
        self.store(HIGH, self.words.larger(high, self.load(HIGH)))

    def _index(self, field: int) -> Any:
        return self.words.builder.add(self.start, _I64(field * self.words.width))


class _Sums:
    """What one call gathers, in registers."""

    def __init__(self, words: Vectors, compared: Any) -> None:
        self.words = words
        self.s1 = words.variable(words.of(_F64), 0.0)
        self.s2 = words.variable(words.of(_F64), 0.0)
        self.low = words.variable(compared, float("inf"))
        self.high = words.variable(compared, float("-inf"))

    def add(self, value: Any, deviation: Any, where: Any = None) -> None:
        words, builder = self.words, self.words.builder
        words.update(self.s1, lambda s: builder.fadd(s, deviation))
        name = f"llvm.fmuladd.v{words.width}f64"
        words.update(self.s2, lambda s: words.call(name, s.type, [deviation, deviation, s]))
        words.update(self.low, lambda v: words.smaller(value, v, where))
        words.update(self.high, lambda v: words.larger(value, v, where))

    def add_to(self, panel: _Panel) -> None:
        load = self.words.builder.load
        panel.add(S1, load(self.s1))
        panel.add(S2, load(self.s2))
        panel.widen(load(self.low), load(self.high))


class _CountingSums(_Sums):
    """The same of values that may not count, be NaN or infinite."""

    def __init__(self, words: Vectors, compared: Any) -> None:
        super().__init__(words, compared)
        self.counts = {f: words.variable(words.of(_I32), 0) for f in (NUMBERS, INFINITE, NANS)}
        self.infinity = words.constant(compared, float("inf"))
        bits = 64 if compared.element == _F64 else 32
        self.size_of = f"llvm.fabs.v{words.width}f{bits}"

    def count(self, value: Any, deviation: Any, valid: Any) -> None:
        words, builder = self.words, self.words.builder
        size = words.call(self.size_of, value.type, [value])
        finite = builder.and_(valid, builder.fcmp_ordered("<", size, self.infinity))
        infinite = builder.and_(valid, builder.fcmp_ordered("==", size, self.infinity))
        nan = builder.and_(valid, builder.fcmp_unordered("uno", value, value))
        zero = words.constant(deviation.type, 0.0)
        self.add(value, builder.select(finite, deviation, zero), valid)
        for field, lanes in ((NUMBERS, finite), (INFINITE, infinite), (NANS, nan)):
            one = builder.zext(lanes, words.of(_I32))
            words.update(self.counts[field], partial(builder.add, one))

    def add_to(self, panel: _Panel) -> None:
        super().add_to(panel)
        load, double = self.words.builder.load, self.words.of(_F64)
        for field, count in self.counts.items():
            panel.add(field, self.words.builder.uitofp(load(count), double))


def _compared(words: Vectors, kind: Any) -> Any:
    return words.of(_F64 if kind in (types.float64, types.int32, types.uint32) else _F32)


@intrinsic
def _add_rows(
    _: Any, x: Any, at: Any, step: Any, rows: Any, fetch: Any, acc: Any, panel: Any
) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = signature.args[0].dtype
        words = Vectors(context, builder, 8 * LINE // kind.bitwidth)
        data, at, step, rows, fetch = arguments[:5]
        place = _Panel(words, arguments[5], arguments[6])
        sums = _Sums(words, _compared(words, kind))
        shift = place.load(SHIFT)
        with words.rows(data, at, step, rows, fetch) as (_row, raw):
            value, number = _values(words, kind, raw, special=False)
            sums.add(value, builder.fsub(number, shift))
        sums.add_to(place)
        place.add(NUMBERS, words.splat(builder.uitofp(rows, _F64)))
        return context.get_dummy_value()

    index = types.int64
    return types.void(x, index, index, index, index, acc, index), generate


@intrinsic
def _largest(_: Any, x: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = signature.args[0].dtype
        return _F64(_LARGEST_HALF if kind == types.int16 else float("inf"))

    return types.float64(x), generate


def _largest_plainly(x: Array) -> float:
    """Return the largest size that `add_rows` can tell from infinity in what it has added."""
    return float("inf")


def _rows_where(narrow: bool) -> Any:
    """Build the intrinsic that counts; `narrow` for rows of fewer values than lanes."""

    @intrinsic
    def add_rows(
        _: Any, x: Any, at: Any, step: Any, rows: Any, width: Any, fetch: Any,
        mask: Any, mask_at: Any, mask_step: Any, acc: Any, panel: Any,
    ) -> Any:  # fmt: skip
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kind = signature.args[0].dtype
            words = Vectors(context, builder, 8 * LINE // kind.bitwidth)
            data, at, step, rows, width, fetch, truth, mask_at, mask_step = arguments[:9]
            place = _Panel(words, *arguments[9:])
            sums = _CountingSums(words, _compared(words, kind))
            shift = place.load(SHIFT)
            there = words.first(width) if narrow else None
            with words.rows(data, at, step, rows, fetch, there) as (row, raw):
                valid = words.truth(truth, mask_at, mask_step, row, there)
                value, number = _values(words, kind, raw, special=True)
                sums.count(value, builder.fsub(number, shift), valid)
            sums.add_to(place)
            return context.get_dummy_value()

        index = types.int64
        kinds = (x, index, index, index, index, index, mask, index, index, acc, index)
        return types.void(*kinds), generate

    return add_rows


def _read(x: Array, at: int, step: int, rows: int) -> Any:
    block = x[at + step * np.arange(rows)[:, None] + np.arange(LINE // x.itemsize)]
    if block.dtype == np.int16:
        return block.view(np.float16).astype(np.float64)
    if block.dtype == np.uint16:
        return (block.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return block.astype(np.float64)


def _add_plainly(values: Array, valid: Array, acc: Array, panel: int) -> None:
    """Add rows of values where `valid`; the specification of all functions."""
    size = FIELDS * values.shape[1]
    place = acc[panel * size : (panel + 1) * size].reshape(FIELDS, -1)
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


def _add_rows_plainly(
    x: Array, at: int, step: int, rows: int, fetch: int, acc: Array, panel: int
) -> None:
    """Add the lanes from ``x[at + r * step]`` on for r < rows to a panel of `acc`.

    `x` and `acc`, of shape (panels, FIELDS, lanes), are pointers. All values are taken to be
    finite: if one is not, or a square overflows, then so is S2, or an extreme is beyond `largest`.
    Meanwhile as many values from `fetch` on are brought into the cache.
    """
    values = _read(x, at, step, rows)
    place = acc.reshape(-1, FIELDS, values.shape[1])[panel]
    with np.errstate(all="ignore"):
        deviations = values - place[SHIFT]
        place[S1] += deviations.sum(0)
        place[S2] += (deviations * deviations).sum(0)
    place[LOW] = np.fmin(place[LOW], values.min(0))
    place[HIGH] = np.fmax(place[HIGH], values.max(0))
    place[NUMBERS] += len(values)


def _add_rows_where_plainly(
    x: Array, at: int, step: int, rows: int, width: int, fetch: int,
    mask: Array, mask_at: int, mask_step: int, acc: Array, panel: int,
) -> None:  # fmt: skip
    """Add as `add_rows` does, where `mask`, which is read with steps of its own.

    NaN and infinities are counted and left out of the sums, infinities are among the extremes.
    `width` is the number of lanes.
    """
    valid = mask[mask_at + mask_step * np.arange(rows)[:, None] + np.arange(width)]
    _add_plainly(_read(x, at, step, rows), valid, acc, panel)


def _add_narrow_rows_plainly(
    x: Array, at: int, step: int, rows: int, width: int, fetch: int,
    mask: Array, mask_at: int, mask_step: int, acc: Array, panel: int,
) -> None:  # fmt: skip
    """Add as `add_rows_where` does, to the first `width` lanes; nothing behind them is read."""
    lanes = LINE // x.itemsize
    values = padded(x, at, step, rows, width, lanes)
    valid = padded(mask, mask_at, mask_step, rows, width, lanes)
    _add_rows_where_plainly(values, 0, lanes, rows, lanes, 0, valid, 0, lanes, acc, panel)


largest: Any = _largest_plainly if JIT_OFF else _largest
add_rows: Any = _add_rows_plainly if JIT_OFF else _add_rows
add_rows_where: Any = _add_rows_where_plainly if JIT_OFF else _rows_where(narrow=False)
add_narrow_rows: Any = _add_narrow_rows_plainly if JIT_OFF else _rows_where(narrow=True)
