"""Exact sums in cases small enough to run as plain Python too, for coverage of kernels."""

import numpy as np
import pytest
from oracle import exact_sums
from strategies import DTYPES, LAYOUTS, patterns

import streamnorm as sn
from streamnorm.kernels import crew, exact_boxes
from streamnorm.kernels.machine import JIT_OFF


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@pytest.mark.parametrize("dtype", DTYPES)
def test_layouts_and_dtypes(dtype, layout):
    table = patterns(dtype, np.random.default_rng(0), (16, 2))
    measured = sn.measure(layout.build(table), channel_axis=layout.axis, exact=True)
    for c, column in enumerate(table.T):
        assert (measured.sum[c], measured.sum_of_squares[c]) == exact_sums(column)[1:]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16"])
@pytest.mark.parametrize("shape", [(300, 3), (2, 2, 300), (20, 70)], ids=str)
def test_whole_tiles_and_masks(shape, dtype):
    rng = np.random.default_rng(0)
    x = rng.normal(20, 9, shape).astype(dtype)
    mask = rng.random(shape) < 0.8
    whole, masked = (sn.measure(x, exact=True, **given) for given in ({}, {"mask": mask}))
    for c, (column, kept) in enumerate(
        zip(*(np.moveaxis(a, 1, 0) for a in (x, mask)), strict=True)
    ):
        assert (whole.sum[c], whole.sum_of_squares[c]) == exact_sums(column)[1:]
        assert (masked.sum[c], masked.sum_of_squares[c]) == exact_sums(column[kept])[1:]


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_helpers_do_a_part_of_the_work(dtype, monkeypatch):
    monkeypatch.setattr(crew, "WORTH_HELPERS", 0)
    rng = np.random.default_rng(0)
    x = np.where(rng.random((2**16 + 9, 16)) < 0.01, rng.normal(20, 2, (2**16 + 9, 16)), 0)
    x = x.astype(dtype)
    assert sn.measure(x, threads=3, exact=True) == sn.measure(x, threads=1, exact=True)


@pytest.mark.skipif(not JIT_OFF, reason="looks into a kernel, which compiled code does not allow")
@pytest.mark.parametrize(
    "view", [lambda x: x[:, :20], lambda x: x.reshape(-1, 300)], ids=["gaps", "reaching back"]
)
def test_ordinary_data_are_read_once_behind_the_first_strip(view, monkeypatch):
    """Also where lanes have no owner: they reach back into others, or lie in gaps."""
    add_refused, listed = exact_boxes._add_refused, []

    def note(x, refused, *others):
        listed.append(int(refused[0]))
        add_refused(x, refused, *others)

    monkeypatch.setattr(exact_boxes, "_add_refused", note)
    x = view(np.random.default_rng(0).normal(20, 2, (3000, 21)).astype(np.float32))
    measured = sn.measure(x, exact=True)
    assert measured.sum[0] == exact_sums(x[:, 0])[1]
    assert len(listed) > 1 and listed[0] > 0 and not any(listed[1:])
