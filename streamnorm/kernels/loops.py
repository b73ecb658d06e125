"""Loops around traced formulas: over the channels of a book, the lanes of panels, and records.

Each has a plain form for interpreted code, which is its specification.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from streamnorm.arrays import Array
from streamnorm.kernels.machine import JIT_OFF
from streamnorm.kernels.traced import Fields, Flags, Number, Record, choose, select

__all__ = ["LANES", "in_a_tree", "into_records", "over_channels", "over_lanes", "over_records"]

LANES = 8
"""Channels that `over_channels` takes at a time."""

_F64 = ir.DoubleType()
_I64 = ir.IntType(64)

Build = Callable[[Callable[..., Any]], Callable[..., tuple[Any, ...]]]


def over_channels(formula: Callable[..., tuple[dict[int, Any], list[Any]]]) -> Any:
    """Compile ``formula(select, fields)`` into a loop over the channels of a book.

    A book is a pointer to fields of float64, shape (fields, width), where `width` is a multiple of
    `LANES`; `fields` is a function that gives a field by its number. The formula gives the fields
    that it changes, and conditions. The compiled function takes the book and its width, and gives
    an integer, bit k of which says whether condition k holds in any channel.
    """

    @intrinsic
    def apply(_: Any, book: Any, width: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data, width = arguments
            vector = ir.VectorType(_F64, LANES)
            flags = Flags(builder)
            groups = builder.udiv(width, _I64(LANES))
            with cgutils.for_range(builder, groups, intp=_I64) as loop:
                column = builder.mul(loop.index, _I64(LANES))

                def place(field: int) -> Any:
                    index = builder.add(builder.mul(width, _I64(field)), column)
                    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())

                fields = Fields(builder, place)
                changed, conditions = formula(select, fields)
                fields.store(changed)
                flags.note(conditions)
            return flags.value()

        return types.int64(book, types.int64), generate

    def apply_plainly(book: Array, width: int) -> int:
        table = book.reshape(-1, width)
        with np.errstate(all="ignore"):
            changed, conditions = formula(np.where, lambda field: table[field].copy())
        for field, values in changed.items():
            table[field] = values
        return sum(int(np.any(condition)) << k for k, condition in enumerate(conditions))

    return apply_plainly if JIT_OFF else apply


def over_lanes(formula: Callable[..., tuple[dict[int, Any], dict[int, Any]]], size: int) -> Any:
    """Compile ``formula(select, lane, channel)`` into a loop over the lanes of panels.

    `lane` and `channel` are functions that give a field by its number: of the lane among the `size`
    fields of its panel, and of its channel in the book. The formula gives the fields of both that
    it changes. The compiled function takes pointers to the panels, shape (panels, size, lanes), to
    the number of every lane's channel, and to the book, and between them how many panels and lanes
    there are and how wide the book is. Lanes without a channel, whose number is -1, see that of the
    first channel, and change nothing in it.
    """

    @intrinsic
    def apply(_: Any, acc: Any, panels: Any, lanes: Any, owners: Any, book: Any, width: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            acc, panels, lanes, owners, book, width = arguments
            with (
                cgutils.for_range(builder, panels, intp=_I64) as panel,
                cgutils.for_range(builder, lanes, intp=_I64) as own,
            ):
                index = builder.add(builder.mul(panel.index, lanes), own.index)
                number = builder.load(builder.gep(owners, [index]))
                owned = builder.icmp_signed(">=", number, _I64(0))
                number = builder.select(owned, number, _I64(0))

                def place(field: int) -> Any:
                    row = builder.add(builder.mul(panel.index, _I64(size)), _I64(field))
                    return builder.gep(acc, [builder.add(builder.mul(row, lanes), own.index)])

                def place_in_book(field: int) -> Any:
                    return builder.gep(book, [builder.add(builder.mul(width, _I64(field)), number)])

                lane, channel = Fields(builder, place), Fields(builder, place_in_book)
                changed, changed_in_book = formula(select, lane, channel)
                lane.store(changed)
                with builder.if_then(owned):
                    channel.store(changed_in_book)
            return context.get_dummy_value()

        int64 = types.int64
        return types.void(acc, int64, int64, owners, book, int64), generate

    def apply_plainly(
        acc: Array, panels: int, lanes: int, owners: Array, book: Array, width: int
    ) -> None:
        table, state = acc.reshape(-1, size, lanes), book.reshape(-1, width)
        for panel, own in np.ndindex(panels, lanes):
            number = owners[panel * lanes + own]
            lane, channel = table[panel, :, own], state[:, max(number, 0)]
            changed, changed_in_book = formula(choose, lane.__getitem__, channel.__getitem__)
            for field, value in changed.items():
                lane[field] = value
            for field, value in changed_in_book.items() if number >= 0 else ():
                channel[field] = value

    return apply_plainly if JIT_OFF else apply


def into_records(formula: Callable[..., tuple[list[Any], list[Any]]], kind: Any) -> Any:
    """Compile ``formula(select, fields, a)`` into a loop over channels that writes records.

    As for `over_channels`, but that the formula gives, of a scalar `a` besides, the fields of a
    record of type `kind`, all of eight bytes. The compiled function takes besides `a`, a pointer to
    records, and how many to write.
    """
    whole = _whole(kind)

    @intrinsic
    def apply(_: Any, book: Any, width: Any, a: Any, records: Any, count: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data, width, scalar, records, count = arguments
            flags = Flags(builder)
            with cgutils.for_range(builder, count, intp=_I64) as loop:

                def place(field: int) -> Any:
                    return builder.gep(
                        data, [builder.add(builder.mul(width, _I64(field)), loop.index)]
                    )

                record = Record(builder, records, loop.index, whole)
                made, conditions = formula(select, Fields(builder, place), Number(builder, scalar))
                record.store(made)
                flags.note(conditions)
            return flags.value()

        return types.int64(book, types.int64, types.float64, records, types.int64), generate

    def apply_plainly(book: Array, width: int, a: float, records: Array, count: int) -> int:
        table = book.reshape(-1, width)[:, :count]
        with np.errstate(all="ignore"):
            made, conditions = formula(np.where, lambda field: table[field].copy(), a)
        for name, values in zip(kind.names, made, strict=True):
            records[name][:count] = values
        return sum(int(np.any(condition)) << k for k, condition in enumerate(conditions))

    return apply_plainly if JIT_OFF else apply


def over_records(build: Build, kind: Any) -> Any:
    """Compile the merge of two records, ``build(select)``, into a loop over many.

    All fields of type `kind` have eight bytes; the formula takes those of both records and gives
    those of one. The compiled function takes two pointers and a count: so many records behind the
    first become the merged ones.
    """
    whole = _whole(kind)
    formula = build(choose if JIT_OFF else select)

    @intrinsic
    def apply(_: Any, total: Any, records: Any, count: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            total, records, count = arguments
            _merge(builder, formula, whole, (total, _I64(0)), (records, _I64(0)), count)
            return context.get_dummy_value()

        return types.void(total, records, types.int64), generate

    def apply_plainly(total: Array, records: Array, count: int) -> None:
        for k in range(count):
            total[k] = formula(*total[k], *records[k])

    return apply_plainly if JIT_OFF else apply


def in_a_tree(build: Build, kind: Any) -> Any:
    """Compile a merge such as `over_records` takes into a balanced tree over rows of records.

    The compiled function takes a pointer to records of shape (parts, count), and both numbers; the
    first row becomes the merged one. The tree is that of `streamnorm.partial.merge_tree`.
    """
    whole = _whole(kind)
    formula = build(choose if JIT_OFF else select)

    @intrinsic
    def apply(_: Any, records: Any, parts: Any, count: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            records, parts, count = arguments
            stride = cgutils.alloca_once_value(builder, _I64(1))  # type: ignore[no-untyped-call]
            head, body, end = map(builder.append_basic_block, ("head", "body", "end"))
            builder.branch(head)
            builder.position_at_end(head)
            apart = builder.load(stride)
            builder.cbranch(builder.icmp_signed("<", apart, parts), body, end)
            builder.position_at_end(body)
            stop, step = builder.sub(parts, apart), builder.mul(apart, _I64(2))
            with cgutils.for_range_slice(builder, _I64(0), stop, step, _I64) as (row, _):
                first = builder.mul(row, count)
                second = builder.mul(builder.add(row, apart), count)
                _merge(builder, formula, whole, (records, first), (records, second), count)
            builder.store(step, stride)
            builder.branch(head)
            builder.position_at_end(end)
            return context.get_dummy_value()

        return types.void(records, types.int64, types.int64), generate

    def apply_plainly(records: Array, parts: int, count: int) -> None:
        rows = records.reshape(parts, count)
        stride = 1
        while stride < parts:
            for i in range(0, parts - stride, 2 * stride):
                for k in range(count):
                    rows[i, k] = formula(*rows[i, k], *rows[i + stride, k])
            stride *= 2

    return apply_plainly if JIT_OFF else apply


def _merge(
    builder: Any, formula: Callable[..., tuple[Any, ...]], whole: list[bool],
    total: tuple[Any, Any], part: tuple[Any, Any], count: Any,
) -> None:  # fmt: skip
    """Write the loop that merges records, two rows of which are given by pointer and place."""
    with cgutils.for_range(builder, count, intp=_I64) as loop:
        a, b = (
            Record(builder, records, builder.add(start, loop.index), whole)
            for records, start in (total, part)
        )
        a.store(formula(*a.load(), *b.load()))


def _whole(kind: Any) -> list[bool]:
    """Return which fields of a record are integers."""
    return [kind[name].kind == "i" for name in kind.names]
