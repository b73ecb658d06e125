"""The innermost loop over 8- and 16-bit integers: rows of lanes -> exact sums per lane.

All are read as unsigned: a signed integer with its highest bit flipped is the number plus half of
the range, which the caller takes out of the sums again. Squares are taken at twice the width of the
data and summed at twice that. A call has at most `boxes.MOST_TILE_ROWS` rows and one, 255: sums of
8-bit numbers stay within 16 bits (up to 257 rows), and a byte counts what is left out.
"""

from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from streamnorm.arrays import Array
from streamnorm.kernels.machine import JIT_OFF, LINE
from streamnorm.kernels.panels import Panel, over_panels
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
    "begin",
    "finish",
]

SUM, SQUARES, LOW, HIGH, VALID, ROWS = range(6)
FIELDS = 6
"""Fields of `acc`: sum, sum of squares, smallest, largest, how many are valid; all int64. Between
`begin` and `finish` they are as narrow as what they hold, sums and squares lie in the order in
which they were gathered, VALID tells how many values are not, and ROWS, in the first lane, how many
rows there were."""

_BYTE = ir.IntType(8)
_I64 = ir.IntType(64)


class _Sums:
    """What one call gathers in a panel, in registers, for data of `bits` bits."""

    def __init__(self, words: Vectors, bits: int, flip: Any, place: Panel) -> None:
        self.words = words
        self.place = place
        self.bits = bits
        self.signs = words.splat(words.builder.trunc(flip, ir.IntType(bits)))
        self.raw = words.of(ir.IntType(bits))
        self.pairs = words.of(ir.IntType(2 * bits), words.width // 2)
        self.fours = words.of(ir.IntType(4 * bits), words.width // 4)
        self.low = words.variable(place.load(self.raw, LOW))
        self.high = words.variable(place.load(self.raw, HIGH))
        self.left_out = words.variable(words.constant(words.of(_BYTE), 0))
        self.sums = [words.variable(words.constant(self.pairs, 0)) for _ in range(2)]
        self.squares = [words.variable(words.constant(self.fours, 0)) for _ in range(4)]

    def add(self, raw: Any, where: Where | None = None) -> None:
        words, builder = self.words, self.words.builder
        raw = builder.xor(raw, self.signs)
        words.update(self.low, lambda v: words.smaller(raw, v), where and where.lanes)
        if where is not None:
            raw = builder.select(where.lanes, raw, words.constant(self.raw, 0))
            words.update(self.left_out, partial(builder.add, where.others))
        words.update(self.high, lambda v: words.larger(raw, v))
        for k, numbers in enumerate(self._widened(raw)):
            words.update(self.sums[k], partial(builder.add, numbers))
            squares = builder.bitcast(builder.mul(numbers, numbers), self.fours)
            upper = builder.lshr(squares, words.constant(self.fours, 2 * self.bits))
            words.update(self.squares[2 * k], partial(builder.add, squares))
            words.update(self.squares[2 * k + 1], partial(builder.add, upper))

    def _widened(self, raw: Any) -> tuple[Any, Any]:
        """Return the lanes in two vectors twice as wide, each lane where `_seat` says.

        Squares of 16 bits keep the unit busy that also shifts: there lanes are moved instead, by
        another one (0.92 of reading; by shifting 0.65).
        """
        words, builder = self.words, self.words.builder
        if self.bits == 16:
            wide = builder.zext(raw, words.of(self.pairs.element))
            half = words.width // 2
            first, second = range(half), range(half, words.width)
            return words.shuffled(wide, wide, first), words.shuffled(wide, wide, second)
        pairs = builder.bitcast(raw, self.pairs)
        even = builder.and_(pairs, words.constant(self.pairs, 2**self.bits - 1))
        return even, builder.lshr(pairs, words.constant(self.pairs, self.bits))

    def end(self, rows: Any) -> None:
        words, load, place = self.words, self.words.builder.load, self.place
        place.count(words.joined([load(part) for part in self.sums]), SUM, _sum_of(self.bits))
        place.count(words.joined(self._squares()), SQUARES, _I64)
        place.store(load(self.low), LOW)
        place.store(load(self.high), HIGH)
        place.count(load(self.left_out), VALID)
        place.count_rows(rows, ROWS)

    def _squares(self) -> list[Any]:
        """Take the upper squares out of sums that hold both.

        Those may have overflowed; the lower ones alone have not, so what is left is right modulo
        the word.
        """
        builder = self.words.builder
        parts = [builder.load(part) for part in self.squares]
        shift = self.words.constant(self.fours, 2 * self.bits)
        for k in (0, 2):
            parts[k] = builder.sub(parts[k], builder.shl(parts[k + 1], shift))
        return parts


def _sum_of(bits: int) -> Any:
    """Return the type that holds a lane's sum over a box, of at most 2**20 values."""
    return ir.IntType(32) if bits == 8 else _I64


def _seat(lane: int, lanes: int, bits: int) -> tuple[int, int]:
    """Return in which of the two halves of a widened row a lane is, and where."""
    if bits == 16:
        return divmod(lane, lanes // 2)
    return lane % 2, lane // 2


def _begin(words: Vectors, bits: int, place: Panel) -> None:
    raw = words.of(ir.IntType(bits))
    place.clear(range(FIELDS))
    place.store(words.constant(raw, 2**bits - 1), LOW)


def _finish(words: Vectors, bits: int, place: Panel) -> None:
    builder, wide = words.builder, words.of(_I64)
    raw = words.of(ir.IntType(bits))
    for kind, field in ((words.of(_sum_of(bits)), SUM), (raw, LOW), (raw, HIGH)):
        place.store(builder.zext(place.load(kind, field), wide), field)
    others = builder.zext(place.load(words.of(ir.IntType(32)), VALID), wide)
    place.store(builder.sub(place.rows(ROWS), others), VALID)
    half, quarter = words.width // 2, words.width // 4
    seats = [_seat(lane, words.width, bits) for lane in range(words.width)]
    sums = [part * half + k for part, k in seats]
    squares = [(2 * part + k % 2) * quarter + k // 2 for part, k in seats]
    for field, order in ((SUM, sums), (SQUARES, squares)):
        gathered = place.load(wide, field)
        place.store(words.shuffled(gathered, gathered, order), field)


def _words_of(context: Any, builder: Any, kind: Any) -> tuple[Vectors, int]:
    return Vectors(context, builder, 8 * LINE // kind.bitwidth), kind.bitwidth


def _rows(*, narrow: bool) -> Any:
    """Build the intrinsic for rows of integers."""

    @intrinsic
    def add_rows(_: Any, x: Any, flip: Any, band: Any, mask: Any, omit: Any, acc: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data, signs, lines, bytes_, _, sums = arguments
            words, bits = _words_of(context, builder, x.dtype)
            words.read(
                data, Band(*cgutils.unpack_tuple(builder, lines)),  # type: ignore[no-untyped-call]
                lambda panel: _Sums(words, bits, signs, Panel(words, sums, panel, FIELDS)),
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


def _begin_plainly(x: Array, acc: Array, panels: int) -> None:
    """Make all panels those of no values."""
    place = acc.reshape(-1, FIELDS, LINE // x.itemsize)
    place[:] = 0
    place[:, LOW] = np.iinfo(x.dtype).max


def _finish_plainly(x: Array, acc: Array, panels: int) -> None:
    """Do nothing: plain panels hold int64 all along."""


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


begin: Any = _begin_plainly if JIT_OFF else over_panels(_begin, _words_of, FIELDS)
finish: Any = _finish_plainly if JIT_OFF else over_panels(_finish, _words_of, FIELDS)
add_rows: Any = _add_rows_plainly if JIT_OFF else _rows(narrow=False)
add_narrow_rows: Any = _add_narrow_rows_plainly if JIT_OFF else _rows(narrow=True)
