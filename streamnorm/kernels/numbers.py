"""How stored floats and 32-bit integers are compared, and become the float64 that are summed."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types

from streamnorm.arrays import Array
from streamnorm.kernels.vectors import Vectors

__all__ = ["Halves", "Plain", "floats_of", "numbers_of"]

_HALF = ir.IntType(16)
_F32 = ir.FloatType()
_F64 = ir.DoubleType()
_I64 = ir.IntType(64)


class Plain:
    """float32, float64 and 32-bit integers: compared as they are, or as float64."""

    def __init__(self, words: Vectors, kind: Any) -> None:
        self.words = words
        self.kind = kind
        self.whole = kind in (types.int32, types.uint32)
        self.compared = words.of(_F32 if kind == types.float32 else _F64)
        self.lowest = words.constant(self.compared, float("-inf"))
        self.highest = words.constant(self.compared, float("inf"))

    def ordered(self, raw: Any) -> Any:
        """Return stored values as what is compared."""
        if self.whole:
            signed = self.kind == types.int32
            cast = self.words.builder.sitofp if signed else self.words.builder.uitofp
            return cast(raw, self.compared)
        return raw

    def smaller(self, a: Any, b: Any) -> Any:
        """Return the smaller of two vectors of what is compared."""
        return self.words.smaller(a, b)

    def larger(self, a: Any, b: Any) -> Any:
        """Return the larger of two vectors of what is compared."""
        return self.words.larger(a, b)

    def number(self, ordered: Any) -> Any:
        """Return what was compared as float64, exactly."""
        if self.compared.element == _F64:
            return ordered
        return self.words.builder.fpext(ordered, self.words.of(_F64))

    def deviation(self, raw: Any, shift: Any) -> Any:
        """Return stored values minus `shift`, as float64."""
        return self.words.builder.fsub(self.number(self.ordered(raw)), shift)

    def is_number(self, raw: Any) -> Any:
        """Return which stored values are not NaN; of integers nobody asks."""
        return self.words.builder.fcmp_ordered("ord", raw, raw)


class Halves:
    """float16 and bfloat16: compared as integers, and turned into float64 bit by bit.

    As integers, those below zero are in reverse order: their bits are turned over, all but the
    sign. Moved to the place of a float64's exponent and fraction, the bits stand for the number
    times a power of two, denormals included; the multiplication that takes it out again is part of
    the subtraction of the shift. NaN and infinities then look like larger numbers than there are.
    """

    def __init__(self, words: Vectors, kind: Any) -> None:
        self.words = words
        exponent_bits = 5 if kind == types.int16 else 8
        self.compared = words.of(_HALF)
        fraction_bits = 15 - exponent_bits
        self.moved = 52 - fraction_bits
        self.kept = 1 << 63 | ((1 << 15) - 1) << self.moved
        bias = 2 ** (exponent_bits - 1) - 1
        self.scale = 2.0 ** (1023 - bias)
        self.largest = (2 - 2.0**-fraction_bits) * 2.0**bias
        self.infinity = (2**exponent_bits - 1) << fraction_bits
        self.highest = words.constant(self.compared, self.infinity)
        self.lowest = words.constant(self.compared, (self.infinity ^ 0x7FFF) - 0x8000)

    def ordered(self, raw: Any) -> Any:
        """Return bits as integers in the order of the numbers; of those, the bits again."""
        builder = self.words.builder
        sign = builder.ashr(raw, self.words.constant(self.compared, 15))
        return builder.xor(raw, builder.and_(sign, self.words.constant(self.compared, 0x7FFF)))

    def smaller(self, a: Any, b: Any) -> Any:
        """Return the smaller of two vectors of what is compared."""
        return self._chosen("<", a, b)

    def larger(self, a: Any, b: Any) -> Any:
        """Return the larger of two vectors of what is compared."""
        return self._chosen(">", a, b)

    def _chosen(self, sign: str, a: Any, b: Any) -> Any:
        return self.words.builder.select(self.words.builder.icmp_signed(sign, a, b), a, b)

    def scaled(self, raw: Any) -> Any:
        """Return stored values as float64, each divided by `scale`."""
        words, builder = self.words, self.words.builder
        wide = words.of(_I64)
        moved = builder.shl(builder.sext(raw, wide), words.constant(wide, self.moved))
        moved = builder.and_(moved, words.constant(wide, self.kept - (1 << 64)))
        return builder.bitcast(moved, words.of(_F64))

    def number(self, ordered: Any) -> Any:
        """Return what was compared as float64; a NaN as an infinity."""
        words, builder = self.words, self.words.builder
        wide = words.of(_F64)
        number = builder.fmul(self.scaled(self.ordered(ordered)), words.constant(wide, self.scale))
        size = words.call(f"llvm.fabs.v{words.width}f64", wide, [number])
        huge = builder.fcmp_ordered(">", size, words.constant(wide, self.largest))
        infinite = builder.fmul(number, words.constant(wide, float("inf")))
        return builder.select(huge, infinite, number)

    def deviation(self, raw: Any, shift: Any) -> Any:
        """Return stored values minus `shift`, as float64."""
        words = self.words
        scale = words.constant(shift.type, self.scale)
        down = words.builder.fsub(words.constant(shift.type, -0.0), shift)
        name = f"llvm.fmuladd.v{words.width}f64"
        # The product is exact: fused or not makes no difference.
        return words.call(name, shift.type, [self.scaled(raw), scale, down])

    def is_number(self, raw: Any) -> Any:
        """Return which stored values are not NaN."""
        builder = self.words.builder
        size = builder.and_(raw, self.words.constant(self.compared, 0x7FFF))
        return builder.icmp_signed("<=", size, self.highest)


def numbers_of(words: Vectors, kind: Any) -> Plain | Halves:
    """Return how values of a Numba type are read: int16 stands for float16, uint16 for bfloat16."""
    return (Halves if kind.bitwidth == 16 else Plain)(words, kind)


def floats_of(raw: Array) -> Array:
    """Return stored values as float64: the plain form of reading."""
    if raw.dtype == np.int16:
        return raw.view(np.float16).astype(np.float64)
    if raw.dtype == np.uint16:
        return (raw.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return raw.astype(np.float64)
