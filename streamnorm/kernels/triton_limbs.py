"""For the GPU: what a program has found out is added, as integers, to records of exact sums.

Records are those of `kernels.raw`: limbs that are not carried, and extremes as keys. Integers make
the order of programs irrelevant. Only programs of lanes have some without room: the rows of few
channels are whole.
"""

import triton
import triton.language as tl

from streamnorm.kernels import raw
from streamnorm.kernels.schemes import SHORT
from streamnorm.kernels.triton_tiles import LANES, OF_KIND, channels_of
from streamnorm.limbs import COUNTS, LIMB_BITS, NARROW

__all__ = ["put_counts", "put_odd", "put_sums"]

_UNIT = tl.constexpr(SHORT.sums[0])
_SQUARE_UNIT, _REST_UNIT = (tl.constexpr(unit) for unit in SHORT.squares)
_EXPONENT = tl.constexpr(NARROW.exponent)
_WORDS = tl.constexpr(NARROW.dtype.itemsize // 8)
_NAN, _PLUS, _MINUS = (tl.constexpr(k) for k in range(2, len(COUNTS)))
_LEAST, _MOST = tl.constexpr(len(COUNTS)), tl.constexpr(len(COUNTS) + 1)
_SUMS = tl.constexpr(len(COUNTS) + 4)
_SQUARES = tl.constexpr(len(COUNTS) + 4 + NARROW.limbs)
_KEY = tl.constexpr(raw.KEY)
_LIMB = tl.constexpr((1 << LIMB_BITS) - 1)
_MAGNITUDE = tl.constexpr(0x7FFFFFFF)


@triton.jit
def put_counts(out, piece, n, lo, hi, FORM: tl.constexpr, CHANNELS: tl.constexpr):
    """Add how many values every lane has; the keys of their extremes compete for the largest."""
    low, high = _key(-lo), _key(hi)
    base, channel, room = channels_of(piece, FORM)
    if FORM[OF_KIND] == LANES:
        _put_counts(out + channel.to(tl.int64) * _WORDS, n, low, high, room)
    else:
        for c in tl.static_range(CHANNELS):
            mine = channel == c
            _put_counts(
                out + (base + c).to(tl.int64) * _WORDS,
                tl.sum(tl.where(mine, n, 0), 0),
                tl.max(tl.where(mine, low, 0), 0),
                tl.max(tl.where(mine, high, 0), 0),
                True,
            )


@triton.jit
def _key(x):
    """Return the key of a number, 0 if it is infinite; see `kernels.raw`."""
    bits = x.to(tl.int32, bitcast=True)
    ordered = (bits ^ ((bits >> 31) & _MAGNITUDE)).to(tl.int64) + _KEY
    return tl.where(tl.abs(x) < float("inf"), ordered, 0)


@triton.jit
def _put_counts(record, n, low, high, room):
    tl.atomic_add(record, n, mask=room & (n > 0), sem="relaxed")
    tl.atomic_max(record + _LEAST, low, mask=room & (low > 0), sem="relaxed")
    tl.atomic_max(record + _MOST, high, mask=room & (high > 0), sem="relaxed")


@triton.jit
def put_odd(out, piece, nan, plus, minus, FORM: tl.constexpr, CHANNELS: tl.constexpr):
    """Add how many NaN and infinities every lane has."""
    base, channel, room = channels_of(piece, FORM)
    if FORM[OF_KIND] == LANES:
        _put_odd(out + channel.to(tl.int64) * _WORDS, nan, plus, minus, room)
    else:
        for c in tl.static_range(CHANNELS):
            mine = channel == c
            _put_odd(
                out + (base + c).to(tl.int64) * _WORDS,
                tl.sum(tl.where(mine, nan, 0), 0),
                tl.sum(tl.where(mine, plus, 0), 0),
                tl.sum(tl.where(mine, minus, 0), 0),
                True,
            )


@triton.jit
def _put_odd(record, nan, plus, minus, room):
    tl.atomic_add(record + _NAN, nan, mask=room & (nan > 0), sem="relaxed")
    tl.atomic_add(record + _PLUS, plus, mask=room & (plus > 0), sem="relaxed")
    tl.atomic_add(record + _MINUS, minus, mask=room & (minus > 0), sem="relaxed")


@triton.jit
def put_sums(out, piece, s, q, rest, top, FORM: tl.constexpr, CHANNELS: tl.constexpr):
    """Add the sums of every lane in a window of values below ``2**top``, in its units.

    There is one window for all lanes unless the program is of `LANES`.
    """
    base, channel, room = channels_of(piece, FORM)
    if FORM[OF_KIND] == LANES:
        _put_sums(out + channel.to(tl.int64) * _WORDS, s, q, rest, top, room)
    else:
        for c in tl.static_range(CHANNELS):
            mine = channel == c
            _put_sums(
                out + (base + c).to(tl.int64) * _WORDS,
                tl.sum(tl.where(mine, s, 0), 0),
                tl.sum(tl.where(mine, q, 0), 0),
                tl.sum(tl.where(mine, rest, 0), 0),
                tl.max(top, 0),
                True,
            )


@triton.jit
def _put_sums(record, s, q, rest, top, room):
    sums = record + _SUMS
    squares = record + _SQUARES
    _put(sums, s, top + (_UNIT - _EXPONENT), room)
    _put(squares, q, 2 * top + (_SQUARE_UNIT - 2 * _EXPONENT), room)
    _put(squares, rest, 2 * top + (_REST_UNIT - 2 * _EXPONENT), room)


@triton.jit
def _put(limbs, whole, exponent, room):
    """Add ``whole * 2**exponent`` to limbs, of which the first has exponent 0."""
    limb = limbs + (exponent >> 5)
    shift = (exponent & 31).to(tl.int64)
    low = (whole & _LIMB) << shift
    high = ((whole >> 32) << shift) + (low >> 32)
    some = room & (whole != 0)
    tl.atomic_add(limb, low & _LIMB, mask=some, sem="relaxed")
    tl.atomic_add(limb + 1, high & _LIMB, mask=some, sem="relaxed")
    tl.atomic_add(limb + 2, high >> 32, mask=some, sem="relaxed")
