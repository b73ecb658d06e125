r"""Sums in float64 that lose nothing: what one rung cannot hold, the next one below takes.

An accumulator that starts at 1.5 · 2**52 units and moves by less than 2**51 of them stays where the
distance of two float64 is one unit. To add x to it rounds x to whole units; what it moved by,
``after - before``, is exact, and so is ``x - (after - before)``, at most half a unit, which goes to
the next rung. The last rung starts at 0 and is a plain sum, exact as long as it stays below
2**53 of its units and all that comes to it is a multiple of one. (Rump, Ogita & Oishi 2008,
"Accurate floating-point summation, part I", SIAM J. Sci. Comput. 31(1), lemma 3.3; Demmel & Nguyen
2013, "Fast reproducible floating-point summation", ARITH 21.) In whatever order values come, the
total is the same.

Values are scaled: below 1, and multiples of 2**-span. With at most 255 of them in a lane,
docs/exact.md counts the bits of every rung.
"""

from typing import Any

from llvmlite import ir

from streamnorm.kernels.vectors import Vectors

__all__ = ["MOST_ROWS", "Ladder"]

MOST_ROWS = 255
"""Values in a lane, so that they add up to less than 2**8 of the largest."""

_F64 = ir.DoubleType()
_I64 = ir.IntType(64)


class Ladder:
    """Rungs in registers."""

    def __init__(self, words: Vectors, units: tuple[int, ...], *, squares: bool) -> None:
        self.words = words
        self.units = units
        # Squares only add: there is room for twice as many units.
        first = 1.0 if squares else 1.5
        self.starts = [
            (first if k == 0 else 1.5) * 2.0 ** (52 + unit) for k, unit in enumerate(units)
        ]
        self.starts[-1] = 0.0
        kind = words.of(_F64)
        self.rungs = [words.variable(words.constant(kind, start)) for start in self.starts]

    def add(self, number: Any, first: int = 0) -> None:
        """Add to rung `first`, and hand down what is left."""
        builder = self.words.builder
        for rung in self.rungs[first:-1]:
            before = builder.load(rung)
            after = builder.fadd(before, number)
            builder.store(after, rung)
            number = builder.fsub(number, builder.fsub(after, before))
        self.words.update(self.rungs[-1], lambda before: builder.fadd(before, number))

    def add_square(self, number: Any, fused: str) -> None:
        """Add a square that is multiplied and added in one, by the LLVM intrinsic `fused`."""
        words, builder = self.words, self.words.builder
        kind = number.type
        name = f"llvm.{fused}.v{words.width}f64"
        before = builder.load(self.rungs[0])
        after = words.call(name, kind, [number, number, before])
        builder.store(after, self.rungs[0])
        down = builder.fsub(before, after)
        self.add(words.call(name, kind, [number, number, down]), first=1)

    def add_long_square(self, number: Any) -> None:
        """Add a square that takes two numbers: the product, and what its rounding cut off."""
        words, builder = self.words, self.words.builder
        product = builder.fmul(number, number)
        minus = builder.fsub(words.constant(number.type, -0.0), product)
        name = f"llvm.fma.v{words.width}f64"
        self.add(product)
        self.add(words.call(name, number.type, [number, number, minus]), first=1)

    def whole(self) -> list[Any]:
        """Return what stands on every rung, in whole units, as int64."""
        words, builder = self.words, self.words.builder
        wholes = []
        for rung, start, unit in zip(self.rungs, self.starts, self.units, strict=True):
            moved = builder.load(rung)
            if start:
                moved = builder.fsub(moved, words.constant(moved.type, start))
            scaled = builder.fmul(moved, words.constant(moved.type, 2.0**-unit))
            wholes.append(builder.fptosi(scaled, words.of(_I64)))
        return wholes
