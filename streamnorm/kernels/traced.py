"""Formulas written for arrays, compiled without Numba's front end: traced into LLVM directly.

A formula is a plain Python function of numbers that are added, compared and chosen between by a
``select(condition, if_true, if_false)``. Under NumPy the numbers are arrays; here they are scalars
or vectors of the function that Numba is writing, and each operation writes one instruction. So a
formula stands once, and costs a few milliseconds to compile.
"""

from collections.abc import Callable, Iterable
from typing import Any

from llvmlite import ir
from numba.core import cgutils

__all__ = ["Fields", "Flags", "Number", "Record", "choose", "select"]

_F64 = ir.DoubleType()
_I64 = ir.IntType(64)


class Number:
    """An integer, a float64, a condition, or a vector of them, in the function being written."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder = builder
        self.value = value

    def like(self, other: Any) -> Any:
        """Return another number, or a Python one, as one of this type."""
        if isinstance(other, Number):
            return other.value
        return _constant(self.value.type, other)

    def _element(self) -> Any:
        return getattr(self.value.type, "element", self.value.type)

    def _apply(self, floats: str, integers: str, other: Any) -> "Number":
        name = floats if self._element() == _F64 else integers
        return Number(self.builder, getattr(self.builder, name)(self.value, self.like(other)))

    def _compare(self, sign: str, other: Any) -> "Number":
        unordered = sign == "!="
        if self._element() != _F64:
            compare = self.builder.icmp_signed
        else:
            compare = self.builder.fcmp_unordered if unordered else self.builder.fcmp_ordered
        return Number(self.builder, compare(sign, self.value, self.like(other)))

    def __add__(self, other: Any) -> "Number":
        return self._apply("fadd", "add", other)

    def __sub__(self, other: Any) -> "Number":
        return self._apply("fsub", "sub", other)

    def __mul__(self, other: Any) -> "Number":
        if isinstance(other, float) and self._element() != _F64:
            as_float = self.builder.sitofp(self.value, _F64)
            return Number(self.builder, as_float) * other
        return self._apply("fmul", "mul", other)

    def __truediv__(self, other: Any) -> "Number":
        return Number(self.builder, self.builder.fdiv(self.value, self.like(other)))

    def __and__(self, other: Any) -> "Number":
        return self._apply("and_", "and_", other)

    def __or__(self, other: Any) -> "Number":
        return self._apply("or_", "or_", other)

    def __eq__(self, other: object) -> "Number":  # type: ignore[override]
        return self._compare("==", other)

    def __ne__(self, other: object) -> "Number":  # type: ignore[override]
        return self._compare("!=", other)

    __hash__ = None  # type: ignore[assignment]

    def __lt__(self, other: Any) -> "Number":
        return self._compare("<", other)

    def __le__(self, other: Any) -> "Number":
        return self._compare("<=", other)

    def __gt__(self, other: Any) -> "Number":
        return self._compare(">", other)

    def __ge__(self, other: Any) -> "Number":
        return self._compare(">=", other)


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
