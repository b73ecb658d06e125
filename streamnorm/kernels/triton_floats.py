"""For the GPU: sums around a shift in float64, with one read of the data; then one merge.

Every program sums its own rows around a shift of its own and gives one partial result, or one for
every lane; a second kernel merges those of a channel in a fixed order. No atomics: the same bits
from run to run.
"""

import triton
import triton.language as tl

from streamnorm.kernels.triton_tiles import (
    ALL,
    OF_KIND,
    RUNS,
    add_up,
    lanes_of,
    load,
    number,
    piece_of,
    values_of,
)

__all__ = ["measure_floats", "merge_partials"]

# Squares of what is scaled down so do not overflow; a power of two changes no digit.
_DOWN = tl.constexpr(2.0**-600)
_UP = tl.constexpr(2.0**600)
_TOP = tl.constexpr(1e290)
_FAR = tl.constexpr(16.0)
"""Rows are read again where the mean is more than four standard deviations from the shift."""
_COUNTED, _OMIT = tl.constexpr(1), tl.constexpr(2)
"""Of what a tile is added by: behind the dtype, whether to count and whether to omit NaN."""
_MOST_READS = tl.constexpr(3)
"""All rows around the first tile's mean; all again, scaled down; and again around their mean."""


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
def _all(n, s1, s2, lo, hi):
    """Put together all places of a tile."""
    n, s1, s2, least, most = _columns(n, s1, s2, lo, hi)
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
def _add(raw, keep, sums, around, HOW: tl.constexpr):
    """Add a tile to the sums of its places: deviations, their squares, extremes."""
    n, s1, s2, lo, hi = sums
    center, scale = around
    STORED: tl.constexpr = HOW[0]
    value = number(raw, STORED)
    if HOW[_OMIT]:
        keep = keep & (value == value)
    deviation = value.to(tl.float64)
    if STORED == "float64":
        deviation = deviation * scale
    deviation = tl.where(keep, deviation - center, 0.0)
    if HOW[_COUNTED]:
        n += keep.to(tl.int32)
    s1 += deviation
    s2 = tl.fma(deviation, deviation, s2)
    lo = tl.minimum(lo, tl.where(keep, value, float("inf")), propagate_nan=ALL)
    hi = tl.maximum(hi, tl.where(keep, value, float("-inf")), propagate_nan=ALL)
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
def _guess(piece, STORED: tl.constexpr, FORM: tl.constexpr):
    """Return the mean of the finite values of the first tile, of a program or of every lane."""
    raw, keep = load(piece, piece[3], True, FORM)
    value = number(raw, STORED)
    keep = keep & (value - value == 0.0)
    total = tl.sum(tl.where(keep, value, 0.0).to(tl.float64), 0)
    count = tl.sum(keep.to(tl.int32), 0)
    if FORM[OF_KIND] == RUNS:
        total = tl.sum(total, 0)
        count = tl.sum(count, 0)
    mean = total / tl.where(count > 0, count, 1).to(tl.float64)
    return tl.where(_finite(mean), mean, 0.0)


@triton.jit
def measure_floats(
    x, valid, out, channels, inner, blocks, per, inverse, shift, used, total, each, size, parts,
    KIND: tl.constexpr, STORED: tl.constexpr, MASKED: tl.constexpr, EVEN: tl.constexpr,
    R: tl.constexpr, W: tl.constexpr, OMIT: tl.constexpr,
):  # fmt: skip
    """Measure the rows of one program: its channel, or every lane, to a partial result.

    Gives float64 (5, C, parts): count, mean, m2, minimum and maximum.
    """
    FORM: tl.constexpr = (KIND, MASKED, EVEN, R, W)
    HOW: tl.constexpr = (STORED, MASKED or OMIT, OMIT)
    piece = piece_of(
        x, valid, channels, inner, blocks, per, inverse, shift, used, total, each, size
    )
    chunk = tl.program_id(0) // blocks
    stride = tl.cast(channels, tl.int64) * parts
    if KIND == RUNS:
        at = piece[2].to(tl.int64) * parts + chunk
        room = True
    else:
        channel, part, room = lanes_of(piece, FORM)
        at = channel.to(tl.int64) * parts + chunk * (used // channels) + part
    zero = tl.zeros((R, W), tl.float64)
    high = tl.full((R, W), float("inf"), _kind(STORED))
    center = _guess(piece, STORED, FORM)
    scale = tl.zeros_like(center) + 1.0
    reads = 0
    again = 1
    while again == 1:
        around = center, scale
        if KIND != RUNS:
            around = center[None, :], scale[None, :]
        sums = tl.zeros((R, W), tl.int32), zero, zero, high, -high
        n, s1, s2, lo, hi = add_up(_add, HOW, sums, around, piece, FORM)
        if KIND == RUNS:
            n, s1, s2, lo, hi = _all(n, s1, s2, lo, hi)
        else:
            n, s1, s2, lo, hi = _columns(n, s1, s2, lo, hi)
        if not (MASKED or OMIT):
            n = values_of(piece, FORM).to(tl.float64)
            if KIND == RUNS:
                n = tl.sum(n, 0)
        center, smaller, wrong = _finish(out, at, room, stride, n, s1, s2, lo, hi, center, scale)
        if STORED == "float64":
            scale = smaller
        if KIND != RUNS:
            wrong = tl.max(wrong, 0)
        again = ((wrong > 0) & (reads + 1 < _MOST_READS)).to(tl.int32)
        reads += 1


@triton.jit
def _survey(own, stride, begin, end, B: tl.constexpr):
    """Return of partial results the count, extremes, whether one is NaN, and infinite means."""
    count = tl.zeros((), tl.float64)
    least = count + float("inf")
    most = count - float("inf")
    odd = count
    special = count
    specials = count
    for start in range(begin, end, B):
        at = start + tl.arange(0, B)
        n = tl.load(own + at, mask=at < end, other=0.0)
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
    return count, least, most, odd, special, specials


@triton.jit
def _mean(own, stride, begin, end, count, least, most, B: tl.constexpr):
    """Return the mean of partial results by their weights, corrected once."""
    divisor = tl.where(count > 0, count, 1.0)
    # Near the top a sum, or a difference, of means may overflow; near the bottom halves and
    # weights lose digits.
    large = (tl.abs(least) > _TOP) | (tl.abs(most) > _TOP)
    half = tl.where(large, 0.5, 1.0)
    unit = tl.where(large, divisor, 1.0)
    center = 0.0 * divisor
    for _ in tl.static_range(2):
        moved = 0.0 * divisor
        for start in range(begin, end, B):
            at = start + tl.arange(0, B)
            n = tl.load(own + at, mask=at < end, other=0.0)
            mean = tl.load(own + stride + at, mask=n > 0, other=0.0)
            delta = mean * half - center * half
            moved += tl.sum(tl.where(n > 0, delta * (n / unit), 0.0), 0)
        moved = moved / (divisor / unit)
        moved = tl.where(large, moved + moved, moved)
        center = tl.minimum(tl.maximum(center + moved, least), most)
    return center


@triton.jit
def _squares(own, stride, begin, end, center, B: tl.constexpr):
    """Return the sum of squares around a center, within and between partial results."""
    m2 = tl.zeros((), tl.float64)
    for start in range(begin, end, B):
        at = start + tl.arange(0, B)
        n = tl.load(own + at, mask=at < end, other=0.0)
        mean = tl.load(own + stride + at, mask=n > 0, other=0.0)
        within = tl.load(own + 2 * stride + at, mask=n > 0, other=0.0)
        delta = tl.where(n > 0, mean - center, 0.0)
        m2 += tl.sum(within + (delta * n) * delta, 0)
    return m2


@triton.jit
def merge_partials(parts_of, out, channels, parts, share, groups, B: tl.constexpr):
    r"""Merge a share of the partial results of one channel, one of so many groups.

    With weights :math:`w_p = n_p / n` the mean is :math:`\bar x = \sum w_p \bar x_p`, corrected
    once by the same sum over :math:`\bar x_p - \bar x`, and
    :math:`M_2 = \sum M_{2p} + \sum n_p (\bar x_p - \bar x)^2`: the sum of squares within and
    between parts, of which Chan, Golub & LeVeque (1983) eq. 2.1 is the case of two.
    """
    c = (tl.program_id(0) // groups).to(tl.int64)
    group = tl.program_id(0) % groups
    begin = group * share
    end = tl.minimum(begin + share, parts)
    stride = tl.cast(channels, tl.int64) * parts
    own = parts_of + c * parts
    count, least, most, odd, special, specials = _survey(own, stride, begin, end, B)
    center = _mean(own, stride, begin, end, count, least, most, B)
    m2 = _squares(own, stride, begin, end, center, B)
    some = count > 0
    mean = tl.where(specials > 0, special, center)
    m2 = tl.where(specials > 0, float("nan"), tl.where(least == most, 0.0, m2))
    unknown = (odd > 0) | (count == 0)
    to = out + c * groups + group
    step = tl.cast(channels, tl.int64) * groups
    tl.store(to, count)
    tl.store(to + step, tl.where(some, mean + 0.0, float("nan")))
    tl.store(to + 2 * step, tl.where(some, m2, 0.0))
    tl.store(to + 3 * step, tl.where(unknown, float("nan"), least + 0.0))
    tl.store(to + 4 * step, tl.where(unknown, float("nan"), most + 0.0))
