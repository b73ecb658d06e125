"""How Triton's kernels are started: found by trying, on an H100; docs/design.md has the figures."""

from streamnorm.kernels.tiles import FEW, LANES, RUNS, Shape

__all__ = ["BYTES", "SHAPES"]

_INTEGERS = {RUNS: Shape(2048, 2048), FEW: Shape(2048, 2048, 8, 64), LANES: Shape(2048, 256)}
SHAPES = {
    "measure_floats": {
        2: {RUNS: Shape(1024, 1024, 4, 128), LANES: Shape(512, 64, 1)},
        4: {RUNS: Shape(1024, 1024, 4, 128), LANES: Shape(2048, 64)},
        8: {RUNS: Shape(1024, 1024), LANES: Shape(1024, 64)},
    },
    "sum_floats": {
        2: {
            RUNS: Shape(1024, 1024, 4, 168),
            FEW: Shape(1024, 1024, 4, 168),
            LANES: Shape(512, 128, 4, 128),
        },
        4: {
            RUNS: Shape(512, 512, 4, 128),
            FEW: Shape(1024, 1024, 4, 168),
            LANES: Shape(1024, 128),
        },
    },
    "sum_integers": {
        1: _INTEGERS | {RUNS: Shape(1024, 1024, 2, 128)},
        2: _INTEGERS,
        4: _INTEGERS,
    },
}
"""By kernel and bytes of a value. A lane gives a result of its own, so the fewer the better; but
narrow rows are read slowly."""

BYTES = 1 << 20
"""A program reads at most: enough that its beginning and its end cost little, and so little that
thousands of programs share a gigabyte evenly."""
