"""Two machine instructions that Numba has no word for, and their plain Python meaning."""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, config, types
from numba.extending import intrinsic

from streamnorm.arrays import Array

__all__ = ["claim", "prefetch"]


@intrinsic
def _prefetch(_: Any, array: Any, index: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        pointer = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(8).as_pointer())
        word = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, word, word, word])
        name = "llvm.prefetch.p0"
        function = cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call]
        # For reading, to be kept in every cache, data rather than code.
        builder.call(function, [pointer, word(0), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(array, types.uint64), generate


@intrinsic
def _claim(_: Any, counter: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.atomic_rmw("add", data, ir.IntType(64)(1), "monotonic")

    return types.int64(counter), generate


def _prefetch_plainly(array: Array, index: int) -> None:
    """Ask for ``array[index]`` to be brought into the cache; past the end it does nothing."""


def _claim_plainly(counter: Array) -> int:
    """Return ``counter[0]`` and add one to it, as one step for all threads."""
    taken = int(counter[0])
    counter[0] += 1
    return taken


# Numba's settings are attributes made at run time.
JIT_OFF = bool(vars(config)["DISABLE_JIT"])
prefetch: Any = _prefetch_plainly if JIT_OFF else _prefetch
claim: Any = _claim_plainly if JIT_OFF else _claim
