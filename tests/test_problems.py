"""The problem bank against the bound, and the bank itself."""

import math
from collections import Counter

import numpy as np
import pytest
from oracle import assert_accurate, exact, mean_error, variance_error
from problems import LEDGER, PROBLEMS, TAGS

import streamnorm as sn

per_problem = pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.name)


@per_problem
def test_measured_whole(problem):
    column = problem.column()
    assert_accurate(sn.measure(column), [column])


@per_problem
def test_measured_along_a_run(problem):
    column = problem.column()
    assert_accurate(sn.measure(column.T, channel_axis=0), [column])


@per_problem
@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_streamed_in_batches(problem, batch):
    column = problem.column()
    column = column[: 3000 if batch == 1 else None]
    accumulator = sn.Accumulator()
    for start in range(0, len(column), batch):
        accumulator.update(column[start : start + batch])
    assert_accurate(accumulator.moments, [column])


@pytest.mark.parametrize(
    ("method", "name"),
    [(method, name) for method, cases in LEDGER.items() for name in cases],
    ids=lambda v: getattr(v, "__name__", v),
)
def test_rejected_formulas_are_outside_the_bound_as_the_ledger_says(method, name):
    column = next(p for p in PROBLEMS if p.name == name).column()
    mean, variance = method(column[:, 0])
    truth = exact(column)
    undefined = math.isnan(mean) or math.isnan(variance)
    assert undefined or mean_error(mean, truth) > 1 or variance_error(variance, truth) > 1


def test_the_bank_is_well_formed():
    names = Counter(problem.name for problem in PROBLEMS)
    assert set(names.values()) == {1}
    assert all(problem.tags and problem.tags <= TAGS for problem in PROBLEMS)
    assert set().union(*(problem.tags for problem in PROBLEMS)) == TAGS
    assert all(set(cases) <= set(names) for cases in LEDGER.values())


def test_the_bound_is_sharp_enough_to_catch_a_wrong_last_digit():
    truth = exact(np.array([1.0, 2.0, 4.0]))
    assert mean_error(float(truth.mean) * (1 + 1e-13), truth) > 1
    assert variance_error(float(truth.variance) * (1 + 1e-12), truth) > 1
