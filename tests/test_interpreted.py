"""Layouts, masks and policies small enough to run as plain Python too, for coverage of kernels."""

import numpy as np
import pytest
from laws import KITS, agree
from oracle import assert_accurate
from strategies import DTYPES, LAYOUTS

import streamnorm as sn
from streamnorm.kernels import crew


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@pytest.mark.parametrize("dtype", DTYPES)
def test_layouts_and_dtypes(dtype, layout):
    table = (np.random.default_rng(0).normal(20, 9, (80, 3)) % 100).astype(dtype)
    assert_accurate(sn.measure(layout.build(table), channel_axis=layout.axis), list(table.T))


@pytest.mark.parametrize("policy", ["propagate", "omit"])
@pytest.mark.parametrize("shape", [(2, 2, 600), (60, 3, 1), (9, 2, 4)], ids=str)
def test_policies_and_masks(policy, shape):
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape).astype(np.float32)
    x[0, 1, 0] = np.nan
    x[1, 0, 0] = np.inf
    mask = rng.random(shape) < 0.8
    whole = sn.measure(x, nan_policy=policy)
    halves = [sn.measure(x[:1], nan_policy=policy), sn.measure(x[1:], nan_policy=policy)]
    agree(whole, sn.merge(halves), largest=9)
    given = {"nan_policy": policy, "mask": mask}
    by_kernel, *others = (kit.measure(np.abs(x), **given) for kit in KITS)
    for other in others:
        agree(by_kernel, other, largest=9)


def test_a_stream_is_the_merge_of_its_batches():
    batches = [np.full((k, 2), float(k)) for k in range(7)]
    accumulator = sn.Accumulator()
    for batch in batches:
        accumulator.update(batch)
    assert accumulator.moments == sn.merge(sn.measure(batch) for batch in batches)


def test_helpers_do_a_part_of_the_work(monkeypatch):
    monkeypatch.setattr(crew, "WORTH_HELPERS", 0)
    x = np.random.default_rng(0).normal(20, 9, (2**19, 2))
    assert sn.measure(x, threads=3) == sn.measure(x, threads=1)
