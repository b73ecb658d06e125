"""How exact sums see stored numbers: through windows of exponents, scaled to below 1.

A window is given by its top: values of absolute value below 2**top, and not so small that their
last bit is beyond the ladder's span. The lowest window has no lower end, since no value has bits
below those it holds.
"""

from typing import Any, NamedTuple

from llvmlite import ir
from numba.core import types

from streamnorm.kernels.numbers import Halves, numbers_of
from streamnorm.kernels.schemes import LONG, SHORT, Scheme
from streamnorm.kernels.vectors import Vectors

__all__ = ["NOWHERE", "Format", "Stored", "format_of"]

NOWHERE = 1 << 20
"""The top for lanes that nobody owns: whatever lies there is inside, and its sum is nothing."""

_F32 = ir.FloatType()
_F64 = ir.DoubleType()


class Format(NamedTuple):
    """What is known of the numbers of a dtype.

    Attributes
    ----------
    fraction : int
        Bits of the fraction; 0 for integers.
    bias : int
        What is added to the exponent; 0 for integers.
    least_top, most_top : int
        The tops of the lowest and of the highest window.
    spare : int
        The exponent of what `Stored.scaled` multiplies besides.
    scheme : Scheme
    """

    fraction: int
    bias: int
    least_top: int
    most_top: int
    spare: int
    scheme: Scheme

    @property
    def depth(self) -> int:
        """How far below its top a window ends."""
        return self.scheme.span - self.fraction


_FORMATS = {
    "float64": Format(52, 1023, -986, 1024, 0, LONG),
    "float32": Format(23, 127, -104, 128, 0, SHORT),
    # float16 and bfloat16, and 32-bit integers: one window holds all that there are, but bfloat16.
    "int16": Format(10, 15, 16, 16, 1023 - 15, SHORT),
    "uint16": Format(7, 127, -88, 128, 1023 - 127, SHORT),
    "int32": Format(0, 0, 32, 32, 0, SHORT),
    "uint32": Format(0, 0, 32, 32, 0, SHORT),
}


def format_of(dtype: Any) -> Format:
    """Return what is known of a NumPy or Numba dtype, as kernels read it."""
    return _FORMATS[str(dtype)]


class Stored:
    """Stored values as kernels take them: their magnitude, and scaled.

    Attributes
    ----------
    bits : type
        Vectors of the integers that have the order of the magnitudes.
    scale_kind : type
        Vectors of scales.
    infinity : int
        The magnitude of an infinity; larger ones are NaN.
    order : list of int
        Which lane of the stored values each lane of the scaled ones is.
    fused : str
        What multiplies and adds.
    floored : bool
        Whether a value may lie below a window.
    """

    def __init__(self, words: Vectors, kind: Any) -> None:
        self.words = words
        self.numbers = numbers_of(words, kind)
        self.format = format_of(kind)
        self.whole = kind in (types.int32, types.uint32)
        self.bits = words.of(ir.IntType(kind.bitwidth))
        self.sign = 1 << (kind.bitwidth - 1)
        self.infinity = (2 * self.format.bias + 1) << self.format.fraction
        self.scale_kind = words.of(_F32 if kind == types.float32 else _F64)
        self.order = _order(words.width, halves=isinstance(self.numbers, Halves))
        # float64 does not hold the squares of 32-bit integers; what is left of them it does.
        self.fused = "fma" if self.whole else "fmuladd"
        self.floored = self.format.least_top != self.format.most_top

    def magnitude(self, raw: Any) -> Any:
        """Return integers in the order of the absolute values."""
        builder = self.words.builder
        bits = builder.bitcast(raw, self.bits)
        return builder.and_(bits, self.words.constant(self.bits, self.sign - 1))

    def scaled(self, raw: Any, scale: Any) -> Any:
        """Return stored values times a scale, a power of two, as float64, in `order`."""
        words, builder = self.words, self.words.builder
        if isinstance(self.numbers, Halves):
            return builder.fmul(self._moved(raw), scale)
        if self.whole:
            return builder.fmul(self.numbers.number(self.numbers.ordered(raw)), scale)
        product = builder.fmul(raw, scale)
        if self.scale_kind.element == _F64:
            return product
        return builder.fpext(product, words.of(_F64))

    def _moved(self, raw: Any) -> Any:
        """Move the bits of 16-bit floats to their places in float64, which is a scale besides.

        First to its upper two quarters, then those beside each other and above zeros, by exchanges
        within blocks of 16 bytes, which processors do fast. To widen and shift every lane takes a
        third more instructions.
        """
        words, builder = self.words, self.words.builder

        def constant(value: int) -> Any:
            return words.constant(self.bits, value)

        # float64 has 52 bits of fraction, of which 4 stand in its upper quarter.
        down = self.format.fraction - 4
        kept = 0x8000 | 0x7FFF >> down
        upper = builder.and_(builder.ashr(raw, constant(down)), constant(kept - (1 << 16)))
        lower = builder.shl(raw, constant(16 - down))
        parts = []
        for pair in self._unpacked(lower, upper):
            halves = builder.bitcast(pair, words.of(ir.IntType(32), words.width // 2))
            nothing = words.constant(halves.type, 0)
            parts += self._unpacked(nothing, halves)
        return builder.bitcast(words.joined(parts), words.of(_F64))

    def _unpacked(self, first: Any, second: Any) -> list[Any]:
        """Return pairs of lanes of two vectors: of the lower, and of the upper halves of blocks."""
        count = first.type.count
        block = 128 // first.type.element.width
        pairs = []
        for half in (0, block // 2):
            lanes = [b + half + k for b in range(0, count, block) for k in range(block // 2)]
            order = [lane for k in lanes for lane in (k, count + k)]
            pairs.append(self.words.shuffled(first, second, order))
        return pairs


def _order(width: int, *, halves: bool) -> list[int]:
    """Return in which order `Stored.scaled` gives lanes."""
    if not halves:
        return list(range(width))
    return [b + part + k for part in range(0, 8, 2) for b in range(0, width, 8) for k in range(2)]
