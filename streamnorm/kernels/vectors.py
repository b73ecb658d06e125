"""Explicit vectors in the function that Numba is writing.

Numba leaves vectors to LLVM's loop vectoriser, which neither keeps lanes in registers across rows
nor vectorises minima of floats. The row kernels therefore say their vectors themselves, in LLVM's
portable vector types: LLVM splits them into whatever the processor has.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from streamnorm.kernels.machine import LINE

__all__ = ["Vectors"]

_BYTE = ir.IntType(8)
_WORD = ir.IntType(32)
_INDEX = ir.IntType(64)


class Vectors:
    """Vectors of `width` lanes in the function that `builder` is writing."""

    def __init__(self, context: Any, builder: Any, width: int) -> None:
        self.context = context
        self.builder = builder
        self.width = width

    def of(self, element: Any, width: int | None = None) -> Any:
        """Return the type of a vector of `element`."""
        return ir.VectorType(element, width or self.width)

    def constant(self, vector: Any, value: float) -> Any:
        """Return a vector of type `vector` with `value` in every lane."""
        return ir.Constant(vector, [value] * vector.count)

    def splat(self, scalar: Any) -> Any:
        """Return a vector with a run-time `scalar` in every lane."""
        vector = self.of(scalar.type)
        nothing = ir.Constant(vector, ir.Undefined)
        first = self.builder.insert_element(nothing, scalar, _WORD(0))
        zeros = ir.Constant(self.of(_WORD), [0] * self.width)
        return self.builder.shuffle_vector(first, nothing, zeros)

    def variable(self, vector: Any, value: float) -> Any:
        """Return a place for a vector, filled with `value`; LLVM keeps it in registers."""
        place = cgutils.alloca_once(self.builder, vector)  # type: ignore[no-untyped-call]
        self.builder.store(self.constant(vector, value), place)
        return place

    def update(self, place: Any, change: Callable[[Any], Any]) -> None:
        """Replace what stands at `place`."""
        self.builder.store(change(self.builder.load(place)), place)

    def load(self, data: Any, index: Any, where: Any = None) -> Any:
        """Load ``data[index : index + width]``, aligned or not; only the lanes `where`, else 0."""
        pointer, alignment = self._at(data, index)
        if where is None:
            return self.builder.load(pointer, align=alignment)
        element = data.type.pointee
        letter = "i" if isinstance(element, ir.IntType) else "f"
        name = f"llvm.masked.load.v{self.width}{letter}{8 * alignment}.p0"
        zero = self.constant(self.of(element), 0)
        return self.call(name, zero.type, [pointer, _WORD(alignment), where, zero])

    @contextmanager
    def rows(
        self, data: Any, at: Any, step: Any, count: Any, fetch: Any, where: Any = None
    ) -> Iterator[tuple[Any, Any]]:
        """Loop over `count` rows, `step` values apart; gives each one's number and its values.

        Meanwhile as many rows, one behind the other, are brought into the cache from `fetch` on.
        """
        builder = self.builder
        with cgutils.for_range(builder, count, intp=_INDEX) as loop:
            self.prefetch(data, builder.add(fetch, builder.mul(loop.index, _INDEX(self.width))))
            index = builder.add(at, builder.mul(loop.index, step))
            yield loop.index, self.load(data, index, where)

    def truth(self, mask: Any, at: Any, step: Any, row: Any, where: Any) -> Any:
        """Return which lanes of a row a mask of bytes lets count."""
        index = self.builder.add(at, self.builder.mul(row, step))
        byte = self.load(mask, index, where)
        return self.builder.icmp_unsigned("!=", byte, self.constant(byte.type, 0))

    def first(self, count: Any) -> Any:
        """Return a condition that holds in the first `count` lanes."""
        order = ir.Constant(self.of(_INDEX), list(range(self.width)))
        return self.builder.icmp_unsigned("<", order, self.splat(count))

    def store(self, value: Any, data: Any, index: Any) -> None:
        """Store `value` to ``data[index : index + width]``, aligned or not."""
        pointer, alignment = self._at(data, index)
        self.builder.store(value, pointer, align=alignment)

    def _at(self, data: Any, index: Any) -> Any:
        element = data.type.pointee
        pointer = self.builder.gep(data, [index])
        alignment = self.context.get_abi_sizeof(element)
        return self.builder.bitcast(pointer, self.of(element).as_pointer()), alignment

    def prefetch(self, data: Any, index: Any) -> None:
        """Ask for the cache lines of a row at `index`; outside of the memory it does nothing."""
        per_line = LINE // self.context.get_abi_sizeof(data.type.pointee)
        for ahead in range(0, self.width, per_line):
            pointer = self.builder.gep(data, [self.builder.add(index, _INDEX(ahead))])
            # For reading; into the second-level cache, as a tile would not fit the first; data.
            hints = [_WORD(0), _WORD(1), _WORD(1)]
            place = self.builder.bitcast(pointer, _BYTE.as_pointer())
            self.call("llvm.prefetch.p0", ir.VoidType(), [place, *hints])

    def call(self, name: str, result: Any, arguments: list[Any]) -> Any:
        """Call an LLVM intrinsic by its full name."""
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)  # type: ignore[no-untyped-call]
        return self.builder.call(function, arguments)

    def smaller(self, a: Any, b: Any, where: Any = None) -> Any:
        """Return the smaller of two float vectors, b where a is NaN or not `where`."""
        return self._chosen("<", a, b, where)

    def larger(self, a: Any, b: Any, where: Any = None) -> Any:
        """Return the larger of two float vectors, b where a is NaN or not `where`."""
        return self._chosen(">", a, b, where)

    def _chosen(self, sign: str, a: Any, b: Any, where: Any) -> Any:
        is_float = not isinstance(a.type.element, ir.IntType)
        compare = self.builder.fcmp_ordered if is_float else self.builder.icmp_unsigned
        condition = compare(sign, a, b)
        if where is not None:
            condition = self.builder.and_(condition, where)
        return self.builder.select(condition, a, b)
