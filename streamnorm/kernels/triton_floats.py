"""For the GPU: sums around a shift in float64, with one read of the data; then one merge.

Every program sums its own rows around a shift of its own and gives one partial result for each of
its channels; a second kernel merges those of a channel in a fixed order. No atomics: the same bits
from run to run.
"""

import triton
import triton.language as tl

from streamnorm.kernels.triton_tiles import (
    ALL,
    LANES,
    RUNS,
    channels_of,
    checked_from,
    load,
    values_of,
)

__all__ = ["measure_floats", "merge_partials"]

# Squares of what is scaled down so do not overflow; a power of two changes no digit.
_DOWN = tl.constexpr(2.0**-600)
_UP = tl.constexpr(2.0**600)
_FAR = tl.constexpr(16.0)
"""Rows are read again where the mean is more than four standard deviations from the shift."""
_MOST_READS = tl.constexpr(4)
"""The first tile, for a shift; all rows; all again, scaled down; and again around their mean."""


@triton.constexpr_function
def _kind(stored):
    """Return what the numbers of a dtype are compared as; see `triton_tiles.number`."""
    return tl.float32 if stored in ("float16", "bfloat16", "float32") else tl.float64


@triton.jit
def _columns(n, s1, s2, lo, hi):
    """Put together the rows of a tile: of every lane count, sums and extremes; a NaN stays one."""
    odd = tl.max(((lo != lo) | (hi != hi)).to(tl.int32), 0) > 0
    least = tl.min(tl.where(lo == lo, lo, float("inf")), 0).to(tl.float64)
    most = tl.max(tl.where(hi == hi, hi, float("-inf")), 0).to(tl.float64)
    least = tl.where(odd, float("nan"), least)
    most = tl.where(odd, float("nan"), most)
    return tl.sum(n, 0).to(tl.float64), tl.sum(s1, 0), tl.sum(s2, 0), least, most


@triton.jit
def _all(n, s1, s2, lo, hi, mine):
    """Put together all places that are `mine`."""
    n, s1, s2, least, most = _columns(
        tl.where(mine, n, 0), tl.where(mine, s1, 0.0), tl.where(mine, s2, 0.0),
        tl.where(mine, lo, float("inf")), tl.where(mine, hi, float("-inf")),
    )  # fmt: skip
    odd = tl.max((least != least).to(tl.int32), 0) > 0
    least = tl.min(tl.where(least == least, least, float("inf")), 0)
    most = tl.max(tl.where(most == most, most, float("-inf")), 0)
    least = tl.where(odd, float("nan"), least)
    most = tl.where(odd, float("nan"), most)
    return tl.sum(n, 0), tl.sum(s1, 0), tl.sum(s2, 0), least, most


@triton.jit
def _finite(x):
    return x - x == 0.0


@triton.jit
def _add_tile(
    x, valid, start, last, block, channels, inner, per, used, size, shift, scale,
    n, s1, s2, lo, hi,
    KIND: tl.constexpr, STORED: tl.constexpr, MASKED: tl.constexpr, OMIT: tl.constexpr,
    CHECKED: tl.constexpr, R: tl.constexpr, W: tl.constexpr,
):  # fmt: skip
    """Add a tile to the sums of its places: deviations, their squares, extremes."""
    value, keep = load(
        x, valid, start, last, block, channels, inner, per, used, size,
        KIND, STORED, MASKED, CHECKED, R, W,
    )  # fmt: skip
    if OMIT:
        keep = keep & (value == value)
    deviation = value.to(tl.float64)
    if STORED == "float64":
        deviation = deviation * scale
    deviation = tl.where(keep, deviation - shift, 0.0)
    if MASKED or OMIT:
        n += keep.to(tl.int32)
    s1 += deviation
    s2 = tl.fma(deviation, deviation, s2)
    lo = tl.minimum(lo, tl.where(keep, value, float("inf")), propagate_nan=ALL)
    hi = tl.maximum(hi, tl.where(keep, value, float("-inf")), propagate_nan=ALL)
    return n, s1, s2, lo, hi


@triton.jit
def _gather(
    x, valid, first, last, block, channels, inner, per, used, size, shift, scale,
    KIND: tl.constexpr, STORED: tl.constexpr, MASKED: tl.constexpr, OMIT: tl.constexpr,
    EVEN: tl.constexpr, R: tl.constexpr, W: tl.constexpr,
):  # fmt: skip
    """Sum every place of the tiles by itself; counts only where not all values count."""
    kind: tl.constexpr = _kind(STORED)
    n = tl.zeros((R, W), tl.int32)
    s1 = tl.zeros((R, W), tl.float64)
    s2 = tl.zeros((R, W), tl.float64)
    lo = tl.full((R, W), float("inf"), kind)
    hi = tl.full((R, W), float("-inf"), kind)
    checked = checked_from(first, last, used, size, KIND, EVEN, R)
    for start in range(first, checked, R):
        n, s1, s2, lo, hi = _add_tile(
            x, valid, start, last, block, channels, inner, per, used, size, shift, scale,
            n, s1, s2, lo, hi, KIND, STORED, MASKED, OMIT, False, R, W,
        )  # fmt: skip
    for start in range(checked, last, R):
        n, s1, s2, lo, hi = _add_tile(
            x, valid, start, last, block, channels, inner, per, used, size, shift, scale,
            n, s1, s2, lo, hi, KIND, STORED, MASKED, OMIT, True, R, W,
        )  # fmt: skip
    return n, s1, s2, lo, hi


@triton.jit
def _moments(n, s1, s2, lo, hi, shift, scale):
    r"""Return mean and m2 of sums around a shift, scaled, and what is wrong with them.

    With :math:`S_k = \sum (x - s)^k` the mean is :math:`s + S_1/n` and
    :math:`M_2 = S_2 - S_1^2/n` (Chan, Golub & LeVeque 1983, eq. 1.6 and 1.7).
    """
    moved = s1 / tl.where(n > 0, n, 1.0)
    between = moved * s1
    m2 = s2 - between
    mean = shift + moved
    bounded = _finite(lo) & _finite(hi)
    sound = _finite(s2) & _finite(mean)
    mean = tl.where(bounded & sound, tl.minimum(tl.maximum(mean, lo * scale), hi * scale), mean)
    far = bounded & sound & (between > _FAR * m2)
    large = bounded & (sound == 0) & (scale == 1.0)
    m2 = tl.where((m2 < 0.0) | (lo == hi), 0.0, m2)
    return mean, tl.where(_finite(mean), m2, float("nan")), far, large


@triton.jit
def _finish(out, at, room, stride, n, s1, s2, lo, hi, shift, scale):
    """Store a partial result; return shift and scale for another reading, and whether to read.

    Zeros are stored positive, and a result without values in its one form.
    """
    mean, m2, far, large = _moments(n, s1, s2, lo, hi, shift, scale)
    some = n > 0
    up = tl.where(scale == 1.0, 1.0, _UP)
    tl.store(out + at, n, mask=room)
    tl.store(out + stride + at, tl.where(some, mean * up + 0.0, float("nan")), mask=room)
    tl.store(out + 2 * stride + at, tl.where(some, m2 * up * up, 0.0), mask=room)
    tl.store(out + 3 * stride + at, tl.where(some, lo + 0.0, float("nan")), mask=room)
    tl.store(out + 4 * stride + at, tl.where(some, hi + 0.0, float("nan")), mask=room)
    guess = tl.where(_finite(mean) & some, mean, shift)
    again = (some & (far | large)).to(tl.int32)
    return tl.where(large, 0.0, guess), tl.where(large, _DOWN, scale), again


@triton.jit
def measure_floats(
    x, valid, out, channels, inner, blocks, per, used, total, each, size, parts,
    KIND: tl.constexpr, CHANNELS: tl.constexpr, STORED: tl.constexpr, MASKED: tl.constexpr,
    OMIT: tl.constexpr, EVEN: tl.constexpr, R: tl.constexpr, W: tl.constexpr,
):  # fmt: skip
    """Measure the rows of one program; its `CHANNELS`, or every lane, to a partial result each.

    Gives float64 (5, C, parts): count, mean, m2, minimum and maximum.
    """
    block = tl.program_id(0) % blocks
    chunk = tl.program_id(0) // blocks
    first = chunk * each
    last = tl.minimum(first + each, total)
    stride = tl.cast(channels, tl.int64) * parts
    if KIND == RUNS:
        shift = 0.0 * first
        at = block.to(tl.int64) * parts + chunk
    else:
        shift = tl.zeros((1, W), tl.float64)
    shift = shift.to(tl.float64)
    scale = 1.0 + 0.0 * shift
    channel = channels_of(channels, inner, used, KIND, W)
    reads = 0
    again = 1
    while again == 1:
        # The first tile alone gives a shift; then all rows; and again if that was far off.
        stop = tl.where(reads == 0, tl.minimum(first + R, last), last)
        n, s1, s2, lo, hi = _gather(
            x, valid, first, stop, block, channels, inner, per, used, size, shift, scale,
            KIND, STORED, MASKED, OMIT, EVEN, R, W,
        )  # fmt: skip
        new_scale = scale
        every = values_of(first, stop, channels, inner, per, used, size, KIND, W).to(tl.float64)
        if KIND == RUNS:
            n, s1, s2, lo, hi = _all(n, s1, s2, lo, hi, True)
            if not (MASKED or OMIT):
                n = every
            shift, new_scale, wrong = _finish(
                out, at, True, stride, n, s1, s2, lo, hi, shift, scale
            )
        elif KIND == LANES:
            lane = block * W + tl.arange(0, W)
            sub = (lane // inner).to(tl.int64) * parts + chunk * inner + lane % inner
            n, s1, s2, lo, hi = _columns(n, s1, s2, lo, hi)
            if not (MASKED or OMIT):
                n = tl.where(lane < used, every, 0.0)
            better, smaller, odd = _finish(
                out, sub, lane < used, stride, n, s1, s2, lo, hi,
                tl.max(shift, 0), tl.max(scale, 0),
            )  # fmt: skip
            shift, new_scale, wrong = better[None, :], smaller[None, :], tl.max(odd, 0)
        else:
            wrong = 0
            before = shift
            for c in tl.static_range(CHANNELS):
                mine = channel == c
                own_n, own_s1, own_s2, own_lo, own_hi = _all(n, s1, s2, lo, hi, mine)
                if not (MASKED or OMIT):
                    own_n = every
                better, smaller, odd = _finish(
                    out, c * parts + chunk, True, stride, own_n, own_s1, own_s2, own_lo, own_hi,
                    tl.max(tl.max(tl.where(mine, before, float("-inf")), 1), 0),
                    tl.max(tl.max(tl.where(mine, scale, 0.0), 1), 0),
                )  # fmt: skip
                shift = tl.where(mine, better, shift)
                new_scale = tl.where(mine, smaller, new_scale)
                wrong = tl.maximum(wrong, odd)
        if STORED == "float64":
            scale = new_scale
        again = ((reads == 0) | ((wrong > 0) & (reads + 1 < _MOST_READS))).to(tl.int32)
        reads += 1


@triton.jit
def merge_partials(parts_of, out, channels, parts, B: tl.constexpr):
    r"""Merge the partial results of one channel.

    With weights :math:`w_p = n_p / n` the mean is :math:`\bar x = \sum w_p \bar x_p`, corrected
    once by the same sum over :math:`\bar x_p - \bar x`, and
    :math:`M_2 = \sum M_{2p} + \sum n_p (\bar x_p - \bar x)^2`: the sum of squares within and
    between parts, of which Chan, Golub & LeVeque (1983) eq. 2.1 is the case of two.
    """
    c = tl.program_id(0).to(tl.int64)
    stride = tl.cast(channels, tl.int64) * parts
    own = parts_of + c * parts
    count = 0.0 * c.to(tl.float64)
    least = count + float("inf")
    most = count - float("inf")
    odd = count
    special = count
    specials = count
    for start in range(0, parts, B):
        at = start + tl.arange(0, B)
        n = tl.load(own + at, mask=at < parts, other=0.0)
        some = n > 0
        mean = tl.load(own + stride + at, mask=some, other=0.0)
        lo = tl.load(own + 3 * stride + at, mask=some, other=float("inf"))
        hi = tl.load(own + 4 * stride + at, mask=some, other=float("-inf"))
        count += tl.sum(n, 0)
        odd += tl.sum((lo != lo).to(tl.float64), 0)
        least = tl.minimum(least, tl.min(tl.where(lo == lo, lo, float("inf")), 0))
        most = tl.maximum(most, tl.max(tl.where(hi == hi, hi, float("-inf")), 0))
        infinite = _finite(mean) == 0
        special += tl.sum(tl.where(infinite, mean, 0.0), 0)
        specials += tl.sum(infinite.to(tl.float64), 0)
    divisor = tl.where(count > 0, count, 1.0)
    center = 0.0 * divisor
    for _ in tl.static_range(2):
        moved = 0.0 * divisor
        for start in range(0, parts, B):
            at = start + tl.arange(0, B)
            n = tl.load(own + at, mask=at < parts, other=0.0)
            mean = tl.load(own + stride + at, mask=n > 0, other=0.0)
            # Half as large: the difference of two means, not of their halves, may overflow.
            moved += tl.sum(tl.where(n > 0, (mean * 0.5 - center * 0.5) * (n / divisor), 0.0), 0)
        center = tl.minimum(tl.maximum(center + moved + moved, least), most)
    m2 = 0.0 * divisor
    for start in range(0, parts, B):
        at = start + tl.arange(0, B)
        n = tl.load(own + at, mask=at < parts, other=0.0)
        mean = tl.load(own + stride + at, mask=n > 0, other=0.0)
        within = tl.load(own + 2 * stride + at, mask=n > 0, other=0.0)
        delta = tl.where(n > 0, mean - center, 0.0)
        m2 += tl.sum(within + (delta * n) * delta, 0)
    some = count > 0
    mean = tl.where(specials > 0, special, center)
    m2 = tl.where(specials > 0, float("nan"), tl.where(least == most, 0.0, m2))
    unknown = (odd > 0) | (count == 0)
    tl.store(out + c, count)
    tl.store(out + channels + c, tl.where(some, mean + 0.0, float("nan")))
    tl.store(out + 2 * channels + c, tl.where(some, m2, 0.0))
    tl.store(out + 3 * channels + c, tl.where(unknown, float("nan"), least + 0.0))
    tl.store(out + 4 * channels + c, tl.where(unknown, float("nan"), most + 0.0))
