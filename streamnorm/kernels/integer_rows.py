"""The innermost loop over 8- and 16-bit integers: rows of lanes -> exact sums per lane.

All are read as unsigned: a signed integer with its highest bit flipped is the number plus half of
the range, which the caller takes out of the sums again. Squares are taken at twice the width of the
data and summed at twice that. A call has at most `boxes.MOST_TILE_ROWS` rows and one, 255: sums of
8-bit numbers stay within 16 bits (up to 257 rows), and a byte counts the rows.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from streamnorm.arrays import Array
from streamnorm.kernels.machine import JIT_OFF, LINE
from streamnorm.kernels.vectors import Band, Vectors, Where, rows_of

__all__ = [
    "FIELDS",
    "HIGH",
    "LOW",
    "SQUARES",
    "SUM",
    "VALID",
    "add_narrow_rows",
    "add_rows",
]

SUM, SQUARES, LOW, HIGH, VALID = range(5)
FIELDS = 5
"""Fields of `acc`: sum, sum of squares, smallest, largest, how many are valid."""

_BYTE = ir.IntType(8)
_I64 = ir.IntType(64)


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


class _Sums:
    """What one call gathers in a panel, in registers, for data of `bits` bits."""

    def __init__(self, words: Vectors, bits: int, flip: Any, place: _Panel) -> None:
        self.words = words
        self.place = place
        self.signs = words.splat(words.builder.trunc(flip, ir.IntType(bits)))
        self.raw = words.of(ir.IntType(bits))
        self.double = words.of(ir.IntType(2 * bits))
        self.pairs = words.of(ir.IntType(4 * bits), words.width // 2)
        self.bits = bits
        short = self.double if bits == 8 else words.of(ir.IntType(32))
        self.sum = words.variable(words.constant(short, 0))
        self.even = words.variable(words.constant(self.pairs, 0))
        self.odd = words.variable(words.constant(self.pairs, 0))
        self.low = words.variable(words.constant(self.raw, 2**bits - 1))
        self.high = words.variable(words.constant(self.raw, 0))
        self.left_out = words.variable(words.constant(words.of(_BYTE), 0))

    def add(self, raw: Any, where: Where | None = None) -> None:
        words, builder = self.words, self.words.builder
        raw = builder.xor(raw, self.signs)
        words.update(self.low, lambda v: words.smaller(raw, v), where and where.lanes)
        if where is not None:
            raw = builder.select(where.lanes, raw, words.constant(self.raw, 0))
            words.update(self.left_out, lambda n: builder.add(n, where.others))
        words.update(self.high, lambda v: words.larger(raw, v))
        wide = builder.zext(raw, self.double)
        words.update(self.sum, lambda s: builder.add(s, wide))
        # Two neighbouring squares in a word twice as wide: taken apart without moving lanes.
        squares = builder.bitcast(builder.mul(wide, wide), self.pairs)
        first = words.constant(self.pairs, 2 ** (2 * self.bits) - 1)
        shift = words.constant(self.pairs, 2 * self.bits)
        words.update(self.even, lambda s: builder.add(s, builder.and_(squares, first)))
        words.update(self.odd, lambda s: builder.add(s, builder.lshr(squares, shift)))

    def end(self, rows: Any) -> None:
        words, builder, place = self.words, self.words.builder, self.place
        half = words.width // 2
        order = [k // 2 + half * (k % 2) for k in range(words.width)]
        pattern = ir.Constant(words.of(ir.IntType(32)), order)
        squares = builder.shuffle_vector(builder.load(self.even), builder.load(self.odd), pattern)
        place.add(SUM, builder.load(self.sum))
        place.add(SQUARES, squares)
        place.replace(LOW, lambda v, low: words.smaller(low, v), builder.load(self.low))
        place.replace(HIGH, lambda v, high: words.larger(high, v), builder.load(self.high))
        left_out = builder.zext(builder.load(self.left_out), words.of(_I64))
        place.add(VALID, builder.sub(words.splat(rows), left_out))


def _rows(*, narrow: bool) -> Any:
    """Build the intrinsic for rows of integers."""

    @intrinsic
    def add_rows(_: Any, x: Any, flip: Any, band: Any, mask: Any, omit: Any, acc: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data, signs, lines, bytes_, _, sums = arguments
            bits = x.dtype.bitwidth
            words = Vectors(context, builder, 8 * LINE // bits)
            words.read(
                data, Band(*cgutils.unpack_tuple(builder, lines)),  # type: ignore[no-untyped-call]
                lambda panel: _Sums(words, bits, signs, _Panel(words, sums, panel)),
                None if mask == types.none else bytes_, narrow=narrow,
            )  # fmt: skip
            return context.get_dummy_value()

        return types.void(x, types.int64, band, mask, omit, acc), generate

    return add_rows


def _add_plainly(
    x: Array, flip: int, band: tuple[int, ...], mask: Array | None, acc: Array, *, narrow: bool
) -> None:
    top = int(np.iinfo(x.dtype).max)
    for panel, raw, valid in rows_of(x, Band(*band), mask, narrow=narrow):
        place = acc.reshape(-1, FIELDS, raw.shape[1])[panel]
        values = raw.astype(np.int64) ^ flip
        some = np.where(valid, values, 0)
        place[SUM] += some.sum(0)
        place[SQUARES] += (some * some).sum(0)
        place[LOW] = np.minimum(place[LOW], np.where(valid, values, top).min(0))
        place[HIGH] = np.maximum(place[HIGH], some.max(0))
        place[VALID] += valid.sum(0)


def _add_rows_plainly(
    x: Array, flip: int, band: tuple[int, ...], mask: Array | None, omit: None, acc: Array
) -> None:
    """Add a band of ``x ^ flip`` to panels of `acc`; the rest as in `float_rows.add_rows`."""
    _add_plainly(x, flip, band, mask, acc, narrow=False)


def _add_narrow_rows_plainly(
    x: Array, flip: int, band: tuple[int, ...], mask: Array | None, omit: None, acc: Array
) -> None:
    """Add as `add_rows` does rows of fewer values than lanes, to the first lanes."""
    _add_plainly(x, flip, band, mask, acc, narrow=True)


add_rows: Any = _add_rows_plainly if JIT_OFF else _rows(narrow=False)
add_narrow_rows: Any = _add_narrow_rows_plainly if JIT_OFF else _rows(narrow=True)
