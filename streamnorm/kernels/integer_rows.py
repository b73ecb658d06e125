"""The innermost loop over 8- and 16-bit integers: rows of lanes -> exact sums per lane.

All are read as unsigned: a signed integer with its highest bit flipped is the number plus half of
the range, which the caller takes out of the sums again. Squares are taken at twice the width of the
data and summed at twice that; sums of one call stay within 32 bits (64 for squares of 16-bit
numbers) because it has at most `boxes.MOST_TILE_ROWS` rows.
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
    "LOW",
    "SQUARES",
    "SUM",
    "VALID",
    "add_narrow_rows",
    "add_rows",
    "add_rows_where",
]

SUM, SQUARES, LOW, HIGH, VALID = range(5)
FIELDS = 5
"""Fields of `acc`: sum, sum of squares, smallest, largest, how many are valid."""

_I64 = ir.IntType(64)


class _Sums:
    """What one call gathers, in registers, for data of `bits` bits."""

    def __init__(self, words: Vectors, bits: int) -> None:
        self.words = words
        self.raw = words.of(ir.IntType(bits))
        self.double = words.of(ir.IntType(2 * bits))
        self.pairs = words.of(ir.IntType(4 * bits), words.width // 2)
        self.bits = bits
        self.sum = words.variable(self.double if bits == 8 else words.of(ir.IntType(32)), 0)
        self.even = words.variable(self.pairs, 0)
        self.odd = words.variable(self.pairs, 0)
        self.low = words.variable(self.raw, 2**bits - 1)
        self.high = words.variable(self.raw, 0)

    def add(self, raw: Any, where: Any = None) -> None:
        words, builder = self.words, self.words.builder
        words.update(self.low, lambda v: words.smaller(raw, v, where))
        words.update(self.high, lambda v: words.larger(raw, v, where))
        if where is not None:
            raw = builder.select(where, raw, words.constant(self.raw, 0))
        wide = builder.zext(raw, self.double)
        words.update(self.sum, lambda s: builder.add(s, wide))
        # Two neighbouring squares in a word twice as wide: taken apart without moving lanes.
        squares = builder.bitcast(builder.mul(wide, wide), self.pairs)
        first = words.constant(self.pairs, 2 ** (2 * self.bits) - 1)
        shift = words.constant(self.pairs, 2 * self.bits)
        words.update(self.even, lambda s: builder.add(s, builder.and_(squares, first)))
        words.update(self.odd, lambda s: builder.add(s, builder.lshr(squares, shift)))

    def add_to(self, panel: "_Panel") -> None:
        words, builder = self.words, self.words.builder
        half = words.width // 2
        order = [k // 2 + half * (k % 2) for k in range(words.width)]
        pattern = ir.Constant(words.of(ir.IntType(32)), order)
        squares = builder.shuffle_vector(builder.load(self.even), builder.load(self.odd), pattern)
        panel.add(SUM, builder.load(self.sum))
        panel.add(SQUARES, squares)
        panel.replace(LOW, lambda v, low: words.smaller(low, v), builder.load(self.low))
        panel.replace(HIGH, lambda v, high: words.larger(high, v), builder.load(self.high))


class _Panel:
    """The fields of one panel in memory, all int64."""

    def __init__(self, words: Vectors, data: Any, panel: Any) -> None:
        self.words = words
        self.data = data
        self.start = words.builder.mul(panel, _I64(FIELDS * words.width))

    def replace(self, field: int, change: Any, value: Any) -> None:
        words, builder = self.words, self.words.builder
        index = builder.add(self.start, _I64(field * words.width))
        vector = words.of(_I64)
        wide = value if value.type == vector else builder.zext(value, vector)
        words.store(change(words.load(self.data, index), wide), self.data, index)

    def add(self, field: int, value: Any) -> None:
        self.replace(field, self.words.builder.add, value)


@intrinsic
def _add_rows(
    _: Any, x: Any, flip: Any, at: Any, step: Any, rows: Any, fetch: Any, acc: Any, panel: Any
) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = signature.args[0].dtype.bitwidth
        words = Vectors(context, builder, 8 * LINE // bits)
        data = arguments[0]
        at, step, rows, fetch = arguments[2:6]
        place = _Panel(words, arguments[6], arguments[7])
        sums = _Sums(words, bits)
        signs = words.splat(builder.trunc(arguments[1], ir.IntType(bits)))
        with words.rows(data, at, step, rows, fetch) as (_row, raw):
            sums.add(builder.xor(raw, signs))
        sums.add_to(place)
        place.add(VALID, words.splat(rows))
        return context.get_dummy_value()

    index = types.int64
    return types.void(x, index, index, index, index, index, acc, index), generate


def _rows_where(narrow: bool) -> Any:
    """Build the intrinsic that counts; `narrow` for rows of fewer values than lanes."""

    @intrinsic
    def add_rows(
        _: Any, x: Any, flip: Any, at: Any, step: Any, rows: Any, width: Any, fetch: Any,
        mask: Any, mask_at: Any, mask_step: Any, acc: Any, panel: Any,
    ) -> Any:  # fmt: skip
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            bits = signature.args[0].dtype.bitwidth
            words = Vectors(context, builder, 8 * LINE // bits)
            data, flip, at, step, rows, width, fetch, truth, mask_at, mask_step = arguments[:10]
            place = _Panel(words, *arguments[10:])
            sums = _Sums(words, bits)
            short = words.of(ir.IntType(16))
            count = words.variable(short, 0)
            signs = words.splat(builder.trunc(flip, ir.IntType(bits)))
            there = words.first(width) if narrow else None
            with words.rows(data, at, step, rows, fetch, there) as (row, raw):
                valid = words.truth(truth, mask_at, mask_step, row, there)
                sums.add(builder.xor(raw, signs), valid)
                words.update(count, partial(builder.add, builder.zext(valid, short)))
            sums.add_to(place)
            place.add(VALID, builder.load(count))
            return context.get_dummy_value()

        index = types.int64
        kinds = (x, index, index, index, index, index, index, mask, index, index, acc, index)
        return types.void(*kinds), generate

    return add_rows


def _add_plainly(values: Array, flip: int, valid: Array, acc: Array, panel: int) -> None:
    size = FIELDS * values.shape[1]
    place = acc[panel * size : (panel + 1) * size].reshape(FIELDS, -1)
    top = int(np.iinfo(values.dtype).max)
    values = values.astype(np.int64) ^ flip
    some = np.where(valid, values, 0)
    place[SUM] += some.sum(0)
    place[SQUARES] += (some * some).sum(0)
    place[LOW] = np.minimum(place[LOW], np.where(valid, values, top).min(0))
    place[HIGH] = np.maximum(place[HIGH], np.where(valid, values, 0).max(0))
    place[VALID] += valid.sum(0)


def _indices(at: int, step: int, rows: int, itemsize: int) -> Array:
    return at + step * np.arange(rows)[:, None] + np.arange(LINE // itemsize)


def _add_rows_plainly(
    x: Array, flip: int, at: int, step: int, rows: int, fetch: int, acc: Array, panel: int
) -> None:
    """Add rows of ``x ^ flip`` to a panel of `acc`; the rest as in `float_rows.add_rows`."""
    values = x[_indices(at, step, rows, x.itemsize)]
    _add_plainly(values, flip, np.ones(values.shape, bool), acc, panel)


def _add_rows_where_plainly(
    x: Array, flip: int, at: int, step: int, rows: int, width: int, fetch: int,
    mask: Array, mask_at: int, mask_step: int, acc: Array, panel: int,
) -> None:  # fmt: skip
    """Add as `add_rows` does, where `mask`, which is read with steps of its own."""
    valid = mask[_indices(mask_at, mask_step, rows, x.itemsize)]
    _add_plainly(x[_indices(at, step, rows, x.itemsize)], flip, valid, acc, panel)


def _add_narrow_rows_plainly(
    x: Array, flip: int, at: int, step: int, rows: int, width: int, fetch: int,
    mask: Array, mask_at: int, mask_step: int, acc: Array, panel: int,
) -> None:  # fmt: skip
    """Add as `add_rows_where` does, to the first `width` lanes; nothing behind them is read."""
    lanes = LINE // x.itemsize
    values = padded(x, at, step, rows, width, lanes)
    valid = padded(mask, mask_at, mask_step, rows, width, lanes)
    _add_rows_where_plainly(values, flip, 0, lanes, rows, lanes, 0, valid, 0, lanes, acc, panel)


add_rows: Any = _add_rows_plainly if JIT_OFF else _add_rows
add_rows_where: Any = _add_rows_where_plainly if JIT_OFF else _rows_where(narrow=False)
add_narrow_rows: Any = _add_narrow_rows_plainly if JIT_OFF else _rows_where(narrow=True)
