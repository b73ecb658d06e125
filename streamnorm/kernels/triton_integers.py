"""For the GPU: integers of up to 32 bits, summed as integers, so in any order."""

import triton
import triton.language as tl

from streamnorm.kernels.triton_tiles import add_up, piece_of, put, values_of

__all__ = ["sum_integers"]

_HALF = tl.constexpr((1 << 32) - 1)
_LEAST, _MOST, _BITS = tl.constexpr(1), tl.constexpr(2), tl.constexpr(3)
"""Of what a tile is added by: behind whether there is a mask, the range and the size of a value."""


@triton.constexpr_function
def _kind(least, bits):
    """Return what values are summed and compared as.

    In 32 bits where it can be: of a place at most 1024 values of 8 bits or 256 of 16, so squares
    of 8 bits stay below 2**26 and sums of 16 below 2**24. Without a sign where there is none, or
    LLVM compares now with one and now without, and nothing compares three at a time.
    """
    if bits == 32:
        return tl.int64
    return tl.int32 if least < 0 else tl.uint32


@triton.jit
def _put(place, stride, added, largest, room, HOW: tl.constexpr):
    """Add to the sums of a channel; the keys of extremes compete for the largest."""
    n, total, squares, squares_up = added
    low, high = largest
    some = room & (n > 0)
    tl.atomic_add(place, n, mask=some, sem="relaxed")
    tl.atomic_max(place + stride, low, mask=some, sem="relaxed")
    tl.atomic_max(place + 2 * stride, high, mask=some, sem="relaxed")
    tl.atomic_add(place + 3 * stride, total, mask=some, sem="relaxed")
    tl.atomic_add(place + 4 * stride, squares, mask=some, sem="relaxed")
    if HOW[_BITS] == 32:
        tl.atomic_add(place + 5 * stride, squares_up, mask=some, sem="relaxed")


@triton.jit
def _add(raw, keep, sums, around, HOW: tl.constexpr):
    """Add a tile to the sums of its places."""
    n, s, q, q_up, lo, hi = sums
    value = raw.to(s.dtype)
    lo = tl.minimum(lo, tl.where(keep, value, HOW[_MOST]))
    hi = tl.maximum(hi, tl.where(keep, value, HOW[_LEAST]))
    if HOW[0]:
        value = tl.where(keep, value, 0)
        n += keep.to(tl.int32)
    s += value
    product = value.to(q.dtype) * value.to(q.dtype)
    if HOW[_BITS] == 32:
        q += product & _HALF
        q_up += (product >> 32) & _HALF
    else:
        q += product
    return n, s, q, q_up, lo, hi


@triton.jit
def sum_integers(
    x, valid, out, channels, inner, blocks, per, inverse, shift, used, total, each, size,
    KIND: tl.constexpr, CHANNELS: tl.constexpr, MASKED: tl.constexpr, EVEN: tl.constexpr,
    LEAST: tl.constexpr, MOST: tl.constexpr, BITS: tl.constexpr,
    R: tl.constexpr, W: tl.constexpr,
):  # fmt: skip
    """Add the rows of one program to the sums of its channels, int64 (6, C), zeros at first.

    In the order of `kernels.raw.SUMS`.
    """
    FORM: tl.constexpr = (KIND, MASKED, EVEN, R, W)
    HOW: tl.constexpr = (MASKED, LEAST, MOST, BITS)
    piece = piece_of(
        x, valid, channels, inner, blocks, per, inverse, shift, used, total, each, size
    )
    kind: tl.constexpr = _kind(LEAST, BITS)
    square: tl.constexpr = kind if BITS == 8 else tl.int64
    zero = tl.zeros((R, W), square)
    sums = (
        tl.zeros((R, W), tl.int32), tl.zeros((R, W), kind), zero, zero,
        tl.full((R, W), MOST, kind), tl.full((R, W), LEAST, kind),
    )  # fmt: skip
    n, s, q, q_up, lo, hi = add_up(_add, HOW, sums, (), piece, FORM)
    # Rows together, then lanes: from here on in 64 bits.
    s = tl.sum(s.to(tl.int64), 0)
    q = tl.sum(q.to(tl.int64), 0)
    q_up = tl.sum(q_up.to(tl.int64), 0)
    low = (MOST + 1) - tl.min(lo, 0).to(tl.int64)
    high = tl.max(hi, 0).to(tl.int64) - (LEAST - 1)
    if MASKED:
        n = tl.sum(n, 0).to(tl.int64)
    else:
        n = values_of(piece, FORM)
    stride = tl.cast(channels, tl.int64)
    put(_put, HOW, out, 1, stride, (n, s, q, q_up), (low, high), piece, FORM, CHANNELS)
