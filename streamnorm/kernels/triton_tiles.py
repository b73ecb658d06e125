"""For the GPU: the tiles of a program, where they lie, what they hold, and the loop over them.

Two tuples go through all functions. A *piece* is what a program reads: the values, the mask, its
block, its first and last row, and what `kernels.tiles` says of them: channels, inner, per with its
inverse and shift, used and size. A *form* is what it is compiled for: kind, whether there is a
mask, whether all rows are full, and the rows and the width of a tile.
"""

import triton
import triton.language as tl

from streamnorm.kernels import tiles

__all__ = [
    "ALL",
    "LANES",
    "OF_KIND",
    "RUNS",
    "add_up",
    "channels_of",
    "lanes_of",
    "load",
    "number",
    "piece_of",
    "put",
    "values_of",
]

RUNS = tl.constexpr(tiles.RUNS)
LANES = tl.constexpr(tiles.LANES)
ALL = tl.constexpr(tl.PropagateNan.ALL)
OF_KIND, _MASKED, _EVEN, _ROWS, _WIDTH = (tl.constexpr(k) for k in range(5))
"""Where what a form says stands in it."""


@triton.jit
def piece_of(x, valid, channels, inner, blocks, per, inverse, shift, used, total, each, size):
    """Return what this program reads."""
    first = tl.program_id(0) // blocks * each
    last = tl.minimum(first + each, total)
    block = tl.program_id(0) % blocks
    return x, valid, block, first, last, channels, inner, per, inverse, shift, used, size


@triton.jit
def _place(piece, t, FORM: tl.constexpr):
    """Return where rows begin, in values, and how many values of each there are.

    Rows `t` as numbers, shape (R, 1); gives int64 and int32 of that shape.
    """
    _, _, block, _, _, channels, inner, per, inverse, shift, used, size = piece
    W: tl.constexpr = FORM[_WIDTH]
    if FORM[OF_KIND] == RUNS:
        run = ((t.to(tl.int64) * inverse) >> shift).to(tl.int32)
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
def load(piece, start, CHECKED: tl.constexpr, FORM: tl.constexpr):
    """Return the stored values of a tile, and which of them count.

    Places that are of no channel are not looked after unless the tile is `CHECKED`.
    """
    x, valid, block, _, last, _, _, _, _, _, used, _ = piece
    R: tl.constexpr = FORM[_ROWS]
    W: tl.constexpr = FORM[_WIDTH]
    cols = tl.arange(0, W)[None, :]
    t = start + tl.arange(0, R)[:, None]
    base, limit = _place(piece, t, FORM)
    at = base + cols
    keep = tl.full((R, W), 1, tl.int1)
    if CHECKED:
        keep = (t < last) & (cols < limit)
        raw = tl.load(x + at, mask=keep, other=0)
        if FORM[_MASKED]:
            keep = keep & (tl.load(valid + at, mask=keep, other=0) != 0)
    elif FORM[_EVEN]:
        raw = tl.load(x + at)
        if FORM[_MASKED]:
            keep = tl.load(valid + at) != 0
    else:
        room = cols < used - block * W
        raw = tl.load(x + at, mask=room, other=0)
        if FORM[_MASKED]:
            keep = tl.load(valid + at, mask=room, other=0) != 0
    return raw, keep


@triton.jit
def _load_four(piece, start, FORM: tl.constexpr):
    """Load four full tiles before any is used: a program then waits for memory once for all."""
    R: tl.constexpr = FORM[_ROWS]
    return (
        load(piece, start, False, FORM),
        load(piece, start + R, False, FORM),
        load(piece, start + 2 * R, False, FORM),
        load(piece, start + 3 * R, False, FORM),
    )


@triton.jit
def _checked_from(piece, FORM: tl.constexpr):
    """Return the row from which on rows are not known to come in full steps of four tiles."""
    _, _, _, first, last, _, _, _, _, _, used, size = piece
    full = last
    if FORM[OF_KIND] != RUNS:
        full = tl.minimum(last, tl.cast(size // used, tl.int32))
    checked = first + (full - first) // (4 * FORM[_ROWS]) * (4 * FORM[_ROWS])
    if FORM[OF_KIND] == RUNS and not FORM[_EVEN]:
        checked = first
    return checked


@triton.jit
def add_up(ADD: tl.constexpr, HOW: tl.constexpr, sums, around, piece, FORM: tl.constexpr):
    """Add all tiles of a program to the sums of its places.

    ``ADD(raw, keep, sums, around, HOW)`` adds one tile and gives the new sums, a tuple.
    """
    R: tl.constexpr = FORM[_ROWS]
    _, _, _, first, last, _, _, _, _, _, _, _ = piece
    checked = _checked_from(piece, FORM)
    if checked > first:
        tiles = _load_four(piece, first, FORM)
        for start in range(first, checked, 4 * R):
            # The next ones are under way while these are added; the last ones are loaded twice.
            ahead = tl.minimum(start + 4 * R, checked - 4 * R)
            more = _load_four(piece, ahead, FORM)
            for k in tl.static_range(4):
                raw, keep = tiles[k]
                sums = ADD(raw, keep, sums, around, HOW)
            tiles = more
    for start in range(checked, last, R):
        raw, keep = load(piece, start, True, FORM)
        sums = ADD(raw, keep, sums, around, HOW)
    return sums


@triton.jit
def values_of(piece, FORM: tl.constexpr):
    """Return how many values there are in every lane of a program's rows, int64 (W,)."""
    _, _, block, first, last, _, inner, per, _, _, used, size = piece
    W: tl.constexpr = FORM[_WIDTH]
    lane = tl.arange(0, W)
    values = tl.zeros((W,), tl.int64) + (last - first)
    if FORM[OF_KIND] == RUNS:
        ends = last // per - first // per
        values -= tl.where(lane < inner - (per - 1) * W, 0, ends)
    else:
        lane += block * W
        values -= (lane >= size - (last - 1).to(tl.int64) * used).to(tl.int64)
        values = tl.where(lane < used, values, 0)
    return values


@triton.jit
def lanes_of(piece, FORM: tl.constexpr):
    """Return the channel of every lane, the number of its partial result in a row, and its room."""
    _, _, block, _, _, channels, inner, _, _, _, used, _ = piece
    W: tl.constexpr = FORM[_WIDTH]
    lane = block * W + tl.arange(0, W)
    unit = channels * inner
    own = lane % unit
    return own // inner, lane // unit * inner + own % inner, lane < used


@triton.jit
def channels_of(piece, FORM: tl.constexpr):
    """Return the program's first channel; of every lane its channel from there on, and its room."""
    if FORM[OF_KIND] == RUNS:
        W: tl.constexpr = FORM[_WIDTH]
        base = piece[2]
        channel = tl.zeros((W,), tl.int32)
        room = channel == 0
    else:
        base = piece[2] * 0
        channel, _, room = lanes_of(piece, FORM)
    return base, channel, room


@triton.jit
def put(
    PUT: tl.constexpr, HOW: tl.constexpr, out, step, more, added, largest, piece,
    FORM: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Put what lanes have found, numbers to add up and keys above 0, to their channels' places.

    ``PUT(place, more, added, largest, room, HOW)`` does so for one channel, or for lanes of `LANES`
    each by itself; places are so many steps apart. Only lanes of `LANES` may have no room.
    """
    base, channel, room = channels_of(piece, FORM)
    if FORM[OF_KIND] == LANES:
        PUT(out + channel.to(tl.int64) * step, more, added, largest, room, HOW)
    else:
        for c in tl.static_range(CHANNELS):
            mine = channel == c
            sums = ()
            for k in tl.static_range(len(added)):
                sums += (tl.sum(tl.where(mine, added[k], 0), 0),)  # type: ignore[assignment]
            most = ()
            for k in tl.static_range(len(largest)):
                most += (tl.max(tl.where(mine, largest[k], 0), 0),)  # type: ignore[assignment]
            PUT(out + (base + c).to(tl.int64) * step, more, sums, most, True, HOW)
