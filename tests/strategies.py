"""Operational data: arrays as people have them, in every layout, and random ways to split them."""

from dataclasses import dataclass

import hypothesis.extra.numpy as hnp
import numpy as np
from hypothesis import strategies as st

FLOATS = ("float16", "float32", "float64")
INTEGERS = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
DTYPES = (*INTEGERS, *FLOATS)


@dataclass(frozen=True)
class View:
    """One way to lay (samples, channels) in memory: `build` makes the array that is measured."""

    name: str
    axis: int | None
    build: object


def _nchw(table):
    return np.ascontiguousarray(table.reshape(-1, 2, 2, table.shape[1]).transpose(0, 3, 1, 2))


def _padded_nhwc(table):
    return np.pad(table.reshape(-1, 2, 2, table.shape[1]), ((0, 0), (1, 1), (2, 1), (0, 0)))


LAYOUTS = (
    View("rows", 1, lambda t: t),
    View("rows, negative axis", -1, lambda t: t),
    View("columns first", 0, lambda t: np.ascontiguousarray(t.T)),
    View("transposed", 0, lambda t: t.T),
    View("NCHW", 1, _nchw),
    View("NHWC of NCHW", -1, lambda t: _nchw(t).transpose(0, 2, 3, 1)),
    View(
        "channels_last memory", 1, lambda t: t.reshape(-1, 2, 2, t.shape[1]).transpose(0, 3, 1, 2)
    ),
    View("volume", 1, lambda t: _nchw(t)[:, :, None]),
    View("video", 2, lambda t: _nchw(t)[:, None]),
    View("every other", 1, lambda t: np.repeat(t, 2, axis=0)[::2]),
    View("crop", 1, lambda t: np.pad(_nchw(t), ((0, 0), (0, 0), (1, 1), (1, 2)))[:, :, 1:-1, 1:-2]),
    View("colours of wider pixels", -1, lambda t: np.pad(t, ((0, 0), (0, 1)))[:, :-1]),
    View("crop of channels last", -1, lambda t: _padded_nhwc(t)[:, 1:-1, 2:-1]),
    View("reversed", 1, lambda t: np.ascontiguousarray(t[::-1])[::-1]),
    View("Fortran order", 1, np.asfortranarray),
    View("big-endian", 1, lambda t: t.astype(t.dtype.newbyteorder(">"))),
)


def finite_values(dtype: str):
    """Values of one kind: images, Gaussians far from 0, tiny, huge, constant."""
    kind = np.dtype(dtype).kind
    if kind == "b":
        return st.sampled_from([lambda rng, shape: rng.integers(0, 2, shape).astype(bool)])
    if kind in "iu":
        info = np.iinfo(dtype)
        return st.sampled_from(
            [
                lambda rng, shape: rng.integers(info.min, info.max, shape, dtype, endpoint=True),
                lambda rng, shape: rng.integers(
                    info.max - 9, info.max, shape, dtype, endpoint=True
                ),
                lambda rng, shape: np.full(shape, info.min, dtype),
                lambda rng, shape: rng.integers(0, 3, shape).astype(dtype),
            ]
        )
    top = float(np.finfo(dtype).max)
    tiny = float(np.finfo(dtype).smallest_subnormal)
    return st.sampled_from(
        [
            lambda rng, shape: rng.normal(size=shape).astype(dtype),
            lambda rng, shape: (1e4 + rng.normal(size=shape)).astype(dtype),
            lambda rng, shape: (rng.normal(size=shape) * 10.0 ** rng.uniform(-4, 4, shape)).astype(
                dtype
            ),
            lambda rng, shape: np.full(shape, rng.normal(), dtype),
            lambda rng, shape: (rng.integers(-9, 9, shape) * tiny).astype(dtype),
            lambda rng, shape: (rng.choice([-1.0, 1.0, 0.999], shape) * top).astype(dtype),
            lambda rng, shape: rng.choice([-0.0, 0.0], shape).astype(dtype),
            lambda rng, shape: np.sort(rng.normal(size=shape), axis=0).astype(dtype),
        ]
    )


@st.composite
def tables(draw, dtype="float64", max_rows=60, max_channels=5, special=False):
    """Draw (4 k, C) values of one kind of data, NaN and infinities strewn in on demand."""
    rows = 4 * draw(st.integers(0, max_rows // 4))
    channels = draw(st.integers(1, max_channels))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    table = draw(finite_values(dtype))(rng, (rows, channels))
    if special and table.size:
        odd = draw(
            st.sampled_from([[np.nan], [np.inf], [-np.inf], [np.inf, -np.inf], [np.nan, np.inf]])
        )
        where = rng.random(table.shape) < draw(st.sampled_from([0.0, 0.02, 0.3]))
        table[where] = rng.choice(odd, int(where.sum()))
    return table


def patterns(dtype, rng, shape):
    """Return values of random bit patterns: every exponent, NaN and infinities among them."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    count = int(np.prod(shape))
    return rng.integers(0, 256, count * dtype.itemsize, np.uint8).view(dtype).reshape(shape)


@st.composite
def bit_patterns(draw, dtype, max_rows=60, max_channels=5):
    """Draw (4 k, C) values of random bits, or of a few exponents that windows lie between."""
    rows = 4 * draw(st.integers(0, max_rows // 4))
    shape = (rows, draw(st.integers(1, max_channels)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    table = patterns(dtype, rng, shape)
    if np.dtype(dtype).kind == "f" and draw(st.booleans()):
        # Of one sign and few exponents: windows are met, left, and met again.
        with np.errstate(all="ignore"):
            exponents = rng.choice(draw(st.lists(st.integers(-1080, 1023), min_size=1)), shape)
            table = np.ldexp(rng.uniform(-1, 1, shape), exponents).astype(dtype)
    return table


def splits(rows: int):
    """Draw cut points of `rows` rows into parts; empty parts and parts of one row included."""
    return st.lists(st.integers(0, rows), max_size=6).map(lambda cuts: [0, *sorted(cuts), rows])


def masks(shape):
    """Draw a boolean mask of this shape."""
    return hnp.arrays(np.bool_, shape)


def merged_in_random_tree(parts, rng):
    """Merge neighbours in a random order, keeping their sequence."""
    parts = list(parts)
    while len(parts) > 1:
        at = int(rng.integers(len(parts) - 1))
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts[0]
