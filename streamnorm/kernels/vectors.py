"""Explicit vectors in the function that Numba is writing, and the loops that read a band.

Numba leaves vectors to LLVM's loop vectoriser, which neither keeps lanes in registers across rows
nor vectorises minima of floats. The row kernels therefore say their vectors themselves, in LLVM's
portable vector types: LLVM splits them into whatever the processor has.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from streamnorm.arrays import Array
from streamnorm.kernels.machine import LINE

__all__ = ["AHEAD_BYTES", "SWEPT_PANELS", "Band", "Sums", "Vectors", "Where", "rows_of"]

AHEAD_BYTES = 10240
"""How far ahead to ask for memory in a plain stream."""
SWEPT_ROWS = 4
SWEPT_PANELS = 16
"""Wide bands, of that many panels and more, are swept: so many rows at a time, from panel to panel,
in the order of memory, while the sums of all panels stand in the cache."""

_BYTE = ir.IntType(8)
_WORD = ir.IntType(32)
_INDEX = ir.IntType(64)


class Band(NamedTuple):
    """Rows of lanes that are read in one go, all of them integers; places are counted in values.

    Attributes
    ----------
    panel
        The number of the first panel (a column of lanes) among those of the box.
    at, step, rows
        Where the first row begins, how far it is to the next, how many there are.
    extra
        In narrow rows, of fewer values than lanes: how many. Otherwise how many values of a shorter
        row behind the last one, whose channel all lanes share, or 0.
    panels, last
        How many panels there are side by side, and in which column the last one begins: it reaches
        back into the one before rather than be partly empty.
    ahead
        How far ahead to ask for memory meanwhile.
    size
        How many values the memory holds; none behind them is read.
    """

    panel: Any
    at: Any
    step: Any
    rows: Any
    extra: Any
    panels: Any
    last: Any
    ahead: Any
    size: Any


class Where(NamedTuple):
    """Which lanes of a row count.

    Attributes
    ----------
    lanes
        Conditions.
    others
        Bytes, 1 in the lanes that do not.
    """

    lanes: Any
    others: Any


class Sums(Protocol):
    """What gathers the values of a panel, in registers."""

    def add(self, raw: Any, where: Where | None = None) -> None:
        """Add a row of values as they are stored, all or those `where`."""

    def end(self, rows: Any) -> None:
        """Merge what was gathered into memory; so many `rows` were added."""


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

    def shuffled(self, first: Any, second: Any, order: Iterable[int]) -> Any:
        """Return the lanes of two vectors in a row that `order` names."""
        lanes = list(order)
        pattern = ir.Constant(self.of(_WORD, len(lanes)), lanes)
        return self.builder.shuffle_vector(first, second, pattern)

    def joined(self, parts: list[Any]) -> Any:
        """Return vectors of equal types in a row, as one; so many as a power of two."""
        if len(parts) == 1:
            return parts[0]
        half = len(parts) // 2
        first, second = self.joined(parts[:half]), self.joined(parts[half:])
        return self.shuffled(first, second, range(2 * first.type.count))

    def variable(self, value: Any) -> Any:
        """Return a place for a vector, filled with `value`; LLVM keeps it in registers."""
        place = cgutils.alloca_once(self.builder, value.type)  # type: ignore[no-untyped-call]
        self.builder.store(value, place)
        return place

    def update(self, place: Any, change: Callable[[Any], Any], where: Any = None) -> None:
        """Replace what stands at `place`, in all lanes or those `where`."""
        before = self.builder.load(place)
        after = change(before)
        if where is not None:
            after = self.builder.select(where, after, before)
        self.builder.store(after, place)

    def load(self, data: Any, index: Any) -> Any:
        """Load ``data[index : index + width]``, aligned or not."""
        pointer, alignment = self._at(data, index)
        return self.builder.load(pointer, align=alignment)

    def call(self, name: str, result: Any, arguments: list[Any]) -> Any:
        """Call an LLVM intrinsic by its full name."""
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)  # type: ignore[no-untyped-call]
        return self.builder.call(function, arguments)

    def hidden(self, number: Any) -> Any:
        """Return an integer of which LLVM does not know what it is."""
        same = ir.FunctionType(number.type, [number.type])
        return self.builder.asm(same, "", "=r,0", [number], False)

    def smaller(self, a: Any, b: Any) -> Any:
        """Return the smaller of two vectors of floats or unsigned integers, b where a is NaN."""
        return self._chosen("<", a, b)

    def larger(self, a: Any, b: Any) -> Any:
        """Return the larger of two vectors of floats or unsigned integers, b where a is NaN."""
        return self._chosen(">", a, b)

    def read(
        self, data: Any, band: Band, begin: Callable[[Any], Sums], mask: Any,
        *, narrow: bool, sweep: bool = False,
    ) -> None:  # fmt: skip
        """Write the loops over the panels and rows of a band.

        Parameters
        ----------
        data : pointer
        band : Band
        begin : callable
            ``begin(panel)`` gives what gathers a panel.
        mask : pointer or None
            Bytes, at the same places as the values: which of them count. None if all do.
        narrow : bool
            Whether rows have fewer values than there are lanes.
        sweep : bool
            Whether to sweep wide bands.
        """
        builder = self.builder
        rows = band.rows
        nothing = self.splat(self.hidden(_BYTE(0))) if mask else None
        if sweep:
            swept = self._swept(band)
            self._sweep(data, band, swept, begin)
            rows = builder.sub(rows, swept)
            band = band._replace(at=builder.add(band.at, builder.mul(swept, band.step)))
        with cgutils.for_range(builder, band.panels, intp=_INDEX) as panel:
            sums = begin(builder.add(band.panel, panel.index))
            at = builder.add(band.at, self.column(band, panel.index))
            fetch = self._share(band, panel.index)
            with cgutils.for_range(builder, rows, intp=_INDEX) as row:
                index = builder.add(at, builder.mul(row.index, band.step))
                ahead = builder.add(fetch, builder.mul(row.index, _INDEX(self.width)))
                self._prefetch(data, ahead)
                if mask:
                    # Its lines hold more values: as many bytes ahead are more of them.
                    farther = _INDEX(AHEAD_BYTES - AHEAD_BYTES // self._size(data))
                    self._prefetch(mask, builder.add(ahead, farther))
                there = self._first(band.extra) if narrow else None
                size = band.size if narrow else None
                sums.add(
                    self._row(data, index, size), self._truth(mask, nothing, index, size, there)
                )
            if not narrow:
                with builder.if_then(builder.icmp_signed(">", band.extra, _INDEX(0)), likely=False):
                    seen = builder.sub(_INDEX(self.width), band.extra)
                    index = builder.add(at, builder.mul(rows, band.step))
                    index = builder.sub(index, seen)
                    new = builder.not_(self._first(seen))
                    sums.add(self.load(data, index), self._truth(mask, nothing, index, None, new))
            sums.end(rows if narrow else self._with_behind(rows, band))

    def _with_behind(self, rows: Any, band: Band) -> Any:
        """Return how many rows there are with a shorter one behind them."""
        behind = self.builder.icmp_signed(">", band.extra, _INDEX(0))
        return self.builder.add(rows, self.builder.zext(behind, _INDEX))

    def _swept(self, band: Band) -> Any:
        """Return how many rows of a band are to be swept: all but a few, if it is wide."""
        builder = self.builder
        wide = builder.icmp_signed(">=", band.panels, _INDEX(SWEPT_PANELS))
        return builder.select(wide, builder.and_(band.rows, _INDEX(-SWEPT_ROWS)), _INDEX(0))

    def _sweep(self, data: Any, band: Band, rows: Any, begin: Callable[[Any], Sums]) -> None:
        builder = self.builder
        groups = builder.udiv(rows, _INDEX(SWEPT_ROWS))
        with cgutils.for_range(builder, groups, intp=_INDEX) as group:
            step = builder.mul(band.step, _INDEX(SWEPT_ROWS))
            first = builder.add(band.at, builder.mul(group.index, step))
            with cgutils.for_range(builder, band.panels, intp=_INDEX) as panel:
                sums = begin(builder.add(band.panel, panel.index))
                index = builder.add(first, self.column(band, panel.index))
                for _ in range(SWEPT_ROWS):
                    self._prefetch(data, builder.add(index, band.ahead))
                    sums.add(self.load(data, index))
                    index = builder.add(index, band.step)
                sums.end(_INDEX(SWEPT_ROWS))

    def column(self, band: Band, panel: Any) -> Any:
        """Return where a panel begins in its row."""
        builder = self.builder
        is_last = builder.icmp_signed("==", panel, builder.sub(band.panels, _INDEX(1)))
        return builder.select(is_last, band.last, builder.mul(panel, _INDEX(self.width)))

    def _share(self, band: Band, panel: Any) -> Any:
        """Return where a panel's share of the next rows begins, in the order of memory.

        So the processor sees one stream, and not one per row.
        """
        builder = self.builder
        line = builder.mul(panel, band.rows)
        column = builder.mul(builder.urem(line, band.panels), _INDEX(self.width))
        row = builder.mul(builder.udiv(line, band.panels), band.step)
        return builder.add(builder.add(band.at, band.ahead), builder.add(row, column))

    def _row(self, data: Any, index: Any, size: Any) -> Any:
        """Load a row; where a `size` is given, no more than that, and zeros behind it."""
        if size is None:
            return self.load(data, index)
        builder = self.builder
        row = self.variable(self.constant(self.of(data.type.pointee), 0))
        room = builder.sub(size, index)
        inside = builder.icmp_signed(">=", room, _INDEX(self.width))
        with builder.if_else(inside, likely=True) as (then, otherwise):
            with then:
                builder.store(self.load(data, index), row)
            with otherwise, cgutils.for_range(builder, room, intp=_INDEX) as lane:
                one = builder.load(builder.gep(data, [builder.add(index, lane.index)]))
                builder.store(builder.insert_element(builder.load(row), one, lane.index), row)
        return builder.load(row)

    def _truth(self, mask: Any, nothing: Any, index: Any, size: Any, where: Any) -> Where | None:
        """Return in which lanes of a row values count, None if in all."""
        builder = self.builder
        if mask is not None:
            byte = self._row(mask, index, size)
            truth = builder.icmp_unsigned(">", byte, nothing)
            if where is None:
                # Not a negation of the condition: LLVM would negate it for every use.
                one = self.constant(byte.type, 1)
                name = f"llvm.usub.sat.v{self.width}i8"
                return Where(truth, self.call(name, byte.type, [one, byte]))
            where = builder.and_(truth, where)
        if where is None:
            return None
        return Where(where, builder.zext(builder.not_(where), self.of(_BYTE)))

    def _first(self, count: Any) -> Any:
        """Return a condition that holds in the first `count` lanes."""
        order = ir.Constant(self.of(_BYTE), list(range(self.width)))
        return self.builder.icmp_unsigned("<", order, self.splat(self.builder.trunc(count, _BYTE)))

    def _at(self, data: Any, index: Any) -> Any:
        element = data.type.pointee
        pointer = self.builder.gep(data, [index])
        return self.builder.bitcast(pointer, self.of(element).as_pointer()), self._size(data)

    def _size(self, data: Any) -> int:
        size: int = self.context.get_abi_sizeof(data.type.pointee)
        return size

    def _prefetch(self, data: Any, index: Any) -> None:
        """Ask for the cache lines of a row at `index`; outside of the memory it does nothing."""
        per_line = LINE // self._size(data)
        for ahead in range(0, self.width, per_line):
            pointer = self.builder.gep(data, [self.builder.add(index, _INDEX(ahead))])
            # For reading; into the second-level cache, as a tile would not fit the first; data.
            hints = [_WORD(0), _WORD(1), _WORD(1)]
            place = self.builder.bitcast(pointer, _BYTE.as_pointer())
            self.call("llvm.prefetch.p0", ir.VoidType(), [place, *hints])

    def _chosen(self, sign: str, a: Any, b: Any) -> Any:
        is_float = not isinstance(a.type.element, ir.IntType)
        compare = self.builder.fcmp_ordered if is_float else self.builder.icmp_unsigned
        return self.builder.select(compare(sign, a, b), a, b)


def rows_of(
    x: Array, band: Band, mask: Array | None, *, narrow: bool
) -> Iterator[tuple[int, Array, Array]]:
    """Read a band as `Vectors.read` does, in plain Python.

    Yields the number of each panel, its rows, shape (rows, lanes), and which of them count.
    """
    lanes = LINE // x.itemsize
    behind = [] if narrow or band.extra == 0 else [band.extra - lanes]
    for panel in range(band.panels):
        at = band.at + (band.last if panel == band.panels - 1 else panel * lanes)
        starts = [at + row * band.step for row in range(band.rows)]
        starts += [at + band.rows * band.step + back for back in behind]
        raw = np.zeros((len(starts), lanes), x.dtype)
        valid = np.zeros(raw.shape, np.bool_)
        width = band.extra if narrow else lanes
        for row, start in enumerate(starts):
            raw[row, :width] = x[start : start + width]
            valid[row, :width] = True if mask is None else mask[start : start + width]
        if behind:
            valid[-1, : -band.extra] = False
        yield band.panel + panel, raw, valid
