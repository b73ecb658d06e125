"""For the GPU: the tiles of a program, where they lie and what they hold."""

import triton
import triton.language as tl

from streamnorm.kernels import tiles

__all__ = [
    "ALL",
    "FEW",
    "LANES",
    "RUNS",
    "channels_of",
    "checked_from",
    "lanes_of",
    "load",
    "load_four",
    "number",
    "values_of",
]

RUNS = tl.constexpr(tiles.RUNS)
FEW = tl.constexpr(tiles.FEW)
LANES = tl.constexpr(tiles.LANES)
ALL = tl.constexpr(tl.PropagateNan.ALL)


@triton.jit
def _place(t, block, channels, inner, per, used, size, KIND: tl.constexpr, W: tl.constexpr):
    """Return where rows begin, in values, and how many values of each there are.

    Rows `t` as numbers, shape (R, 1); gives int64 and int32 of that shape.
    """
    if KIND == RUNS:
        run = t // per
        ahead = (t - run * per) * W
        start = (run.to(tl.int64) * channels + block) * inner + ahead
        limit = inner - ahead
    else:
        row = t.to(tl.int64) * used
        start = row + block * W
        limit = (tl.minimum(size - row, used) - block * W).to(tl.int32)
    return start, limit


@triton.jit
def number(raw, STORED: tl.constexpr):
    """Return stored values as numbers: float32 where that holds them all, else float64."""
    if STORED == "bfloat16":
        # As its bits: the upper half of a float32.
        value = (raw.to(tl.int32) << 16).to(tl.float32, bitcast=True)
    elif STORED == "float16":
        value = raw.to(tl.float32)
    elif STORED == "float32" or STORED == "float64":
        value = raw
    else:
        value = raw.to(tl.float64)
    return value


@triton.jit
def checked_from(
    first, last, used, size, KIND: tl.constexpr, EVEN: tl.constexpr, ROWS: tl.constexpr
):
    """Return the row from which on rows are not known to come in full steps of `ROWS`."""
    full = last
    if KIND != RUNS:
        full = tl.minimum(last, tl.cast(size // used, tl.int32))
    checked = first + (full - first) // ROWS * ROWS
    if not EVEN:
        checked = first
    return checked


@triton.jit
def load(
    x, valid, start, last, block, channels, inner, per, used, size,
    KIND: tl.constexpr, MASKED: tl.constexpr, CHECKED: tl.constexpr,
    R: tl.constexpr, W: tl.constexpr,
):  # fmt: skip
    """Return the stored values of a tile, and which of them count.

    Places that are of no channel are not looked after unless the tile is `CHECKED`.
    """
    cols = tl.arange(0, W)[None, :]
    t = start + tl.arange(0, R)[:, None]
    base, limit = _place(t, block, channels, inner, per, used, size, KIND, W)
    at = base + cols
    keep = tl.full((R, W), 1, tl.int1)
    if CHECKED:
        keep = (t < last) & (cols < limit)
        raw = tl.load(x + at, mask=keep, other=0)
        if MASKED:
            keep = keep & (tl.load(valid + at, mask=keep, other=0) != 0)
    elif KIND == RUNS:
        raw = tl.load(x + at)
        if MASKED:
            keep = tl.load(valid + at) != 0
    else:
        room = cols < (used if KIND == FEW else used - block * W)
        raw = tl.load(x + at, mask=room, other=0)
        if MASKED:
            keep = tl.load(valid + at, mask=room, other=0) != 0
    return raw, keep


@triton.jit
def load_four(
    x, valid, start, last, block, channels, inner, per, used, size,
    KIND: tl.constexpr, MASKED: tl.constexpr, R: tl.constexpr, W: tl.constexpr,
):  # fmt: skip
    """Load four full tiles before any is used: a program then waits for memory once for all."""
    raw0, keep0 = load(
        x, valid, start, last, block, channels, inner, per, used, size, KIND, MASKED, False, R, W
    )
    raw1, keep1 = load(
        x, valid, start + R, last, block, channels, inner, per, used, size,
        KIND, MASKED, False, R, W,
    )  # fmt: skip
    raw2, keep2 = load(
        x, valid, start + 2 * R, last, block, channels, inner, per, used, size,
        KIND, MASKED, False, R, W,
    )  # fmt: skip
    raw3, keep3 = load(
        x, valid, start + 3 * R, last, block, channels, inner, per, used, size,
        KIND, MASKED, False, R, W,
    )  # fmt: skip
    return raw0, raw1, raw2, raw3, keep0, keep1, keep2, keep3


@triton.jit
def values_of(
    first, last, block, channels, inner, per, used, size, KIND: tl.constexpr, W: tl.constexpr
):
    """Return how many values the rows of a program hold of each channel, or of every lane."""
    if KIND == RUNS:
        ends = last // per - first // per
        values = (last - first).to(tl.int64) * W - ends.to(tl.int64) * (per * W - inner)
    elif KIND == FEW:
        stop = tl.minimum(last.to(tl.int64) * used, size)
        values = (stop - first.to(tl.int64) * used) // channels
    else:
        lane = block * W + tl.arange(0, W)
        missing = lane >= size - (last - 1).to(tl.int64) * used
        values = (last - first) - missing.to(tl.int64)
        values = tl.where(lane < used, values, 0)
    return values


@triton.jit
def lanes_of(block, chunk, channels, inner, used, W: tl.constexpr):
    """Return of every lane its channel, and the number of its partial result there."""
    lane = block * W + tl.arange(0, W)
    unit = channels * inner
    own = lane % unit
    sub = lane // unit * inner + own % inner
    return own // inner, chunk * (used // channels) + sub, lane < used


@triton.jit
def channels_of(channels, inner, used, KIND: tl.constexpr, W: tl.constexpr):
    """Return which of the channels that a program puts together each lane is of, (W,)."""
    cols = tl.arange(0, W)
    if KIND == FEW:
        channel = tl.where(cols < used, (cols % (channels * inner)) // inner, -1)
    else:
        channel = tl.zeros_like(cols)
    return channel
