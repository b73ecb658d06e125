"""How arrays are dealt out to the programs of a GPU: nothing left out, nothing twice."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamnorm.kernels import tiles
from streamnorm.kernels.tiles import FEW, LANES, RUNS, Shape, inverse_of, tiles_of
from streamnorm.kernels.tuned import BYTES, SHAPES

SMALL = {RUNS: Shape(64, 64), FEW: Shape(64, 64), LANES: Shape(64, 8)}
"""Tiles so small that little arrays have many."""


def deal_of(shape, *, few, most):
    shapes = SMALL if few else {kind: SMALL[kind] for kind in (RUNS, LANES)}
    # As if a GPU were content with few programs: they have many tiles each.
    with mock.patch.object(tiles, "_PROGRAMS", 1):
        return tiles_of(*shape, shapes, most)


sizes = st.tuples(*(st.integers(1, most) for most in (60, 20, 40)))


def places_of(deal, shape):
    """Return for every value how many places are of it, and the channel that each place is of."""
    outer, channels, inner = shape
    size = outer * channels * inner
    row, lane = np.arange(deal.total)[:, None], np.arange(deal.width)
    times, channel_of = np.zeros(size, int), np.full(size, -1)
    for block in range(deal.blocks):
        if deal.kind == RUNS:
            run, piece = np.divmod(row, deal.per)
            within = piece * deal.width + lane
            at = np.where(within < inner, (run * channels + block) * inner + within, size)
            channel = np.broadcast_to(block, at.shape)
        else:
            place = block * deal.width + lane
            at = np.where(place < deal.used, row * deal.used + place, size)
            channel = np.broadcast_to(place % (channels * inner) // inner, at.shape)
        some = at < size
        np.add.at(times, at[some], 1)
        channel_of[at[some]] = channel[some]
    return times, channel_of


@given(shape=sizes, few=st.booleans(), most=st.sampled_from([64, 256, 4096]))
@example(shape=(60, 3, 1), few=False, most=64)
@example(shape=(60, 3, 1), few=True, most=64)
@example(shape=(1, 1, 1), few=True, most=64)
def test_every_value_lies_in_one_place_which_is_of_its_channel(shape, few, most):
    deal = deal_of(shape, few=few, most=most)
    times, channel_of = places_of(deal, shape)
    outer, channels, inner = shape
    assert (times == 1).all()
    assert (channel_of == np.tile(np.repeat(np.arange(channels), inner), outer)).all()


@given(shape=sizes, few=st.booleans(), most=st.sampled_from([64, 256, 4096]))
def test_programs_share_all_rows_and_read_no_more_than_they_may(shape, few, most):
    deal = deal_of(shape, few=few, most=most)
    assert (deal.chunks - 1) * deal.each < deal.total <= deal.chunks * deal.each
    assert deal.rows * deal.width <= deal.each * deal.width <= most
    wanted = -(-deal.total // deal.rows) * deal.blocks
    assert deal.each == deal.rows * min(most // 64, max(1, wanted))


@pytest.mark.parametrize(
    ("shape", "kind", "even"),
    [
        ((1784, 3, 50176), RUNS, True),
        ((10**8, 3, 1), LANES, True),
        ((10**6, 257, 1), LANES, True),
        ((3000, 17, 1), LANES, False),
        ((1784, 3, 50175), RUNS, False),
    ],
)
def test_rows_are_full_where_arrays_are_large_and_runs_long_enough(shape, kind, even):
    deal = tiles_of(*shape, SHAPES["measure_floats"][4], BYTES // 4)
    assert (deal.kind, deal.even) == (kind, even)


def test_few_channels_are_put_together_by_programs_only_where_that_is_asked_for():
    shapes = SHAPES["sum_integers"][1]
    assert tiles_of(10**8, 3, 1, shapes, BYTES).kind == FEW
    assert tiles_of(10**8, 5, 1, shapes, BYTES).kind == LANES
    assert tiles_of(10**8, 3, 1, SHAPES["measure_floats"][4], BYTES).kind == LANES


def test_no_place_of_small_integers_has_a_sum_of_squares_beyond_32_bits():
    for shape in SHAPES["sum_integers"][1].values():
        assert BYTES // shape.values * 255**2 < 2**32


@given(divisor=st.integers(1, 2**31 - 1), number=st.integers(0, 2**31 - 1))
@example(divisor=1, number=2**31 - 1)
@example(divisor=7, number=2**31 - 1)
@example(divisor=2**31 - 1, number=2**31 - 2)
def test_a_product_divides(divisor, number):
    factor, shift = inverse_of(divisor)
    multiple = number // divisor * divisor
    for n in (number, multiple, max(0, multiple - 1)):
        assert n * factor >> shift == n // divisor
        assert n * factor < 2**63
