"""Formulas written for arrays, compiled without Numba's front end: traced into LLVM directly.

A formula is a plain Python function of numbers that are added, compared and chosen between by a
``select(condition, if_true, if_false)``. Under NumPy the numbers are arrays; here they are scalars
or vectors of eight lanes of the function that Numba is writing, and each operation writes one
instruction. So a formula stands once, and costs a few milliseconds to compile.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from streamnorm.arrays import Array
from streamnorm.kernels.machine import JIT_OFF

__all__ = ["LANES", "over_channels", "traced"]

LANES = 8
_F64 = ir.DoubleType()
_I64 = ir.IntType(64)


class _Number:
    """An integer, a float64, a condition, or a vector of them, in the function being written."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder = builder
        self.value = value

    def like(self, other: Any) -> Any:
        """Return another number, or a Python one, as one of this type."""
        if isinstance(other, _Number):
            return other.value
        return _constant(self.value.type, other)

    def _element(self) -> Any:
        return getattr(self.value.type, "element", self.value.type)

    def _apply(self, floats: str, integers: str, other: Any) -> "_Number":
        name = floats if self._element() == _F64 else integers
        return _Number(self.builder, getattr(self.builder, name)(self.value, self.like(other)))

    def _compare(self, sign: str, other: Any) -> "_Number":
        unordered = sign == "!="
        if self._element() != _F64:
            compare = self.builder.icmp_signed
        else:
            compare = self.builder.fcmp_unordered if unordered else self.builder.fcmp_ordered
        return _Number(self.builder, compare(sign, self.value, self.like(other)))

    def __add__(self, other: Any) -> "_Number":
        return self._apply("fadd", "add", other)

    def __sub__(self, other: Any) -> "_Number":
        return self._apply("fsub", "sub", other)

    def __mul__(self, other: Any) -> "_Number":
        if isinstance(other, float) and self._element() != _F64:
            as_float = self.builder.sitofp(self.value, _F64)
            return _Number(self.builder, as_float) * other
        return self._apply("fmul", "mul", other)

    def __truediv__(self, other: Any) -> "_Number":
        return _Number(self.builder, self.builder.fdiv(self.value, self.like(other)))

    def __and__(self, other: Any) -> "_Number":
        return self._apply("and_", "and_", other)

    def __or__(self, other: Any) -> "_Number":
        return self._apply("or_", "or_", other)

    def __eq__(self, other: object) -> "_Number":  # type: ignore[override]
        return self._compare("==", other)

    def __ne__(self, other: object) -> "_Number":  # type: ignore[override]
        return self._compare("!=", other)

    __hash__ = None  # type: ignore[assignment]

    def __lt__(self, other: Any) -> "_Number":
        return self._compare("<", other)

    def __le__(self, other: Any) -> "_Number":
        return self._compare("<=", other)

    def __gt__(self, other: Any) -> "_Number":
        return self._compare(">", other)

    def __ge__(self, other: Any) -> "_Number":
        return self._compare(">=", other)


def _constant(kind: Any, value: Any) -> Any:
    return ir.Constant(kind, [value] * kind.count if isinstance(kind, ir.VectorType) else value)


def _select(condition: _Number, if_true: Any, if_false: Any) -> _Number:
    number = if_true if isinstance(if_true, _Number) else if_false
    chosen = number.builder.select(condition.value, number.like(if_true), number.like(if_false))
    return _Number(number.builder, chosen)


def _choose(condition: Any, if_true: Any, if_false: Any) -> Any:
    return if_true if condition else if_false


def traced(build: Callable[[Callable[..., Any]], Callable[..., tuple[Any, ...]]]) -> Any:
    """Compile a formula of scalars: ``build(select)`` gives it; it gives a tuple."""
    if JIT_OFF:
        return build(_choose)
    formula = build(_select)

    @intrinsic
    def call(_: Any, *numbers: Any) -> Any:
        # They come as one tuple; so do results, whose types a trial tells.
        given = types.Tuple(numbers)  # type: ignore[no-untyped-call]
        kinds = [_F64 if kind == types.float64 else _I64 for kind in numbers]
        nowhere = ir.Function(ir.Module(), ir.FunctionType(ir.VoidType(), []), "trial")
        trial = ir.IRBuilder(nowhere.append_basic_block())
        results = formula(*(_Number(trial, ir.Constant(kind, ir.Undefined)) for kind in kinds))
        made = [types.float64 if r.value.type == _F64 else types.int64 for r in results]
        result = types.Tuple(made)  # type: ignore[no-untyped-call]

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            values = cgutils.unpack_tuple(builder, arguments[0])  # type: ignore[no-untyped-call]
            traced = formula(*(_Number(builder, value) for value in values))
            return context.make_tuple(builder, result, [number.value for number in traced])

        return result(given), generate

    return call


def over_channels(formula: Callable[..., tuple[dict[int, Any], list[Any]]]) -> Any:
    """Compile ``formula(select, fields, a)`` into a loop over the channels of a book.

    A book is a pointer to fields of float64, shape (fields, width), where `width` is a multiple of
    `LANES`; `fields` is a function that gives a field by its number, `a` is a scalar. The formula
    gives the fields that it changes, and conditions. The compiled function takes the book, its
    width and `a`, and gives an integer, bit k of which says whether condition k holds in any
    channel.
    """

    @intrinsic
    def apply(_: Any, book: Any, width: Any, a: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data, width, scalar = arguments
            vector = ir.VectorType(_F64, LANES)
            flags = cgutils.alloca_once_value(builder, _I64(0))  # type: ignore[no-untyped-call]
            a = _Number(builder, _splat(builder, scalar, vector))
            groups = builder.udiv(width, _I64(LANES))
            with cgutils.for_range(builder, groups, intp=_I64) as loop:
                column = builder.mul(loop.index, _I64(LANES))

                def place(field: int) -> Any:
                    index = builder.add(builder.mul(width, _I64(field)), column)
                    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())

                def fields(field: int) -> _Number:
                    return _Number(builder, builder.load(place(field), align=8))

                changed, conditions = formula(_select, fields, a)
                for field, number in changed.items():
                    value = (
                        number.value if isinstance(number, _Number) else _constant(vector, number)
                    )
                    builder.store(value, place(field), align=8)
                for k, condition in enumerate(conditions):
                    lanes = builder.bitcast(condition.value, ir.IntType(LANES))
                    some = builder.zext(builder.icmp_unsigned("!=", lanes, lanes.type(0)), _I64)
                    bit = builder.shl(some, _I64(k))
                    builder.store(builder.or_(builder.load(flags), bit), flags)
            return builder.load(flags)

        return types.int64(book, types.int64, types.float64), generate

    def apply_plainly(book: Array, width: int, a: float) -> int:
        table = book.reshape(-1, width)
        with np.errstate(all="ignore"):
            changed, conditions = formula(np.where, lambda field: table[field].copy(), a)
        for field, values in changed.items():
            table[field] = values
        return sum(int(np.any(condition)) << k for k, condition in enumerate(conditions))

    return apply_plainly if JIT_OFF else apply


def _splat(builder: Any, scalar: Any, vector: Any) -> Any:
    value = ir.Constant(vector, ir.Undefined)
    for lane in range(LANES):
        value = builder.insert_element(value, scalar, ir.IntType(32)(lane))
    return value
