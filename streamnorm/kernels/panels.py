"""What the lanes of one panel have gathered, in the memory that kernels hand on as `acc`."""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from streamnorm.kernels.vectors import Vectors

__all__ = ["Panel", "over_panels"]

_I32 = ir.IntType(32)
_I64 = ir.IntType(64)


class Panel:
    """The fields of a panel: vectors of lanes, with room for eight bytes a lane.

    What stands in a field may be of a smaller type while rows are being added: then it comes in one
    register instead of eight.
    """

    def __init__(self, words: Vectors, data: Any, panel: Any, fields: int) -> None:
        self.words = words
        self.data = data
        self.start = words.builder.mul(panel, _I64(fields * words.width))

    def load(self, vector: Any, field: int) -> Any:
        """Load a field that holds a vector of that type."""
        return self.words.builder.load(self._place(vector, field), align=8)

    def store(self, value: Any, field: int) -> None:
        """Store a vector to a field."""
        self.words.builder.store(value, self._place(value.type, field), align=8)

    def clear(self, fields: range) -> None:
        """Make fields zero, of whatever type they are."""
        for field in fields:
            self.store(self.words.constant(self.words.of(_I64), 0), field)

    def add(self, value: Any, field: int) -> None:
        """Add a vector of float64."""
        self.store(self.words.builder.fadd(self.load(value.type, field), value), field)

    def count(self, how_many: Any, field: int, element: Any = _I32) -> None:
        """Add a vector of small integers to one of larger ones."""
        more = self.words.builder.zext(how_many, self.words.of(element, how_many.type.count))
        self.store(self.words.builder.add(self.load(more.type, field), more), field)

    def count_rows(self, rows: Any, field: int) -> None:
        """Add to a number that stands in the first lane of a field."""
        builder, place = self.words.builder, self._place(_I64, field)
        builder.store(builder.add(builder.load(place), rows), place)

    def rows(self, field: int) -> Any:
        """Return the number that stands in the first lane of a field, in all lanes."""
        return self.words.splat(self.words.builder.load(self._place(_I64, field)))

    def _place(self, kind: Any, field: int) -> Any:
        builder = self.words.builder
        index = builder.add(self.start, _I64(field * self.words.width))
        return builder.bitcast(builder.gep(self.data, [index]), kind.as_pointer())


def over_panels(
    write: Callable[..., None],
    words_of: Callable[[Any, Any, Any], tuple[Vectors, Any]],
    fields: int,
) -> Any:
    """Build the intrinsic that clears all panels, or makes of what they hold what is read next.

    ``words_of(context, builder, kind)`` gives vectors for values of a type and how to read those;
    both and the panel are what `write` takes.
    """

    @intrinsic
    def turn_panels(_: Any, x: Any, acc: Any, panels: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            words, numbers = words_of(context, builder, x.dtype)
            with cgutils.for_range(builder, arguments[2], intp=_I64) as loop:
                write(words, numbers, Panel(words, arguments[1], loop.index, fields))
            return context.get_dummy_value()

        return types.void(x, acc, types.int64), generate

    return turn_panels
