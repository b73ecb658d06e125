"""For the GPU: integers of up to 32 bits, summed as integers, so in any order."""

import triton
import triton.language as tl

from streamnorm.kernels.triton_tiles import (
    LANES,
    channels_of,
    checked_from,
    lanes_of,
    load,
    load_four,
    values_of,
)

__all__ = ["sum_integers"]

_HALF = tl.constexpr((1 << 32) - 1)


@triton.jit
def _add(out, at, room, stride, n, low, high, total, squares, squares_up, UP: tl.constexpr):
    """Add to the sums of channels; the keys of extremes compete for the largest."""
    some = room & (n > 0)
    tl.atomic_add(out + at, n, mask=some, sem="relaxed")
    tl.atomic_max(out + stride + at, low, mask=some, sem="relaxed")
    tl.atomic_max(out + 2 * stride + at, high, mask=some, sem="relaxed")
    tl.atomic_add(out + 3 * stride + at, total, mask=some, sem="relaxed")
    tl.atomic_add(out + 4 * stride + at, squares, mask=some, sem="relaxed")
    if UP:
        tl.atomic_add(out + 5 * stride + at, squares_up, mask=some, sem="relaxed")


@triton.jit
def _add_tile(
    raw, keep, n, s, q, q_up, lo, hi,
    MASKED: tl.constexpr, LEAST: tl.constexpr, MOST: tl.constexpr, BITS: tl.constexpr,
):  # fmt: skip
    """Add a tile to the sums of its places."""
    value = raw.to(s.dtype)
    lo = tl.minimum(lo, tl.where(keep, value, MOST))
    hi = tl.maximum(hi, tl.where(keep, value, LEAST))
    if MASKED:
        value = tl.where(keep, value, 0)
        n += keep.to(tl.int32)
    s += value
    product = value.to(q.dtype) * value.to(q.dtype)
    if BITS == 32:
        q += product & _HALF
        q_up += (product >> 32) & _HALF
    else:
        q += product
    return n, s, q, q_up, lo, hi


@triton.jit
def sum_integers(
    x, valid, out, channels, inner, blocks, per, used, total, each, size, parts,
    KIND: tl.constexpr, CHANNELS: tl.constexpr, STORED: tl.constexpr, MASKED: tl.constexpr,
    EVEN: tl.constexpr, LEAST: tl.constexpr, MOST: tl.constexpr, BITS: tl.constexpr,
    R: tl.constexpr, W: tl.constexpr,
):  # fmt: skip
    """Add the rows of one program to the sums of its channels, int64 (6, C), zeros at first.

    In the order of `kernels.raw.SUMS`.
    """
    block = tl.program_id(0) % blocks
    chunk = tl.program_id(0) // blocks
    first = chunk * each
    last = tl.minimum(first + each, total)
    # What a place adds up fits 32 bits where it can: the places are many, their values few.
    kind: tl.constexpr = tl.int64 if BITS == 32 else tl.int32
    square: tl.constexpr = tl.int32 if BITS == 8 else tl.int64
    n = tl.zeros((R, W), tl.int32)
    s = tl.zeros((R, W), kind)
    q = tl.zeros((R, W), square)
    q_up = tl.zeros((R, W), square)
    lo = tl.full((R, W), MOST, kind)
    hi = tl.full((R, W), LEAST, kind)
    checked = checked_from(first, last, used, size, KIND, EVEN, 4 * R)
    if checked > first:
        raw0, raw1, raw2, raw3, keep0, keep1, keep2, keep3 = load_four(
            x, valid, first, last, block, channels, inner, per, used, size, KIND, MASKED, R, W
        )
        for start in range(first, checked, 4 * R):
            # The next ones are under way while these are added; the last ones are loaded twice.
            ahead = tl.minimum(start + 4 * R, checked - 4 * R)
            more0, more1, more2, more3, of0, of1, of2, of3 = load_four(
                x, valid, ahead, last, block, channels, inner, per, used, size,
                KIND, MASKED, R, W,
            )  # fmt: skip
            n, s, q, q_up, lo, hi = _add_tile(
                raw0, keep0, n, s, q, q_up, lo, hi, MASKED, LEAST, MOST, BITS
            )
            n, s, q, q_up, lo, hi = _add_tile(
                raw1, keep1, n, s, q, q_up, lo, hi, MASKED, LEAST, MOST, BITS
            )
            n, s, q, q_up, lo, hi = _add_tile(
                raw2, keep2, n, s, q, q_up, lo, hi, MASKED, LEAST, MOST, BITS
            )
            n, s, q, q_up, lo, hi = _add_tile(
                raw3, keep3, n, s, q, q_up, lo, hi, MASKED, LEAST, MOST, BITS
            )
            raw0, raw1, raw2, raw3 = more0, more1, more2, more3
            keep0, keep1, keep2, keep3 = of0, of1, of2, of3
    for start in range(checked, last, R):
        raw, keep = load(
            x, valid, start, last, block, channels, inner, per, used, size,
            KIND, MASKED, True, R, W,
        )  # fmt: skip
        n, s, q, q_up, lo, hi = _add_tile(
            raw, keep, n, s, q, q_up, lo, hi, MASKED, LEAST, MOST, BITS
        )
    # Rows together, then lanes: from here on in 64 bits.
    if MASKED:
        count = tl.sum(n, 0).to(tl.int64)
    else:
        count = tl.zeros((W,), tl.int64)
    every = values_of(first, last, block, channels, inner, per, used, size, KIND, W)
    sums = tl.sum(s.to(tl.int64), 0)
    squares = tl.sum(q.to(tl.int64), 0)
    squares_up = tl.sum(q_up.to(tl.int64), 0)
    low = (MOST + 1) - tl.min(lo, 0).to(tl.int64)
    high = tl.max(hi, 0).to(tl.int64) - (LEAST - 1)
    up: tl.constexpr = BITS == 32
    stride = tl.cast(channels, tl.int64)
    if KIND == LANES:
        channel, _, room = lanes_of(block, chunk, channels, inner, used, W)
        if not MASKED:
            count += every
        _add(
            out, channel, room, stride, count, low, high, sums, squares, squares_up, up,
        )  # fmt: skip
    else:
        channel = channels_of(channels, inner, used, KIND, W)
        for c in tl.static_range(CHANNELS):
            mine = channel == c
            if MASKED:
                own = tl.sum(tl.where(mine, count, 0), 0)
            else:
                own = every
            _add(
                out, block + c, True, stride, own,
                tl.max(tl.where(mine, low, 0), 0), tl.max(tl.where(mine, high, 0), 0),
                tl.sum(tl.where(mine, sums, 0), 0), tl.sum(tl.where(mine, squares, 0), 0),
                tl.sum(tl.where(mine, squares_up, 0), 0), up,
            )  # fmt: skip
