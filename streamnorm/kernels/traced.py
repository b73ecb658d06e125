"""Formulas written for arrays, compiled without Numba's front end: traced into LLVM directly.

A formula is a plain Python function of numbers that are added, compared and chosen between by a
``select(condition, if_true, if_false)``. Under NumPy the numbers are arrays; here they are scalars
or vectors of the function that Numba is writing, and each operation writes one instruction. So a
formula stands once, and costs a few milliseconds to compile.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from streamnorm.kernels.operators import Operators

__all__ = ["Fields", "Flags", "Number", "Record", "choose", "select"]

_F64 = ir.DoubleType()
_I64 = ir.IntType(64)
_INSTRUCTIONS = {
    "+": ("fadd", "add"), "-": ("fsub", "sub"), "*": ("fmul", "mul"), "/": ("fdiv", "fdiv"),
    "&": ("and_", "and_"), "|": ("or_", "or_"),
}  # fmt: skip
"""For floats, and for all else."""


class Number(Operators):
    """An integer, a float64, a condition, or a vector of them, in the function being written."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder = builder
        self.value = value

    def like(self, other: Any) -> Any:
        """Return another number, or a Python one, as one of this type."""
        if isinstance(other, Number):
            return other.value
        return _constant(self.value.type, other)

    def apply(self, sign: str, other: Any) -> "Number":
        """Write one instruction."""
        floats = getattr(self.value.type, "element", self.value.type) == _F64
        if sign == "*" and isinstance(other, float) and not floats:
            return Number(self.builder, self.builder.sitofp(self.value, _F64)) * other
        write = self._instruction(sign, floats)
        return Number(self.builder, write(self.value, self.like(other)))

    def _instruction(self, sign: str, floats: bool) -> Callable[..., Any]:
        builder = self.builder
        if sign in _INSTRUCTIONS:
            instruction: Callable[..., Any] = getattr(builder, _INSTRUCTIONS[sign][not floats])
            return instruction
        if not floats:
            return partial(builder.icmp_signed, sign)
        return partial(builder.fcmp_unordered if sign == "!=" else builder.fcmp_ordered, sign)


def _constant(kind: Any, value: Any) -> Any:
    """Return `value` as one of an LLVM type, in every lane."""
    return ir.Constant(kind, [value] * kind.count if isinstance(kind, ir.VectorType) else value)


def select(condition: Number, if_true: Any, if_false: Any) -> Number:
    """Write the choice of one of two numbers, of which one may be a Python number."""
    number = if_true if isinstance(if_true, Number) else if_false
    chosen = number.builder.select(condition.value, number.like(if_true), number.like(if_false))
    return Number(number.builder, chosen)


def choose(condition: Any, if_true: Any, if_false: Any) -> Any:
    """Choose one of two numbers: what `select` writes, in interpreted code."""
    return if_true if condition else if_false


class Flags:
    """Conditions of which one wants to know whether they ever held."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder
        self.place = cgutils.alloca_once_value(builder, _I64(0))  # type: ignore[no-untyped-call]

    def note(self, conditions: list[Number]) -> None:
        """Write that those which hold, in any lane, have held."""
        builder = self.builder
        for k, condition in enumerate(conditions):
            held = condition.value
            if isinstance(held.type, ir.VectorType):
                lanes = builder.bitcast(held, ir.IntType(held.type.count))
                held = builder.icmp_unsigned("!=", lanes, lanes.type(0))
            bit = builder.shl(builder.zext(held, _I64), _I64(k))
            builder.store(builder.or_(builder.load(self.place), bit), self.place)

    def value(self) -> Any:
        """Return an integer, bit k of which tells of the condition k."""
        return self.builder.load(self.place)


class Fields:
    """Numbers in memory, each at ``place(field)``."""

    def __init__(self, builder: Any, place: Callable[[int], Any]) -> None:
        self.builder = builder
        self.place = place

    def __call__(self, field: int) -> Number:
        """Load the number of a field."""
        return Number(self.builder, self.builder.load(self.place(field), align=8))

    def store(self, changed: dict[int, Any]) -> None:
        """Store the numbers of some fields."""
        for field, number in changed.items():
            place = self.place(field)
            known = isinstance(number, Number)
            value = number.value if known else _constant(place.type.pointee, number)
            self.builder.store(value, place, align=8)


class Record:
    """A record in memory; of each of its fields one knows whether it is an integer."""

    def __init__(self, builder: Any, records: Any, index: Any, whole: list[bool]) -> None:
        self.builder = builder
        words = builder.bitcast(records, _I64.as_pointer())
        first = builder.mul(index, _I64(len(whole)))
        self.places = []
        for field, is_whole in enumerate(whole):
            word = builder.gep(words, [builder.add(first, _I64(field))])
            kind = _I64 if is_whole else _F64
            self.places.append(builder.bitcast(word, kind.as_pointer()))

    def load(self) -> list[Number]:
        """Load all fields."""
        return [Number(self.builder, self.builder.load(place)) for place in self.places]

    def store(self, numbers: Iterable[Number]) -> None:
        """Store all fields; of floats for integers, the integers that they are."""
        for number, place in zip(numbers, self.places, strict=True):
            value = number.value
            if value.type != place.type.pointee:
                value = self.builder.fptosi(value, place.type.pointee)
            self.builder.store(value, place)
