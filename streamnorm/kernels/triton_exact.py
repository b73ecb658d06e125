"""For the GPU: exact sums of float16, bfloat16 and float32, window by window.

What `kernels.windows` and `kernels.ladders` say of the CPU's kernels, in the shapes of the GPU's: a
program guesses from its first tile how large values are. In one reading it adds up all values that
lie in a window there, in float64 and without an error, and looks for extremes and for the largest
value outside; and so on with further windows, while there are values outside. Every window's sums
are added, as integers, to limbs in memory.
"""

import triton
import triton.language as tl

from streamnorm.kernels.schemes import SHORT
from streamnorm.kernels.triton_limbs import (
    BIAS,
    MAGNITUDE,
    REST_UNIT,
    SQUARE_UNIT,
    UNIT,
    WORDS,
    key,
    put_counts,
    put_odd,
    put_sums,
)
from streamnorm.kernels.triton_tiles import (
    ALL,
    LANES,
    OF_KIND,
    add_up,
    channels_of,
    load,
    number,
    piece_of,
    put,
    values_of,
)

__all__ = ["MOST_OF_A_PLACE", "MOST_VALUES", "sum_floats"]

MOST_VALUES = 1 << 17
"""Of a program: their sum stays below 2**63 units of a window."""
MOST_OF_A_PLACE = 1 << 8
"""Then the sum has 8 + 45 bits, which float64 holds, and squares stay on their rung's start."""

_SPAN = tl.constexpr(SHORT.span)
_START = tl.constexpr(2.0 ** (52 + SHORT.squares[0]))
"""Where the upper rung of squares starts: there float64 are one of its units apart."""
_INFINITY = tl.constexpr(0x7F800000)
_LARGEST = tl.constexpr(254)
"""The biased exponent of the largest numbers."""
_PLUS, _MINUS = tl.constexpr(1 << 10), tl.constexpr(1 << 20)
"""NaN and infinities of a place, at most `MOST_OF_A_PLACE` of each, are counted in one number."""
_COUNTED = tl.constexpr((1 << 10) - 1)
_STORED, _MASKED = tl.constexpr(0), tl.constexpr(1)
"""Of what a tile is added by."""


@triton.jit
def _magnitude(value):
    """Return the bits of absolute values, which are in their order."""
    return value.to(tl.int32, bitcast=True) & MAGNITUDE


@triton.jit
def _add_values(value, keep, sums, window):
    """Add the values in a window, and note the largest of the others."""
    s, q, rest, left = sums
    lowest, above, scale = window
    magnitude = _magnitude(value)
    inside = (magnitude >= lowest) & (magnitude < above)
    left = tl.maximum(left, tl.where(keep & (inside == 0), magnitude, 0))
    y = tl.where(keep & inside, value, 0.0).to(tl.float64) * scale
    after = tl.fma(y, y, q)
    return s + y, after, rest + tl.fma(y, y, q - after), left


@triton.jit
def _add_first(raw, keep, sums, window, HOW: tl.constexpr):
    """Count a tile and note its extremes, NaN if a NaN counts; add what lies in the window."""
    n, lo, hi, sums_in = sums
    value = number(raw, HOW[_STORED])
    if HOW[_MASKED]:
        n += keep.to(tl.int32)
    lo = tl.minimum(lo, tl.where(keep, value, float("inf")), propagate_nan=ALL)
    hi = tl.maximum(hi, tl.where(keep, value, float("-inf")), propagate_nan=ALL)
    return n, lo, hi, _add_values(value, keep, sums_in, window)


@triton.jit
def _add_odd(raw, keep, sums, window, HOW: tl.constexpr):
    """Count NaN and infinities; of the other values note extremes, and the largest outside."""
    odd, lo, hi, left = sums
    lowest, above = window
    value = number(raw, HOW[_STORED])
    finite = keep & (value - value == 0.0)
    sort = tl.where(value == float("inf"), _PLUS, tl.where(value < 0.0, _MINUS, 1))
    odd += tl.where(keep & (finite == 0), sort, 0)
    lo = tl.minimum(lo, tl.where(finite, value, float("inf")))
    hi = tl.maximum(hi, tl.where(finite, value, float("-inf")))
    magnitude = _magnitude(value)
    outside = finite & ((magnitude < lowest) | (magnitude >= above))
    return odd, lo, hi, tl.maximum(left, tl.where(outside, magnitude, 0))


@triton.jit
def _add_further(raw, keep, sums, window, HOW: tl.constexpr):
    """Add what lies in a further window: all that is below the last one, but for the first."""
    lowest, above, scale, first, end = window
    value = number(raw, HOW[_STORED])
    magnitude = _magnitude(value)
    keep = keep & (magnitude < above) & ((magnitude < first) | (magnitude >= end))
    return _add_values(value, keep, sums, (lowest, above, scale))


@triton.jit
def _nothing(R: tl.constexpr, W: tl.constexpr):
    """Return the sums of a window without values."""
    zero = tl.zeros((R, W), tl.float64)
    return zero, zero + _START, zero, tl.zeros((R, W), tl.int32)


@triton.jit
def _whole(sums):
    """Return sums as integers, of every lane."""
    s, q, rest, left = sums
    return (
        tl.sum((s * 2.0**-UNIT).to(tl.int64), 0),
        tl.sum(((q - _START) * 2.0**-SQUARE_UNIT).to(tl.int64), 0),
        tl.sum((rest * 2.0**-REST_UNIT).to(tl.int64), 0),
        tl.max(left, 0),
    )


@triton.jit
def _window(exponent, FRACTION: tl.constexpr, LEAST: tl.constexpr):
    """Return a window up to a biased exponent: its lowest bits, those above it, and the exponent.

    `LEAST` is the exponent of the lowest window, which has no lower end.
    """
    exponent = tl.minimum(tl.maximum(exponent, LEAST), _LARGEST)
    lowest = tl.where(exponent == LEAST, 0, (exponent - (_SPAN - FRACTION - 1)) << 23)
    return lowest, (exponent + 1) << 23, exponent


@triton.jit
def _scale(exponent):
    """Return what brings the values of a window below 1."""
    return ((exponent * -1 + (1023 + BIAS)).to(tl.int64) << 52).to(tl.float64, bitcast=True)


@triton.jit
def _guess(piece, STORED: tl.constexpr, FORM: tl.constexpr):
    """Return the largest exponent in the first tile, of a program or of every lane, (W,)."""
    raw, keep = load(piece, piece[3], True, FORM)
    magnitude = _magnitude(number(raw, STORED))
    magnitude = tl.max(tl.where(keep & (magnitude < _INFINITY), magnitude, 0), 0)
    if FORM[OF_KIND] != LANES:
        magnitude = magnitude * 0 + tl.max(magnitude, 0)
    return magnitude >> 23


@triton.jit
def sum_floats(
    x, valid, out, channels, inner, blocks, per, inverse, shift, used, total, each, size,
    KIND: tl.constexpr, CHANNELS: tl.constexpr, STORED: tl.constexpr, MASKED: tl.constexpr,
    EVEN: tl.constexpr, FRACTION: tl.constexpr, LEAST: tl.constexpr, AHEAD: tl.constexpr,
    R: tl.constexpr, W: tl.constexpr,
):  # fmt: skip
    """Add the rows of one program to the records of its channels, int64 (C, words), zeros at first.

    The first window ends `AHEAD` powers of two above the first tile's values.
    """
    FORM: tl.constexpr = (KIND, MASKED, EVEN, R, W)
    HOW: tl.constexpr = (STORED, MASKED)
    piece = piece_of(
        x, valid, channels, inner, blocks, per, inverse, shift, used, total, each, size
    )
    _, _, room = channels_of(piece, FORM)
    high = tl.full((R, W), float("inf"), tl.float32)
    zero = tl.zeros((R, W), tl.int32)

    begin, end, exponent = _window(_guess(piece, STORED, FORM) + AHEAD, FRACTION, LEAST)
    window = begin[None, :], end[None, :], _scale(exponent)[None, :]
    sums = zero, high, -high, _nothing(R, W)
    n, places_lo, places_hi, inside = add_up(_add_first, HOW, sums, window, piece, FORM)
    s, q, rest, left = _whole(inside)
    odd = (places_lo - places_lo != 0.0) | (places_hi - places_hi != 0.0)
    # Not where no value counts: there they have changed places.
    odd = odd & ((places_lo > places_hi) == 0)
    if tl.max((room & (tl.max(odd.to(tl.int32), 0) > 0)).to(tl.int32), 0) > 0:
        counts, places_lo, places_hi, outside = add_up(
            _add_odd, HOW, (zero, high, -high, zero), (begin[None, :], end[None, :]), piece, FORM
        )
        nan, plus, minus = counts & _COUNTED, (counts >> 10) & _COUNTED, counts >> 20
        left = tl.max(outside, 0)
        of_lanes = (
            tl.sum(nan, 0).to(tl.int64), tl.sum(plus, 0).to(tl.int64),
            tl.sum(minus, 0).to(tl.int64),
        )  # fmt: skip
        put(put_odd, HOW, out, WORDS, (), of_lanes, (), piece, FORM, CHANNELS)
    if MASKED:
        count = tl.sum(n, 0).to(tl.int64)
    else:
        count = values_of(piece, FORM)
    ends = key(-tl.min(places_lo, 0)), key(tl.max(places_hi, 0))
    put(put_counts, HOW, out, WORDS, (), (count,), ends, piece, FORM, CHANNELS)
    put(put_sums, HOW, out, WORDS, (), (s, q, rest), (exponent,), piece, FORM, CHANNELS)

    above = tl.full((W,), _INFINITY, tl.int32)
    left = tl.where(room, left, 0)
    while tl.max(left, 0) > 0:
        if KIND != LANES:
            # One window for all lanes of a program: their sums are put together.
            left = left * 0 + tl.max(left, 0)
        lowest, _, exponent = _window(left >> 23, FRACTION, LEAST)
        scale = _scale(exponent)[None, :]
        below = lowest[None, :], above[None, :], scale, begin[None, :], end[None, :]
        further = add_up(_add_further, HOW, _nothing(R, W), below, piece, FORM)
        s, q, rest, left = _whole(further)
        put(put_sums, HOW, out, WORDS, (), (s, q, rest), (exponent,), piece, FORM, CHANNELS)
        above = lowest
        left = tl.where(room, left, 0)
