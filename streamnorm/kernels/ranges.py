"""The extremes and the largest magnitude of what one call has seen, in registers."""

from typing import Any, Protocol

from llvmlite import ir

from streamnorm.kernels.numbers import Halves
from streamnorm.kernels.vectors import Vectors
from streamnorm.kernels.windows import Stored

__all__ = ["Range", "range_of"]


class Range(Protocol):
    """Extremes of stored values, each in its lane."""

    def add(self, raw: Any, where: Any) -> None:
        """Take in a row, in all lanes or those `where`."""

    def ends(self) -> tuple[Any, Any]:
        """Return smallest and largest, as what `numbers` compares."""

    def most(self) -> Any:
        """Return the largest magnitude, of NaN too."""

    def least(self) -> Any:
        """Return the smallest magnitude less one, of what is not zero; if nothing, the largest."""


class _PlainRange:
    """Of float32, float64 and 32-bit integers: what the comparisons of the processor find."""

    def __init__(self, words: Vectors, stored: Stored) -> None:
        self.words = words
        self.stored = stored
        self.low = words.variable(stored.numbers.highest)
        self.high = words.variable(stored.numbers.lowest)
        self.largest = words.variable(words.constant(stored.bits, 0))
        self.smallest = words.variable(words.constant(stored.bits, 2 * stored.sign - 1))

    def add(self, raw: Any, where: Any) -> None:
        words, numbers = self.words, self.stored.numbers
        ordered = numbers.ordered(raw)
        words.update(self.low, lambda v: numbers.smaller(ordered, v), where)
        words.update(self.high, lambda v: numbers.larger(ordered, v), where)
        if not self.stored.whole:
            # NaN passes the comparisons of floats, not those of bits.
            magnitude = self.stored.magnitude(raw)
            words.update(self.largest, lambda v: words.larger(magnitude, v), where)
            # That of zero becomes the largest of all.
            before = words.builder.sub(magnitude, words.constant(self.stored.bits, 1))
            words.update(self.smallest, lambda v: words.smaller(before, v), where)

    def ends(self) -> tuple[Any, Any]:
        return self.words.builder.load(self.low), self.words.builder.load(self.high)

    def most(self) -> Any:
        return self.words.builder.load(self.largest)

    def least(self) -> Any:
        return self.words.builder.load(self.smallest)


class _HalvesRange:
    """Of 16-bit floats, found among their bits as signed and as unsigned integers.

    Bits of numbers below zero have the order of their magnitudes: unsigned they are larger than all
    others, signed smaller. So the smallest number is the largest unsigned integer if that is below
    zero, else the smallest; and the largest number is the largest signed integer if that is not
    below zero, else the smallest. That takes four comparisons a row and nothing else.
    """

    def __init__(self, words: Vectors, stored: Stored) -> None:
        self.words = words
        self.stored = stored
        kind = stored.bits
        # What no number goes beyond: +inf among the unsigned, -inf among the signed.
        begin = (stored.infinity, 0, stored.infinity - stored.sign, -stored.sign)
        self.found = [words.variable(words.constant(kind, bits)) for bits in begin]
        self.minus_two = words.splat(words.hidden(ir.IntType(kind.element.width)(-2)))
        self.smallest = words.variable(words.constant(kind, 0))

    def add(self, raw: Any, where: Any) -> None:
        words, builder = self.words, self.words.builder
        compares = (
            (builder.icmp_unsigned, "<"),
            (builder.icmp_unsigned, ">"),
            (builder.icmp_signed, "<"),
            (builder.icmp_signed, ">"),
        )
        for place, (compare, sign) in zip(self.found, compares, strict=True):

            def chosen(v: Any, compare: Any = compare, sign: str = sign) -> Any:
                return builder.select(compare(sign, raw, v), raw, v)

            words.update(place, chosen, where)
        if self.stored.floored:
            # Without the sign, and the smaller the larger, but for zero: one multiplication, which
            # LLVM would turn into two operations if it knew the factor.
            falling = builder.mul(raw, self.minus_two)
            words.update(self.smallest, lambda v: words.larger(falling, v), where)

    def least(self) -> Any:
        builder = self.words.builder
        one = self.words.constant(self.stored.bits, 1)
        doubled = builder.neg(builder.load(self.smallest))
        return builder.sub(builder.lshr(doubled, one), one)

    def _bits(self) -> tuple[Any, Any]:
        builder = self.words.builder
        least_unsigned, most_unsigned, least_signed, most_signed = map(builder.load, self.found)
        zero = self.words.constant(self.stored.bits, 0)
        some_below = builder.icmp_signed("<", most_unsigned, zero)
        some_above = builder.icmp_signed(">=", most_signed, zero)
        return (
            builder.select(some_below, most_unsigned, least_unsigned),
            builder.select(some_above, most_signed, least_signed),
        )

    def ends(self) -> tuple[Any, Any]:
        low, high = self._bits()
        return self.stored.numbers.ordered(low), self.stored.numbers.ordered(high)

    def most(self) -> Any:
        builder, zero = self.words.builder, self.words.constant(self.stored.bits, 0)
        least, most = (builder.load(place) for place in self.found[:2])
        # Where nothing was seen, the ends are infinities.
        none = builder.icmp_unsigned("<", most, least)
        low, high = map(self.stored.magnitude, self._bits())
        return builder.select(none, zero, self.words.larger(low, high))


def range_of(words: Vectors, stored: Stored) -> Range:
    """Return an empty range of values that are stored so."""
    kind = _HalvesRange if isinstance(stored.numbers, Halves) else _PlainRange
    return kind(words, stored)
