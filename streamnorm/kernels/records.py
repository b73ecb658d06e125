"""Compiled: integers added to the limbs of records, whose words are all of 64 bits.

An addition changes a limb by less than 2**32. To a box belong fewer than 2**21 values of a channel
(2**20, and a tail), and each is added at most once for each of at most 57 windows, on at most 4
rungs: fewer than 2**29 additions come before the limbs are carried at the box's end, and none
leaves its 64 bits.
"""

from typing import Any

from numba.core import types
from numba.extending import intrinsic

from streamnorm.arrays import Array
from streamnorm.kernels.compiled import jit_part
from streamnorm.kernels.machine import JIT_OFF, pointer
from streamnorm.kernels.windows import format_of
from streamnorm.limbs import LIMB_BITS, NARROW, WIDE

__all__ = [
    "BIAS",
    "COUNT",
    "DEPTH",
    "EXPONENT",
    "FRACTION",
    "LEAST_TOP",
    "LIMBS",
    "MINUS",
    "MOST_TOP",
    "NAN",
    "NARROW_FORM",
    "PLUS",
    "SQUARE_LIMBS",
    "SQUARE_RUNGS",
    "SUM_LIMBS",
    "SUM_RUNGS",
    "UNITS",
    "WORDS",
    "add_integer",
    "carry_records",
    "close_records",
    "form_of",
    "note_extremes",
    "open_records",
]

COUNT, _, NAN, PLUS, MINUS, LEAST, MOST, _, _, LIMBS = range(10)
"""Words of a record, as in `streamnorm.limbs.Grid`; but while a kernel works, its extremes are
integers in the order of the numbers."""

(
    FRACTION, BIAS, DEPTH, LEAST_TOP, MOST_TOP, SUM_RUNGS, SQUARE_RUNGS,
    EXPONENT, SUM_LIMBS, SQUARE_LIMBS, WORDS,
) = range(11)  # fmt: skip
UNITS = 11
"""What `form_of` tells of a dtype: its format, as in `windows.Format`; how many rungs there are;
its grid; and from UNITS on the exponents of the rungs' units, sums first."""

_MASK = (1 << LIMB_BITS) - 1
_ORDER = (1 << 63) - 1
_NAN = 0x7FF8 << 48
_HIGHEST = 0x7FF0 << 48
_LOWEST = _HIGHEST ^ -1
"""Both infinities, in the order of the numbers."""


def _form(dtype: Any) -> tuple[int, ...]:
    form, grid = format_of(dtype), WIDE if str(dtype) == "float64" else NARROW
    scheme = form.scheme
    return (
        form.fraction, form.bias, form.depth, form.least_top, form.most_top,
        len(scheme.sums), len(scheme.squares),
        grid.exponent, grid.limbs, grid.square_limbs, grid.dtype.itemsize // 8,
        *scheme.sums, *scheme.squares,
    )  # fmt: skip


NARROW_FORM = (0,) * EXPONENT + (
    NARROW.exponent, NARROW.limbs, NARROW.square_limbs, NARROW.dtype.itemsize // 8
)  # fmt: skip
"""What concerns the grid alone."""


@intrinsic
def _form_of(_: Any, x: Any) -> Any:
    numbers = _form(x.dtype)
    kind = types.UniTuple(types.int64, len(numbers))  # type: ignore[no-untyped-call]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        constants = [context.get_constant(types.int64, number) for number in numbers]
        return context.make_tuple(builder, kind, constants)

    return kind(x), generate


def _form_of_plainly(x: Array) -> tuple[int, ...]:
    """Return what is known of the dtype of an array."""
    return _form(x.dtype)


form_of: Any = _form_of_plainly if JIT_OFF else _form_of


@jit_part
def add_integer(words: Any, start: int, value: int, position: int) -> None:
    """Add ``value * 2**position`` to limbs from ``words[start]`` on."""
    at = start + position // LIMB_BITS
    shift = position % LIMB_BITS
    words[at] += (value << shift) & _MASK
    words[at + 1] += (value >> (LIMB_BITS - shift)) & _MASK
    # By less than 64 at a time.
    words[at + 2] += (value >> (2 * LIMB_BITS - 1 - shift)) >> 1


@jit_part
def carry_records(words: Any, first: int, channels: int, form: Any) -> None:
    """Carry the limbs of some records."""
    for c in range(first, first + channels):
        at = c * form[WORDS] + LIMBS
        for size in (form[SUM_LIMBS], form[SQUARE_LIMBS]):
            for k in range(at, at + size - 1):
                over = words[k] >> LIMB_BITS
                words[k] -= over << LIMB_BITS
                words[k + 1] += over
            at += size


@jit_part
def open_records(words: Any, channels: int, form: Any) -> None:
    """Make extremes of records integers in the order of the numbers."""
    for c in range(channels):
        at = c * form[WORDS]
        known = words[at + COUNT] > 0 and words[at + LEAST] != _NAN
        words[at + LEAST] = ordered(words[at + LEAST]) if known else _HIGHEST
        words[at + MOST] = ordered(words[at + MOST]) if known else _LOWEST


@jit_part
def close_records(rows: Array, form: Any) -> None:
    """Add all rows of records to the first, and make its extremes float64 again, NaN for none."""
    channels = rows.shape[1] // form[WORDS]
    total = rows[0]
    for row in rows[1:]:
        for c in range(channels):
            at = c * form[WORDS]
            # Rows of workers that never came are zeros, extremes too.
            if row[at + COUNT] == 0:
                continue
            for k in range(at, at + form[WORDS]):
                if k == at + LEAST:
                    total[k] = min(total[k], row[k])
                elif k == at + MOST:
                    total[k] = max(total[k], row[k])
                else:
                    total[k] += row[k]
    for c in range(channels):
        at = c * form[WORDS]
        some = total[at + LEAST] <= total[at + MOST]
        for k in (at + LEAST, at + MOST):
            # -0.0 is stored as 0.0.
            total[k] = (ordered(total[k]) if total[k] != -1 else 0) if some else _NAN
    carry_records(pointer(rows), 0, channels, form)


@jit_part
def ordered(bits: int) -> int:
    """Return the bits of a float64 as an integer in the order of the numbers; of that, the bits."""
    return bits ^ ((bits >> 63) & _ORDER)


@jit_part
def note_extremes(words: Any, record: int, low: int, high: int) -> None:
    """Note the extremes of a part of a channel's values, given as bits of float64."""
    words[record + LEAST] = min(words[record + LEAST], ordered(low))
    words[record + MOST] = max(words[record + MOST], ordered(high))
