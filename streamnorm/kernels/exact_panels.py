"""What a panel of exact sums holds, and how it begins and ends a strip."""

from typing import Any

import numpy as np
from llvmlite import ir

from streamnorm.arrays import Array
from streamnorm.kernels.machine import JIT_OFF, LINE
from streamnorm.kernels.panels import Panel, over_panels
from streamnorm.kernels.vectors import Vectors
from streamnorm.kernels.windows import NOWHERE, Stored

__all__ = [
    "CEILING", "ENTRY", "FIELDS", "FLOOR", "HIGH", "LARGEST", "LOW", "MINUS", "NAN", "OTHERS",
    "PLUS", "ROWS", "SCALE", "SQUARES", "SUMS", "TOP", "begin", "finish", "words_of",
]  # fmt: skip

TOP, SCALE, FLOOR, CEILING, LOW, HIGH, OTHERS, ROWS = range(8)
NAN, PLUS, MINUS, LARGEST = range(8, 12)
SUMS, SQUARES = 12, 14
FIELDS = 18
"""Fields of `acc`. The top of the window and, made of it by `begin`, what a value is multiplied by,
one less than the smallest magnitude in the window, and the smallest above it. Smallest and largest
finite value; how many values of the ROWS (in the first lane) do not count. Of a survey: how many
values are NaN, +inf and -inf. The largest finite magnitude, or the largest below the window. What
stands on the rungs for sums and for squares, in units. Between `begin` and `finish` extremes and
OTHERS are as narrow as in `float_rows`; behind a survey they are not."""
ENTRY = 6
"""Words of an entry in the list of what was refused, which begins with their number: a panel, and
of its rows where they begin, how far apart they are, how many there are, how many values they have,
and how many the shorter row behind them has, or 0."""

_F64 = ir.DoubleType()
_I64 = ir.IntType(64)


def _begin(words: Vectors, stored: Stored, place: Panel) -> None:
    """Make a panel's window of its top, and the panel one without values."""
    builder, wide, form = words.builder, words.of(_I64), stored.format
    given = place.load(wide, TOP)
    nowhere = builder.icmp_signed("==", given, words.constant(wide, NOWHERE))
    top = builder.select(nowhere, words.constant(wide, form.most_top), given)

    def plus(number: int) -> Any:
        return builder.add(top, words.constant(wide, number))

    def bits(exponent: Any) -> Any:
        """Return the magnitude of a power of two, of which the biased exponent is given."""
        return builder.shl(exponent, words.constant(wide, form.fraction))

    down = builder.sub(words.constant(wide, 1023 + form.spare), top)
    # Powers below 2**-1022 are denormal: 2**-1023 and 2**-1024.
    denormal = builder.add(down, words.constant(wide, 51))
    is_normal = builder.icmp_signed(">", down, words.constant(wide, 0))
    scale = builder.select(
        is_normal,
        builder.shl(down, words.constant(wide, 52)),
        builder.shl(words.constant(wide, 1), denormal),
    )
    scale = builder.bitcast(scale, words.of(_F64))
    floor = builder.sub(bits(plus(form.bias - form.depth)), words.constant(wide, 1))
    lowest = builder.icmp_signed("==", top, words.constant(wide, form.least_top))
    floor = builder.select(builder.or_(lowest, nowhere), words.constant(wide, 0), floor)
    # The highest of windows side by side may reach beyond the largest numbers.
    beyond = builder.icmp_signed(">", top, words.constant(wide, form.most_top))
    infinity = words.constant(wide, stored.infinity)
    ceiling = builder.select(beyond, infinity, bits(plus(form.bias)))
    ceiling = builder.select(nowhere, words.constant(wide, 2 * stored.sign - 1), ceiling)
    place.clear(range(SCALE, FIELDS))
    place.store(builder.fptrunc(scale, stored.scale_kind), SCALE)
    for value, field in ((floor, FLOOR), (ceiling, CEILING)):
        place.store(builder.trunc(value, stored.bits), field)
    place.store(stored.numbers.highest, LOW)
    place.store(stored.numbers.lowest, HIGH)


def _finish(words: Vectors, stored: Stored, place: Panel) -> None:
    """Make what a panel holds float64 and int64."""
    for field in (LOW, HIGH):
        place.store(stored.numbers.number(place.load(stored.numbers.compared, field)), field)
    others = place.load(words.of(ir.IntType(32)), OTHERS)
    place.store(words.builder.zext(others, words.of(_I64)), OTHERS)


def words_of(context: Any, builder: Any, kind: Any) -> tuple[Vectors, Stored]:
    """Return vectors of one cache line of values, and how those are read."""
    words = Vectors(context, builder, 8 * LINE // kind.bitwidth)
    return words, Stored(words, kind)


def _begin_plainly(x: Array, acc: Array, panels: int) -> None:
    """Make all panels those of no values; their tops stay."""
    place = acc.reshape(-1, FIELDS, LINE // x.itemsize)
    place[:, SCALE:] = 0
    ends = place.view(np.float64)
    ends[:, LOW] = np.inf
    ends[:, HIGH] = -np.inf


def _finish_plainly(x: Array, acc: Array, panels: int) -> None:
    """Do nothing: plain panels hold float64 and int64 all along."""


begin: Any = _begin_plainly if JIT_OFF else over_panels(_begin, words_of, FIELDS)
finish: Any = _finish_plainly if JIT_OFF else over_panels(_finish, words_of, FIELDS)
