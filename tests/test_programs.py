"""Programs of a GPU that read many tiles, in arrays small enough for an interpreter.

As they are started, an array of a million values is one tile a program. Here tiles are small, and
a GPU is content with few programs: the loop, which asks for four tiles ahead, what is left behind
it, and merging in two steps.
"""

from contextlib import ExitStack, contextmanager
from unittest import mock

import numpy as np
import pytest
from laws import agree

torch = pytest.importorskip("torch")
pytest.importorskip("triton")
from devices import KITS  # noqa: E402 - needs torch

import streamnorm as sn  # noqa: E402 - the same
from streamnorm.kernels import device, tiles, triton_launch, tuned  # noqa: E402 - the same
from streamnorm.kernels.tiles import FEW, LANES, RUNS, Shape, tiles_of  # noqa: E402 - the same
from streamnorm.kernels.triton_exact import MOST_OF_A_PLACE, MOST_VALUES  # noqa: E402 - the same

pytestmark = [pytest.mark.torch, pytest.mark.triton, pytest.mark.proof]
KIT = KITS["triton"]
SHAPES = {RUNS: Shape(32, 16), FEW: Shape(32, 32), LANES: Shape(32, 8)}
ARRAYS = {
    "whole runs": (40, 2, 32),
    "torn runs": (37, 3, 21),
    "few channels": (801, 3, 1),
    "lanes": (301, 9, 1),
    "lanes of pairs": (90, 5, 2),
}


@contextmanager
def long_programs(*, two_steps=False):
    """Start programs of small tiles, as many tiles each as they may have."""
    few = {kernel: dict.fromkeys((1, 2, 4, 8), SHAPES) for kernel in triton_launch.SHAPES}
    for of_size in few["measure_floats"]:
        few["measure_floats"][of_size] = {RUNS: SHAPES[RUNS], LANES: SHAPES[LANES]}
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(tiles, "_PROGRAMS", 2))
        stack.enter_context(mock.patch.object(triton_launch, "SHAPES", few))
        if two_steps:
            for name, value in {"_LONG": 3, "_SHORT": 2, "_MERGED_AT_ONCE": 2}.items():
                stack.enter_context(mock.patch.object(triton_launch, name, value))
            stack.enter_context(mock.patch.object(tiles, "_PROGRAMS", 1024))
        forget()
        yield
    forget()


def forget():
    triton_launch.launch.plan.cache_clear()
    device._course_of.cache_clear()


def check(array, **options):
    """Compare what programs find out with the host."""
    here, there = sn.measure(array, **options), KIT.measure(array, **options)
    if array.dtype.kind == "f":
        finite = np.abs(array[np.isfinite(array)]).astype(float)
        agree(there, here, largest=float(finite.max(initial=0)))
    else:
        agree(there, here, largest=float(np.abs(array.astype(float)).max()))
    assert sn.measure(array, exact=True, **options) == KIT.measure(array, exact=True, **options)


def test_no_place_of_an_exact_sum_has_more_values_than_its_digits_hold():
    for shapes in tuned.SHAPES["sum_floats"].values():
        for shape in shapes.values():
            assert MOST_VALUES // shape.values <= MOST_OF_A_PLACE


@pytest.mark.parametrize("shape", ARRAYS.values(), ids=ARRAYS)
def test_programs_here_read_at_least_eight_tiles(shape):
    with mock.patch.object(tiles, "_PROGRAMS", 2):
        deal = tiles_of(*shape, SHAPES, 1 << 20)
    assert deal.each >= 8 * deal.rows


# Every kernel in every shape; other dtypes, which differ in what is loaded, in some.
CASES = [
    *(("float32", name, False) for name in ARRAYS),
    *(("float32", name, True) for name in ("torn runs", "lanes")),
    *(("uint8", name, name == "few channels") for name in ("torn runs", "few channels", "lanes")),
    *((dtype, "torn runs", False) for dtype in ("float16", "float64", "uint32")),
    *((dtype, "few channels", False) for dtype in ("float16", "int16")),
]


@pytest.mark.parametrize(("dtype", "name", "masked"), CASES)
def test_programs_of_many_tiles_find_what_the_host_finds(dtype, name, masked):
    rng, shape = np.random.default_rng(1), ARRAYS[name]
    array = (rng.normal(20, 9, shape) % 100).astype(dtype)
    mask = rng.random(shape) < 0.7 if masked else None
    with long_programs():
        check(array, mask=mask)


@pytest.mark.parametrize("shape", ARRAYS.values(), ids=ARRAYS)
def test_programs_of_many_tiles_find_values_far_from_the_first_ones(shape):
    """Above and below the window that the first tile suggests, also again; NaN and infinities."""
    array = np.random.default_rng(2).normal(1, 1, shape).astype(np.float32)
    flat = array.reshape(-1)
    powers = np.repeat([0, 5, -9, 0, 14, -13, -30], flat.size // 7 + 1)[: flat.size]
    flat *= np.float32(10.0) ** powers.astype(np.float32)
    flat[flat.size // 2 :: 97] = np.nan
    flat[flat.size // 3 :: 89] = np.inf
    flat[flat.size // 3 + 5 :: 83] = -np.inf
    with long_programs():
        assert sn.measure(array, exact=True) == KIT.measure(array, exact=True)


def test_partial_results_merged_in_two_steps_are_those_of_the_host():
    array = np.random.default_rng(3).normal(1e3, 1, (17, 3, 21))
    array[0, 0] = np.nan
    with long_programs(two_steps=True):
        assert len(triton_launch._merges(channels=3, parts=17)) >= 2
        check(array, nan_policy="omit")
