"""Words of the machine that Numba does not have: pointers, and words that threads share."""

import ctypes
import math
import threading
import time
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, config, types
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from streamnorm.arrays import Array

__all__ = [
    "JIT_OFF",
    "LINE",
    "NEXT",
    "OPEN",
    "OVERFLOWED",
    "TURN",
    "WORDS_OF_ARRAY",
    "atomic_add",
    "atomic_load",
    "bits_of",
    "keep",
    "let_others",
    "note_arrays",
    "noted_arrays",
    "plain_floats",
    "pointer",
    "set_floats",
]

# Numba's settings are attributes made at run time.
JIT_OFF = bool(vars(config)["DISABLE_JIT"])
LINE = 64
"""Bytes of a cache line."""
NEXT, OVERFLOWED, OPEN = range(3)
TURN = 3
"""Words that the threads at work on an array share: the next box that nobody has taken; whether
squares overflowed, and whether boxes were left open."""
WORDS_OF_ARRAY = 3
"""Words that `note_arrays` takes for each."""

_WORD = ir.IntType(32)
_INDEX = ir.IntType(64)
_TURN = threading.Lock()
_X86 = ("x86_64", "i386", "i686")
_FLUSHES = 0x8040
"""Bits of the control word: results that are denormal become zero, and operands."""


@intrinsic
def _atomic_add(_: Any, words: Any, index: Any, amount: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.atomic_rmw("add", builder.gep(data, [arguments[1]]), arguments[2], "seq_cst")

    return types.int64(words, types.int64, types.int64), generate


def _atomic_add_plainly(words: Array, index: int, amount: int) -> int:
    """Add to ``words[index]``, as one step for all threads; gives what stood there before."""
    with _TURN:
        before = int(words[index])
        words[index] = before + amount
    return before


@intrinsic
def _atomic_load(_: Any, words: Any, index: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.load_atomic(builder.gep(data, [arguments[1]]), "seq_cst", 8)

    return types.int64(words, types.int64), generate


def _atomic_load_plainly(words: Array, index: int) -> int:
    """Return ``words[index]`` as the other threads have left it."""
    return int(words[index])


@intrinsic
def _let_others(_: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(_WORD, [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])  # type: ignore[no-untyped-call]
        return context.get_dummy_value()

    return types.void(), generate


def _let_others_plainly() -> None:
    """Let another thread run on this processor, if one is waiting for it."""
    time.sleep(0)


@intrinsic
def _note_arrays(_: Any, words: Any, at: Any, arrays: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(words)(context, builder, arguments[0]).data
        for k, kind in enumerate(arrays.types):
            if kind == types.none:
                continue
            value = builder.extract_value(arguments[2], k)
            array = context.make_array(kind)(context, builder, value)
            notes = [builder.ptrtoint(array.data, _INDEX)]
            notes += cgutils.unpack_tuple(builder, array.shape)  # type: ignore[no-untyped-call]
            for j, note in enumerate(notes):
                index = builder.add(arguments[1], _INDEX(WORDS_OF_ARRAY * k + j))
                builder.store(note, builder.gep(data, [index]))
        return context.get_dummy_value()

    return types.void(words, types.int64, arrays), generate


def _note_arrays_plainly(words: Array, at: int, arrays: tuple[Array | None, ...]) -> None:
    """Write where arrays of one or two axes lie, and their shapes, from ``words[at]`` on.

    None among them is passed over.
    """
    for k, array in enumerate(arrays):
        if array is None:
            continue
        start = at + WORDS_OF_ARRAY * k
        words[start : start + 1 + array.ndim] = (array.ctypes.data, *array.shape)


@intrinsic
def _noted_arrays(_: Any, words: Any, at: Any, like: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(words)(context, builder, arguments[0]).data
        made = []
        for k, kind in enumerate(like.types):
            if kind == types.none:
                made.append(context.get_dummy_value())
                continue
            start = builder.add(arguments[1], _INDEX(WORDS_OF_ARRAY * k))
            notes = [
                builder.load(builder.gep(data, [builder.add(start, _INDEX(j))]))
                for j in range(1 + kind.ndim)
            ]
            array = context.make_array(kind)(context, builder)
            itemsize = _INDEX(context.get_abi_sizeof(context.get_data_type(kind.dtype)))
            steps = [itemsize]
            for size in notes[:1:-1]:
                steps.insert(0, builder.mul(size, steps[0]))
            populate_array(  # type: ignore[no-untyped-call]
                array,
                data=builder.inttoptr(notes[0], array.data.type),
                shape=cgutils.pack_array(builder, notes[1:]),  # type: ignore[no-untyped-call]
                strides=cgutils.pack_array(builder, steps),  # type: ignore[no-untyped-call]
                itemsize=itemsize,
                meminfo=None,
            )
            made.append(array._getvalue())  # noqa: SLF001 - Numba's own way to say this
        return context.make_tuple(builder, like, made)

    return like(words, types.int64, like), generate


def _noted_arrays_plainly(
    words: Array, at: int, like: tuple[Array | None, ...]
) -> tuple[Array | None, ...]:
    """Return the arrays that `note_arrays` wrote down; `like` are arrays of the same types."""
    made: list[Array | None] = []
    for k, sample in enumerate(like):
        if sample is None:
            made.append(None)
            continue
        start = at + WORDS_OF_ARRAY * k
        place, *shape = map(int, words[start : start + 1 + sample.ndim])
        memory: Any = (ctypes.c_byte * (math.prod(shape) * sample.itemsize)).from_address(place)
        made.append(np.ndarray(shape, sample.dtype, memory))
    return tuple(made)


@intrinsic
def _bits_of(_: Any, number: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], _INDEX)

    return types.int64(types.float64), generate


def _bits_of_plainly(number: float) -> int:
    """Return the bits of a float64 as an integer."""
    return int(np.float64(number).view(np.int64))


@intrinsic
def _pointer(_: Any, array: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if array == types.none:
            return context.get_dummy_value()
        return context.make_array(array)(context, builder, arguments[0]).data

    kind = types.none if array == types.none else types.CPointer(array.dtype)  # type: ignore[no-untyped-call]
    return kind(array), generate


def _pointer_plainly(array: Array | None) -> Array | None:
    """Return where the values of a contiguous `array` begin; of None, None.

    Numba counts references to arrays whenever it hands one on, atomically, and every load under way
    is waited for then. Pointers cost nothing; the array must outlive them: see `keep`.
    """
    return None if array is None else array.reshape(-1)


@intrinsic
def _plain_floats(_: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = cgutils.alloca_once_value(builder, _WORD(0))  # type: ignore[no-untyped-call]
        if builder.module.triple.startswith(_X86):
            _control(builder, "st", place)
            mode = builder.load(place)
            _set_control(builder, place, builder.and_(mode, _WORD(~_FLUSHES)))
            return mode
        return builder.load(place)

    return types.int32(), generate


def _plain_floats_plainly() -> int:
    """Have this thread compute with denormal numbers, whatever it did; gives its mode before.

    A thread may flush them to zero (``torch.set_flush_denormal``, code of fast compilers). On other
    processors than those of x86 nothing is changed.
    """
    return 0


@intrinsic
def _set_floats(_: Any, mode: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if builder.module.triple.startswith(_X86):
            place = cgutils.alloca_once(builder, _WORD)  # type: ignore[no-untyped-call]
            _set_control(builder, place, arguments[0])
        return context.get_dummy_value()

    return types.void(types.int32), generate


def _set_floats_plainly(mode: int) -> None:
    """Set the mode that `plain_floats` gave."""


def _set_control(builder: Any, place: Any, mode: Any) -> None:
    builder.store(mode, place)
    _control(builder, "ld", place)


def _control(builder: Any, what: str, place: Any) -> None:
    """Store or load the word that controls how floats are computed."""
    pointer = builder.bitcast(place, ir.IntType(8).as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [pointer.type])
    name = f"llvm.x86.sse.{what}mxcsr"
    builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [pointer])  # type: ignore[no-untyped-call]


@intrinsic
def _keep(_: Any, array: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.get_dummy_value()

    return types.void(array), generate


def _keep_plainly(array: Array) -> None:
    """Do nothing: but until here the array lives.

    Numba lets go of an array right after the last line that names it. In ``f(pointer(array))`` that
    is before `f` is called, if nothing names the array later.
    """


atomic_add: Any = _atomic_add_plainly if JIT_OFF else _atomic_add
bits_of: Any = _bits_of_plainly if JIT_OFF else _bits_of
atomic_load: Any = _atomic_load_plainly if JIT_OFF else _atomic_load
keep: Any = _keep_plainly if JIT_OFF else _keep
let_others: Any = _let_others_plainly if JIT_OFF else _let_others
note_arrays: Any = _note_arrays_plainly if JIT_OFF else _note_arrays
noted_arrays: Any = _noted_arrays_plainly if JIT_OFF else _noted_arrays
plain_floats: Any = _plain_floats_plainly if JIT_OFF else _plain_floats
set_floats: Any = _set_floats_plainly if JIT_OFF else _set_floats
pointer: Any = _pointer_plainly if JIT_OFF else _pointer
