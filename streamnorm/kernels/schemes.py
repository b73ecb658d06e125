"""The rungs of sums in float64 that lose nothing, for every kernel; see `kernels.ladders`."""

from typing import NamedTuple

__all__ = ["LONG", "SHORT", "Scheme"]


class Scheme(NamedTuple):
    """The rungs for values that are multiples of 2**-span: exponents of their units.

    Attributes
    ----------
    span : int
    sums, squares : tuple of int
        Of sums, and of sums of squares.
    """

    span: int
    sums: tuple[int, ...]
    squares: tuple[int, ...]


SHORT = Scheme(45, (-45,), (-44, -90))
"""Where float64 holds every square, or what a fused operation leaves of it."""
LONG = Scheme(88, (-43, -88), (-44, -88, -131, -176))
"""For float64, whose squares come in two numbers."""
