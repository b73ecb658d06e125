"""The innermost loops of exact sums: rows of lanes -> integers per lane.

Three of them. `try_rows` adds all values of a panel if they lie in their lanes' windows, and
otherwise nothing; so nearly all data are read. For a panel that it leaves, `survey_rows` counts
what is no number and finds the largest magnitudes, and `add_window` adds what lies in the windows,
once for every window that has values.

Nothing here may be reassociated: a ladder's differences would vanish. There is no fastmath, and a
test reads a tile whose sum is right in the written order only.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from streamnorm.arrays import Array
from streamnorm.kernels import exact_plain
from streamnorm.kernels.exact_panels import (
    CEILING,
    ENTRY,
    FIELDS,
    FLOOR,
    HIGH,
    LARGEST,
    LOW,
    MINUS,
    NAN,
    OTHERS,
    PLUS,
    ROWS,
    SCALE,
    SQUARES,
    SUMS,
    words_of,
)  # fmt: skip
from streamnorm.kernels.ladders import Ladder
from streamnorm.kernels.machine import JIT_OFF, LINE
from streamnorm.kernels.panels import Panel
from streamnorm.kernels.ranges import range_of
from streamnorm.kernels.schemes import LONG
from streamnorm.kernels.vectors import Band, Vectors, Where, rows_of
from streamnorm.kernels.windows import Stored

__all__ = [
    "add_window",
    "survey_rows",
    "try_narrow_rows",
    "try_rows",
]

_BYTE = ir.IntType(8)
_F64 = ir.DoubleType()
_I64 = ir.IntType(64)


class _Gathering:
    """What one call gathers in a panel, in registers."""

    def __init__(self, words: Vectors, stored: Stored, place: Panel) -> None:
        self.words = words
        self.stored = stored
        self.place = place
        self.no_bytes = words.constant(words.of(_BYTE), 0)
        self.others = words.variable(self.no_bytes)

    def ladders(self) -> None:
        """Begin with empty sums, of values scaled for the panel's windows."""
        stored, words = self.stored, self.words
        scale = self.place.load(stored.scale_kind, SCALE)
        self.scale = words.shuffled(scale, scale, stored.order)
        self.floor = self.place.load(stored.bits, FLOOR)
        self.ceiling = self.place.load(stored.bits, CEILING)
        self.sums = Ladder(words, stored.format.scheme.sums, squares=False)
        self.squares = Ladder(words, stored.format.scheme.squares, squares=True)

    def leave_out(self, where: Where | None) -> Any:
        """Count what does not count; gives where the others are, None for everywhere."""
        if where is None:
            return None
        self.words.update(self.others, partial(self.words.builder.add, where.others))
        return where.lanes

    def add_number(self, raw: Any, where: Any) -> None:
        if where is not None:
            raw = self.words.builder.select(where, raw, self.words.constant(raw.type, 0))
        number = self.stored.scaled(raw, self.scale)
        self.sums.add(number)
        if self.stored.format.scheme is LONG:
            self.squares.add_long_square(number)
        else:
            self.squares.add_square(number, self.stored.fused)

    def before(self, magnitude: Any) -> Any:
        """Return magnitudes less one; that of zero becomes the largest of all."""
        return self.words.builder.sub(magnitude, self.words.constant(self.stored.bits, 1))

    def everywhere(self, condition: Any) -> Any:
        """Return whether a condition holds in all lanes."""
        builder = self.words.builder
        lanes = builder.bitcast(condition, ir.IntType(self.words.width))
        return builder.icmp_unsigned("==", lanes, lanes.type((1 << self.words.width) - 1))

    def rungs(self) -> list[tuple[int, Any]]:
        """Return what stands on the rungs, and the fields for it."""
        order = self.stored.order
        lanes = [order.index(lane) for lane in range(len(order))]
        units = [*enumerate(self.sums.whole(), SUMS), *enumerate(self.squares.whole(), SQUARES)]
        return [(field, self.words.shuffled(whole, whole, lanes)) for field, whole in units]


class _Trial(_Gathering):
    """All values, if none lies outside of its window; 32-bit integers never do.

    Otherwise `refuse` writes that they were not added.
    """

    def __init__(
        self, words: Vectors, stored: Stored, place: Panel, refuse: Callable[[], None]
    ) -> None:
        super().__init__(words, stored, place)
        self.refuse = refuse
        self.range = range_of(words, stored)
        self.ladders()

    def add(self, raw: Any, where: Where | None = None) -> None:
        lanes = self.leave_out(where)
        self.range.add(raw, lanes)
        self.add_number(raw, lanes)

    def end(self, rows: Any) -> None:
        builder = self.words.builder
        if self.stored.whole:
            self.keep(rows)
            return
        low_enough = builder.icmp_unsigned("<", self.range.most(), self.ceiling)
        high_enough = builder.icmp_unsigned(">=", self.range.least(), self.floor)
        inside = self.everywhere(builder.and_(low_enough, high_enough))
        with builder.if_else(inside, likely=True) as (then, otherwise):
            with then:
                self.keep(rows)
            with otherwise:
                self.refuse()

    def keep(self, rows: Any) -> None:
        place, numbers, load = self.place, self.stored.numbers, self.words.builder.load
        low, high = self.range.ends()
        place.store(numbers.smaller(low, place.load(numbers.compared, LOW)), LOW)
        place.store(numbers.larger(high, place.load(numbers.compared, HIGH)), HIGH)
        place.count(load(self.others), OTHERS)
        place.count_rows(rows, ROWS)
        for field, units in self.rungs():
            place.count(units, field, _I64)


class _Survey(_Gathering):
    """Everything but the sums."""

    def __init__(self, words: Vectors, stored: Stored, place: Panel) -> None:
        super().__init__(words, stored, place)
        self.range = range_of(words, stored)
        self.special = [words.variable(self.no_bytes) for _ in range(3)]

    def add(self, raw: Any, where: Where | None = None) -> None:
        words, builder, stored = self.words, self.words.builder, self.stored
        lanes = self.leave_out(where)
        magnitude = stored.magnitude(raw)
        infinity = words.constant(stored.bits, stored.infinity)
        infinite = builder.icmp_unsigned("==", magnitude, infinity)
        zero = words.constant(stored.bits, 0)
        above = builder.icmp_signed(">", builder.bitcast(raw, stored.bits), zero)
        special = (
            builder.icmp_unsigned(">", magnitude, infinity),
            builder.and_(infinite, above),
            builder.and_(infinite, builder.not_(above)),
        )
        for count, condition in zip(self.special, special, strict=True):
            there = condition if lanes is None else builder.and_(condition, lanes)
            words.update(count, partial(builder.add, builder.zext(there, words.of(_BYTE))))
        finite = builder.icmp_unsigned("<", magnitude, infinity)
        if lanes is not None:
            finite = builder.and_(finite, lanes)
        self.range.add(raw, finite)

    def end(self, rows: Any) -> None:
        builder, load, place = self.words.builder, self.words.builder.load, self.place
        wide = self.words.of(_I64)
        counts = (*zip(self.special, (NAN, PLUS, MINUS), strict=True), (self.others, OTHERS))
        for value, field in counts:
            place.store(builder.zext(load(value), wide), field)
        place.store(builder.zext(self.range.most(), wide), LARGEST)
        for end, field in zip(self.range.ends(), (LOW, HIGH), strict=True):
            place.store(self.stored.numbers.number(end), field)
        place.clear(range(ROWS, ROWS + 1))
        place.count_rows(rows, ROWS)


class _Window(_Gathering):
    """The sums of the values that lie in their lanes' windows."""

    def __init__(self, words: Vectors, stored: Stored, place: Panel) -> None:
        super().__init__(words, stored, place)
        self.most = words.variable(words.constant(stored.bits, 0))
        self.ladders()

    def add(self, raw: Any, where: Where | None = None) -> None:
        words, builder = self.words, self.words.builder
        lanes = self.leave_out(where)
        magnitude = self.stored.magnitude(raw)
        below = builder.icmp_unsigned("<", self.before(magnitude), self.floor)
        low_enough = builder.icmp_unsigned("<", magnitude, self.ceiling)
        inside = builder.and_(low_enough, builder.not_(below))
        if lanes is not None:
            inside, below = builder.and_(inside, lanes), builder.and_(below, lanes)
        words.update(self.most, lambda v: words.larger(magnitude, v), below)
        self.add_number(raw, inside)

    def end(self, rows: Any) -> None:  # noqa: ARG002 - the survey counted
        builder, place = self.words.builder, self.place
        wide = self.words.of(_I64)
        place.store(builder.zext(builder.load(self.most), wide), LARGEST)
        for field, units in self.rungs():
            place.store(units, field)


def _try_rows(*, narrow: bool) -> Any:
    """Build the intrinsic that adds a band to panels, and lists the panels that it refused."""

    @intrinsic
    def try_rows(_: Any, x: Any, flip: Any, band: Any, mask: Any, omit: Any, acc: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data, _, lines, bytes_, _, places = arguments
            sums, refused = cgutils.unpack_tuple(builder, places)  # type: ignore[no-untyped-call]
            words, stored = words_of(context, builder, x.dtype)
            rows = Band(*cgutils.unpack_tuple(builder, lines))  # type: ignore[no-untyped-call]
            shape = (rows.extra, _I64(0)) if narrow else (_I64(words.width), rows.extra)

            def begin(panel: Any) -> _Trial:
                def refuse() -> None:
                    own = builder.sub(panel, rows.panel)
                    at = builder.add(rows.at, words.column(rows, own))
                    _list(builder, refused, (panel, at, rows.step, rows.rows, *shape))

                return _Trial(words, stored, Panel(words, sums, panel, FIELDS), refuse)

            words.read(data, rows, begin, None if mask == types.none else bytes_, narrow=narrow)
            return context.get_dummy_value()

        return types.void(x, types.int64, band, mask, omit, acc), generate

    return try_rows


def _list(builder: Any, entries: Any, words: tuple[Any, ...]) -> None:
    """Write an entry behind those that there are."""
    count = builder.load(entries)
    first = builder.add(builder.mul(count, _I64(ENTRY)), _I64(1))
    for k, word in enumerate(words):
        builder.store(word, builder.gep(entries, [builder.add(first, _I64(k))]))
    builder.store(builder.add(count, _I64(1)), entries)


def _read_rows(gathering: Any) -> Any:
    """Build the intrinsic that reads narrow rows of one panel."""

    @intrinsic
    def read_rows(_: Any, x: Any, band: Any, mask: Any, acc: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data, lines, bytes_, sums = arguments
            words, stored = words_of(context, builder, x.dtype)
            words.read(
                data, Band(*cgutils.unpack_tuple(builder, lines)),  # type: ignore[no-untyped-call]
                lambda panel: gathering(words, stored, Panel(words, sums, panel, FIELDS)),
                None if mask == types.none else bytes_, narrow=True,
            )  # fmt: skip
            return context.get_dummy_value()

        return types.void(x, band, mask, acc), generate

    return read_rows


def _try_plainly(*, narrow: bool) -> Any:
    def try_rows(
        x: Array, flip: int, band: tuple[int, ...], mask: Array | None, omit: bool,
        acc: tuple[Array, Array],
    ) -> None:  # fmt: skip
        sums, refused = acc
        rows = Band(*band)
        lanes = LINE // x.itemsize
        shape = (rows.extra, 0) if narrow else (lanes, rows.extra)
        for panel, raw, valid in rows_of(x, rows, mask, narrow=narrow):
            if not exact_plain.try_all(raw, valid, sums.reshape(-1, FIELDS, lanes)[panel]):
                own = panel - rows.panel
                at = rows.at + (rows.last if own == rows.panels - 1 else own * lanes)
                first = 1 + refused[0] * ENTRY
                refused[first : first + ENTRY] = (panel, at, rows.step, rows.rows, *shape)
                refused[0] += 1

    return try_rows


def _read_plainly(gather: Callable[[Array, Array, Array], None]) -> Any:
    def read_rows(x: Array, band: tuple[int, ...], mask: Array | None, acc: Array) -> None:
        for _, raw, valid in rows_of(x, Band(*band), mask, narrow=True):
            gather(raw, valid, acc.reshape(FIELDS, -1))

    return read_rows


try_rows: Any = _try_plainly(narrow=False) if JIT_OFF else _try_rows(narrow=False)
try_narrow_rows: Any = _try_plainly(narrow=True) if JIT_OFF else _try_rows(narrow=True)
"""Add a band of rows, or of narrow rows, as `float_rows.add_rows` does, to panels whose pointer is
the first of two; the second points to the list of what was refused."""
survey_rows: Any = _read_plainly(exact_plain.survey) if JIT_OFF else _read_rows(_Survey)
add_window: Any = _read_plainly(exact_plain.add_window) if JIT_OFF else _read_rows(_Window)
"""Read narrow rows (`vectors.Band`, a tuple) of a pointer to values, of which count those where a
pointer to bytes says so, or all if it is None; what they find replaces what the one panel held."""
