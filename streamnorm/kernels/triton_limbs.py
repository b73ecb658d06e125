"""For the GPU: what a program has found out is added, as integers, to records of exact sums.

Records are those of `kernels.raw`: limbs that are not carried, and extremes as keys. Integers make
the order of programs irrelevant. What puts is called by `triton_tiles.put`.
"""

import triton
import triton.language as tl

from streamnorm.kernels import raw
from streamnorm.kernels.schemes import SHORT
from streamnorm.limbs import COUNTS, LIMB_BITS, NARROW

__all__ = [
    "BIAS", "MAGNITUDE", "REST_UNIT", "SQUARE_UNIT", "UNIT", "WORDS",
    "key", "put_counts", "put_odd", "put_sums",
]  # fmt: skip

BIAS = tl.constexpr(126)
"""A window of the biased exponent e has values below ``2**(e - BIAS)``."""
WORDS = tl.constexpr(NARROW.dtype.itemsize // 8)

UNIT = tl.constexpr(SHORT.sums[0])
SQUARE_UNIT, REST_UNIT = (tl.constexpr(unit) for unit in SHORT.squares)
"""The exponents of the integers that sums of a window are, and of its squares' two rungs."""
MAGNITUDE = tl.constexpr(0x7FFFFFFF)
"""The bits of a float32 but for its sign."""

_EXPONENT = tl.constexpr(NARROW.exponent)
_NAN, _PLUS, _MINUS = (tl.constexpr(k) for k in range(2, len(COUNTS)))
_LEAST, _MOST = tl.constexpr(len(COUNTS)), tl.constexpr(len(COUNTS) + 1)
_SUMS = tl.constexpr(len(COUNTS) + 4)
_SQUARES = tl.constexpr(len(COUNTS) + 4 + NARROW.limbs)
_KEY = tl.constexpr(raw.KEY)
_LIMB = tl.constexpr((1 << LIMB_BITS) - 1)


@triton.jit
def key(x):
    """Return the key of a number, 0 if it is infinite; see `kernels.raw`."""
    bits = x.to(tl.int32, bitcast=True)
    ordered = (bits ^ ((bits >> 31) & MAGNITUDE)).to(tl.int64) + _KEY
    return tl.where(tl.abs(x) < float("inf"), ordered, 0)


@triton.jit
def put_counts(record, more, added, largest, room, HOW: tl.constexpr):
    """Add how many values there are; the keys of extremes compete for the largest."""
    n = added[0]
    low, high = largest
    tl.atomic_add(record, n, mask=room & (n > 0), sem="relaxed")
    tl.atomic_max(record + _LEAST, low, mask=room & (low > 0), sem="relaxed")
    tl.atomic_max(record + _MOST, high, mask=room & (high > 0), sem="relaxed")


@triton.jit
def put_odd(record, more, added, largest, room, HOW: tl.constexpr):
    """Add how many NaN and infinities there are."""
    nan, plus, minus = added
    tl.atomic_add(record + _NAN, nan, mask=room & (nan > 0), sem="relaxed")
    tl.atomic_add(record + _PLUS, plus, mask=room & (plus > 0), sem="relaxed")
    tl.atomic_add(record + _MINUS, minus, mask=room & (minus > 0), sem="relaxed")


@triton.jit
def put_sums(record, more, added, largest, room, HOW: tl.constexpr):
    """Add the sums of a window, in its units; `largest` is its biased exponent."""
    s, q, rest = added
    top = largest[0] - BIAS
    sums = record + _SUMS
    squares = record + _SQUARES
    _put(sums, s, top + (UNIT - _EXPONENT), room)
    _put(squares, q, 2 * top + (SQUARE_UNIT - 2 * _EXPONENT), room)
    _put(squares, rest, 2 * top + (REST_UNIT - 2 * _EXPONENT), room)


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
