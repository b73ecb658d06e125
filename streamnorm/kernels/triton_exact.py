"""For the GPU: exact sums of float16, bfloat16 and float32, window by window.

What `kernels.windows` and `kernels.ladders` say of the CPU's kernels, in the shapes of the GPU's: a
program first looks at its rows, for the largest value; then it adds up all values that lie in the
window below that, in float64 and without an error, and adds what it has, as integers, to limbs in
memory; and so on with the next window, while there are smaller values. Integers make the order of
programs irrelevant.
"""

import triton
import triton.language as tl

from streamnorm.kernels import raw
from streamnorm.kernels.schemes import SHORT
from streamnorm.kernels.triton_tiles import (
    ALL,
    LANES,
    channels_of,
    checked_from,
    lanes_of,
    load,
    load_four,
    number,
    values_of,
)
from streamnorm.limbs import COUNTS, LIMB_BITS, NARROW

__all__ = ["sum_floats"]

_SPAN = tl.constexpr(SHORT.span)
_UNIT = tl.constexpr(SHORT.sums[0])
_SQUARE_UNIT, _REST_UNIT = (tl.constexpr(unit) for unit in SHORT.squares)
_START = tl.constexpr(2.0 ** (52 + SHORT.squares[0]))
"""Where the upper rung of squares starts: there float64 are one of its units apart."""
_EXPONENT = tl.constexpr(NARROW.exponent)
_WORDS = tl.constexpr(NARROW.dtype.itemsize // 8)
_EXTREMES = tl.constexpr(len(COUNTS))
_SUMS = tl.constexpr(len(COUNTS) + 4)
_SQUARES = tl.constexpr(len(COUNTS) + 4 + NARROW.limbs)
_KEY = tl.constexpr(raw.KEY)
_LIMB = tl.constexpr((1 << LIMB_BITS) - 1)
_INFINITY = tl.constexpr(0x7F800000)
_MAGNITUDE = tl.constexpr(0x7FFFFFFF)
_PLUS, _MINUS = tl.constexpr(1 << 10), tl.constexpr(1 << 20)
"""NaN and infinities of a place, at most 128 of each, are counted in one number."""
_COUNTED = tl.constexpr((1 << 10) - 1)


@triton.jit
def _survey(
    x, valid, first, last, block, channels, inner, per, used, size,
    KIND: tl.constexpr, STORED: tl.constexpr, MASKED: tl.constexpr, EVEN: tl.constexpr,
    R: tl.constexpr, W: tl.constexpr,
):  # fmt: skip
    """Return of every place its extremes, NaN if a NaN counts, and how many values count."""
    n = tl.zeros((R, W), tl.int32)
    lo = tl.full((R, W), float("inf"), tl.float32)
    hi = tl.full((R, W), float("-inf"), tl.float32)
    checked = checked_from(first, last, used, size, KIND, EVEN, 4 * R)
    if checked > first:
        raw0, raw1, raw2, raw3, keep0, keep1, keep2, keep3 = load_four(
            x, valid, first, last, block, channels, inner, per, used, size, KIND, MASKED, R, W
        )
        for start in range(first, checked, 4 * R):
            ahead = tl.minimum(start + 4 * R, checked - 4 * R)
            more0, more1, more2, more3, of0, of1, of2, of3 = load_four(
                x, valid, ahead, last, block, channels, inner, per, used, size,
                KIND, MASKED, R, W,
            )  # fmt: skip
            n, lo, hi = _survey_tile(raw0, keep0, n, lo, hi, STORED, MASKED)
            n, lo, hi = _survey_tile(raw1, keep1, n, lo, hi, STORED, MASKED)
            n, lo, hi = _survey_tile(raw2, keep2, n, lo, hi, STORED, MASKED)
            n, lo, hi = _survey_tile(raw3, keep3, n, lo, hi, STORED, MASKED)
            raw0, raw1, raw2, raw3 = more0, more1, more2, more3
            keep0, keep1, keep2, keep3 = of0, of1, of2, of3
    for start in range(checked, last, R):
        raw, keep = load(
            x, valid, start, last, block, channels, inner, per, used, size,
            KIND, MASKED, True, R, W,
        )  # fmt: skip
        n, lo, hi = _survey_tile(raw, keep, n, lo, hi, STORED, MASKED)
    return n, lo, hi


@triton.jit
def _survey_tile(raw, keep, n, lo, hi, STORED: tl.constexpr, MASKED: tl.constexpr):
    value = number(raw, STORED)
    if MASKED:
        n += keep.to(tl.int32)
    lo = tl.minimum(lo, tl.where(keep, value, float("inf")), propagate_nan=ALL)
    hi = tl.maximum(hi, tl.where(keep, value, float("-inf")), propagate_nan=ALL)
    return n, lo, hi


@triton.jit
def _survey_odd(
    x, valid, first, last, block, channels, inner, per, used, size,
    KIND: tl.constexpr, STORED: tl.constexpr, MASKED: tl.constexpr,
    R: tl.constexpr, W: tl.constexpr,
):  # fmt: skip
    """Return of every place how many values are odd, of each sort, and the others' extremes."""
    odd = tl.zeros((R, W), tl.int32)
    lo = tl.full((R, W), float("inf"), tl.float32)
    hi = tl.full((R, W), float("-inf"), tl.float32)
    for start in range(first, last, R):
        raw, keep = load(
            x, valid, start, last, block, channels, inner, per, used, size,
            KIND, MASKED, True, R, W,
        )  # fmt: skip
        value = number(raw, STORED)
        finite = keep & (value - value == 0.0)
        sort = tl.where(value == float("inf"), _PLUS, tl.where(value < 0.0, _MINUS, 1))
        odd += tl.where(keep & (finite == 0), sort, 0)
        lo = tl.minimum(lo, tl.where(finite, value, float("inf")))
        hi = tl.maximum(hi, tl.where(finite, value, float("-inf")))
    return odd, lo, hi


@triton.jit
def _add_tile(raw, keep, lowest, above, scale, s, q, rest, largest, STORED: tl.constexpr):
    value = number(raw, STORED)
    magnitude = value.to(tl.int32, bitcast=True) & _MAGNITUDE
    keep = keep & (magnitude < above)
    inside = keep & (magnitude >= lowest)
    largest = tl.maximum(largest, tl.where(keep & (magnitude < lowest), magnitude, 0))
    y = tl.where(inside, value, 0.0).to(tl.float64) * scale
    after = tl.fma(y, y, q)
    return s + y, after, rest + tl.fma(y, y, q - after), largest


@triton.jit
def _add_window(
    x, valid, first, last, block, channels, inner, per, used, size, lowest, above, scale,
    KIND: tl.constexpr, STORED: tl.constexpr, MASKED: tl.constexpr, EVEN: tl.constexpr,
    R: tl.constexpr, W: tl.constexpr,
):  # fmt: skip
    """Return, as integers, the sums of values from `lowest` to `above`, and the next largest."""
    s = tl.zeros((R, W), tl.float64)
    q = tl.full((R, W), _START, tl.float64)
    rest = tl.zeros((R, W), tl.float64)
    largest = tl.zeros((R, W), tl.int32)
    checked = checked_from(first, last, used, size, KIND, EVEN, 4 * R)
    if checked > first:
        raw0, raw1, raw2, raw3, keep0, keep1, keep2, keep3 = load_four(
            x, valid, first, last, block, channels, inner, per, used, size, KIND, MASKED, R, W
        )
        for start in range(first, checked, 4 * R):
            ahead = tl.minimum(start + 4 * R, checked - 4 * R)
            more0, more1, more2, more3, of0, of1, of2, of3 = load_four(
                x, valid, ahead, last, block, channels, inner, per, used, size,
                KIND, MASKED, R, W,
            )  # fmt: skip
            s, q, rest, largest = _add_tile(
                raw0, keep0, lowest, above, scale, s, q, rest, largest, STORED
            )
            s, q, rest, largest = _add_tile(
                raw1, keep1, lowest, above, scale, s, q, rest, largest, STORED
            )
            s, q, rest, largest = _add_tile(
                raw2, keep2, lowest, above, scale, s, q, rest, largest, STORED
            )
            s, q, rest, largest = _add_tile(
                raw3, keep3, lowest, above, scale, s, q, rest, largest, STORED
            )
            raw0, raw1, raw2, raw3 = more0, more1, more2, more3
            keep0, keep1, keep2, keep3 = of0, of1, of2, of3
    for start in range(checked, last, R):
        raw, keep = load(
            x, valid, start, last, block, channels, inner, per, used, size,
            KIND, MASKED, True, R, W,
        )  # fmt: skip
        s, q, rest, largest = _add_tile(
            raw, keep, lowest, above, scale, s, q, rest, largest, STORED
        )
    return (
        tl.sum((s * 2.0**-_UNIT).to(tl.int64), 0),
        tl.sum(((q - _START) * 2.0**-_SQUARE_UNIT).to(tl.int64), 0),
        tl.sum((rest * 2.0**-_REST_UNIT).to(tl.int64), 0),
        tl.max(largest, 0),
    )


@triton.jit
def _put(limbs, whole, exponent, some):
    """Add ``whole * 2**exponent`` to limbs, of which the first has exponent 0."""
    limb = limbs + (exponent >> 5)
    shift = (exponent & 31).to(tl.int64)
    low = (whole & _LIMB) << shift
    high = ((whole >> 32) << shift) + (low >> 32)
    some = some & (whole != 0)
    tl.atomic_add(limb, low & _LIMB, mask=some, sem="relaxed")
    tl.atomic_add(limb + 1, high & _LIMB, mask=some, sem="relaxed")
    tl.atomic_add(limb + 2, high >> 32, mask=some, sem="relaxed")


@triton.jit
def _put_sums(record, s, q, rest, top, some):
    sums = record + _SUMS
    squares = record + _SQUARES
    _put(sums, s, top + (_UNIT - _EXPONENT), some)
    _put(squares, q, 2 * top + (_SQUARE_UNIT - 2 * _EXPONENT), some)
    _put(squares, rest, 2 * top + (_REST_UNIT - 2 * _EXPONENT), some)


@triton.jit
def _key(x):
    """Return the key of a finite number; see `kernels.raw`."""
    bits = x.to(tl.int32, bitcast=True)
    return (bits ^ ((bits >> 31) & _MAGNITUDE)).to(tl.int64) + _KEY


@triton.jit
def _put_counts(record, n, nan, plus, minus, lo, hi, some):
    some = some & (n > 0)
    tl.atomic_add(record, n, mask=some, sem="relaxed")
    tl.atomic_add(record + 2, nan, mask=some & (nan > 0), sem="relaxed")
    tl.atomic_add(record + 3, plus, mask=some & (plus > 0), sem="relaxed")
    tl.atomic_add(record + 4, minus, mask=some & (minus > 0), sem="relaxed")
    finite = some & (n > nan + plus + minus)
    tl.atomic_max(record + _EXTREMES, _key(-lo), mask=finite, sem="relaxed")
    tl.atomic_max(record + _EXTREMES + 1, _key(hi), mask=finite, sem="relaxed")


@triton.jit
def sum_floats(
    x, valid, out, channels, inner, blocks, per, used, total, each, size, parts,
    KIND: tl.constexpr, CHANNELS: tl.constexpr, STORED: tl.constexpr, MASKED: tl.constexpr,
    EVEN: tl.constexpr, FRACTION: tl.constexpr, LEAST: tl.constexpr,
    R: tl.constexpr, W: tl.constexpr,
):  # fmt: skip
    """Add the rows of one program to the records of its channels, int64 (C, words), zeros at first.

    `LEAST` is the biased exponent of the lowest window, which has no lower end.
    """
    block = tl.program_id(0) % blocks
    chunk = tl.program_id(0) // blocks
    first = chunk * each
    last = tl.minimum(first + each, total)
    if KIND == LANES:
        channel, _, mine = lanes_of(block, chunk, channels, inner, used, W)
        own = out + channel.to(tl.int64) * _WORDS
    else:
        channel = channels_of(channels, inner, used, KIND, W)
        mine = channel >= 0
        own = out
    n, places_lo, places_hi = _survey(
        x, valid, first, last, block, channels, inner, per, used, size,
        KIND, STORED, MASKED, EVEN, R, W,
    )  # fmt: skip
    every = values_of(first, last, block, channels, inner, per, used, size, KIND, W)
    count = tl.sum(n, 0).to(tl.int64)
    # Where no value counts both are infinite, which is odd as well.
    finite = (
        tl.max(
            (places_lo - places_lo != 0.0).to(tl.int32)
            + (places_hi - places_hi != 0.0).to(tl.int32),
            0,
        )
        == 0
    )
    nan = tl.zeros((W,), tl.int64)
    plus = tl.zeros((W,), tl.int64)
    minus = tl.zeros((W,), tl.int64)
    if tl.max((mine & (finite == 0)).to(tl.int32), 0) > 0:
        odd, places_lo, places_hi = _survey_odd(
            x, valid, first, last, block, channels, inner, per, used, size,
            KIND, STORED, MASKED, R, W,
        )  # fmt: skip
        nan = tl.sum(odd & _COUNTED, 0).to(tl.int64)
        plus = tl.sum((odd >> 10) & _COUNTED, 0).to(tl.int64)
        minus = tl.sum(odd >> 20, 0).to(tl.int64)
    low = tl.min(places_lo, 0)
    high = tl.max(places_hi, 0)
    if KIND == LANES:
        if not MASKED:
            count += every
        _put_counts(own, count, nan, plus, minus, low, high, mine)
    else:
        for c in tl.static_range(CHANNELS):
            of_c = channel == c
            if MASKED:
                n_c = tl.sum(tl.where(of_c, count, 0), 0)
            else:
                n_c = every
            _put_counts(
                out + (block + c).to(tl.int64) * _WORDS, n_c,
                tl.sum(tl.where(of_c, nan, 0), 0), tl.sum(tl.where(of_c, plus, 0), 0),
                tl.sum(tl.where(of_c, minus, 0), 0),
                tl.min(tl.where(of_c, low, float("inf")), 0),
                tl.max(tl.where(of_c, high, float("-inf")), 0), True,
            )  # fmt: skip
    # Of finite values; where there are none these are infinite.
    furthest = tl.maximum(tl.abs(low), tl.abs(high))
    furthest = tl.where(mine & (furthest < float("inf")), furthest, 0.0)
    largest = furthest.to(tl.int32, bitcast=True) & _MAGNITUDE
    above = tl.full((W,), _INFINITY, tl.int32)
    while tl.max(largest, 0) > 0:
        if KIND != LANES:
            # One window for all lanes of a program: their sums are put together.
            largest = tl.zeros((W,), tl.int32) + tl.max(largest, 0)
        exponent = tl.maximum(largest >> 23, LEAST)
        lowest = tl.where(exponent == LEAST, 0, (exponent - (_SPAN - FRACTION - 1)) << 23)
        lowest = tl.maximum(lowest, 0)
        top = exponent - 126
        scale = ((1023 - top).to(tl.int64) << 52).to(tl.float64, bitcast=True)
        s, q, rest, largest = _add_window(
            x, valid, first, last, block, channels, inner, per, used, size,
            lowest[None, :], above[None, :], scale[None, :],
            KIND, STORED, MASKED, EVEN, R, W,
        )  # fmt: skip
        above = lowest
        largest = tl.where(mine, largest, 0)
        if KIND == LANES:
            _put_sums(own, s, q, rest, top, mine)
        else:
            for c in tl.static_range(CHANNELS):
                of_c = channel == c
                _put_sums(
                    out + (block + c).to(tl.int64) * _WORDS,
                    tl.sum(tl.where(of_c, s, 0), 0), tl.sum(tl.where(of_c, q, 0), 0),
                    tl.sum(tl.where(of_c, rest, 0), 0), tl.max(top, 0), True,
                )  # fmt: skip
