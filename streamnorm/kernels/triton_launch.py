"""Which Triton kernel measures what, and how it is started."""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from streamnorm.dtypes import Precision, Summed, precision_of
from streamnorm.kernels.raw import MOST_VALUES, SUMS
from streamnorm.kernels.schemes import SHORT
from streamnorm.kernels.tiles import FEW, RUNS, Tiles, tiles_of
from streamnorm.kernels.triton_exact import sum_floats
from streamnorm.kernels.triton_floats import measure_floats, merge_partials
from streamnorm.kernels.triton_integers import sum_integers
from streamnorm.limbs import NARROW
from streamnorm.pending import current_stream

__all__ = ["Start", "launch"]

_FORMATS = {"float16": (10, -14), "bfloat16": (7, -126), "float32": (23, -126)}
"""Bits of the fraction, and the exponent of the smallest normal number."""
_VIEWED = {torch.bfloat16: torch.int16, torch.bool: torch.uint8}
OPTIONS = {
    "measure_floats": ({"num_warps": 4}, {"num_warps": 4}),
    "sum_floats": ({"num_warps": 8, "maxnreg": 128}, {"num_warps": 4}),
    "sum_integers": ({"num_warps": 4}, {"num_warps": 8, "maxnreg": 64}),
    "merge_partials": ({"num_warps": 4}, {"num_warps": 4}),
    "advance_book": ({"num_warps": 4}, {"num_warps": 4}),
}
"""For runs, and for all else; docs/design.md has figures."""
MOST_TILES = {"measure_floats": 512, "sum_floats": 64, "sum_integers": 512}
"""Of a program. 2**17 values of exact sums stay below 2**63 units, places of 8 bits below 2**31."""
_MERGED_AT_ONCE = 1024
_SHARE = 2048
"""Partial results of a channel that one program merges; more are merged twice."""


class _Launch:
    most_values = MOST_VALUES

    def __call__(
        self, x: Tensor, valid: Tensor | None, precision: Precision, *, exact: bool, omit: bool
    ) -> Tensor | None:
        if precision.summed is Summed.CENTRED or (exact and precision.name == "float64"):
            return None
        shape: Any = tuple(x.shape)
        plan = _plan_for(shape, precision.name, valid is not None, exact, omit)
        if not x.is_cuda or x.device.index == torch.cuda.current_device():
            return plan.measure(x, valid)
        with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
            return plan.measure(x, valid)


launch = _Launch()


@dataclass(frozen=True)
class Start:
    """A kernel with all its arguments but the tensors.

    The second time it is started without Triton's looking at every argument, which takes 50 µs.
    Triton makes constants of integers that are 1, and looks whether integers and addresses are
    multiples of 16: the integers are given, and for the addresses it is looked here.
    """

    kernel: Any
    programs: int
    given: dict[str, Any]
    compiled: dict[Any, Any] = field(default_factory=dict)

    def __call__(self, *tensors: Tensor) -> None:
        """Start it on the current stream of the current device."""
        key = tensors[0].device.index, *[tensor.data_ptr() % 16 for tensor in tensors]
        run = self.compiled.get(key)
        if run is not None:
            run(*tensors, *self.given.values(), stream=current_stream(key[0]))
            return
        options = OPTIONS[self.kernel.__name__][self.given.get("KIND") != RUNS]
        made = self.kernel[(self.programs,)](
            *tensors, **self.given, **options, enable_fp_fusion=False
        )
        # Triton's interpreter makes nothing that could be kept.
        if made is not None:
            self.compiled[key] = made[self.programs, 1, 1]


@dataclass(frozen=True)
class _Plan:
    """How pieces of one shape and dtype are measured."""

    start: Start
    shape: tuple[int, ...]
    floats: bool
    merges: tuple[tuple[Start, tuple[int, ...]], ...] = ()

    def measure(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """Start all kernels; gives what the last one will have written."""
        if x.dtype in _VIEWED:
            x = x.view(_VIEWED[x.dtype])
        dtype = torch.float64 if self.floats else torch.int64
        # Integers are added to what is there.
        make = torch.empty if self.floats else torch.zeros
        out = make(self.shape, dtype=dtype, device=x.device)
        self.start(x, x if valid is None else valid.view(torch.uint8), out)
        for merge, shape in self.merges:
            parts, out = out, torch.empty(shape, dtype=dtype, device=x.device)
            merge(parts, out)
        return out


@lru_cache(maxsize=4096)
def _plan_for(
    shape: tuple[int, int, int], dtype: str, masked: bool, exact: bool, omit: bool
) -> _Plan:
    precision = precision_of(dtype)
    itemsize = precision.bits.itemsize
    channels = shape[1]
    if not precision.is_float and (exact or precision.bits.itemsize <= 2):
        least, most = precision.range
        further = {"LEAST": least, "MOST": most, "BITS": 8 * itemsize}
        tiles = _deal(sum_integers, shape, itemsize)
        start = _start(sum_integers, shape, precision, masked, tiles, further)
        return _Plan(start, (1, len(SUMS), channels), floats=False)
    if exact:
        fraction, exponent = _FORMATS[precision.name]
        # The last bit of the smallest numbers is the last of the lowest window.
        least = exponent - fraction + SHORT.span + 126
        further = {"FRACTION": fraction, "LEAST": least}
        tiles = _deal(sum_floats, shape, itemsize)
        start = _start(sum_floats, shape, precision, masked, tiles, further)
        return _Plan(start, (1, channels, NARROW.dtype.itemsize // 8), floats=False)
    tiles = _deal(measure_floats, shape, itemsize)
    further = {"OMIT": omit and precision.is_float}
    start = _start(measure_floats, shape, precision, masked, tiles, further)
    merges = _merges(channels, tiles.parts)
    return _Plan(start, _room(channels, tiles.parts), floats=True, merges=merges)


def _deal(kernel: Any, shape: tuple[int, int, int], itemsize: int) -> Tiles:
    few = kernel is not measure_floats
    return tiles_of(*shape, itemsize, MOST_TILES[kernel.__name__], few=few)


def _start(
    kernel: Any, shape: tuple[int, int, int], precision: Precision, masked: bool, tiles: Tiles,
    further: dict[str, Any],
) -> Start:  # fmt: skip
    outer, channels, inner = shape
    given = {
        "channels": channels, "inner": inner, "blocks": tiles.blocks, "per": tiles.per,
        "used": tiles.used, "total": tiles.total, "each": tiles.each,
        "size": outer * channels * inner, "parts": tiles.parts, "KIND": tiles.kind,
        "CHANNELS": channels if tiles.kind == FEW else 1, "STORED": precision.name,
        "MASKED": masked, "EVEN": tiles.even, "R": tiles.rows, "W": tiles.width,
    }  # fmt: skip
    return Start(kernel, tiles.blocks * tiles.chunks, _ordered(kernel, 3, given | further))


def _merges(channels: int, parts: int) -> tuple[tuple[Start, tuple[int, ...]], ...]:
    """Return how the partial results of every channel become one: at once, or in two steps."""
    merges = []
    while parts > 1:
        groups = -(-parts // _SHARE)
        share = -(-parts // groups)
        at_once = min(_MERGED_AT_ONCE, 1 << (share - 1).bit_length())
        given = {
            "channels": channels, "parts": parts, "share": share, "groups": groups, "B": at_once
        }  # fmt: skip
        start = Start(merge_partials, channels * groups, _ordered(merge_partials, 2, given))
        merges.append((start, _room(channels, groups)))
        parts = groups
    return tuple(merges)


def _room(channels: int, parts: int) -> tuple[int, ...]:
    """Return the shape of so many partial results of every channel."""
    return (1, 5, channels) if parts == 1 else (1, 5, channels, parts)


def _ordered(kernel: Any, tensors: int, given: dict[str, Any]) -> dict[str, Any]:
    """Return arguments in the order of the kernel's, behind its tensors."""
    return {name: given[name] for name in kernel.arg_names[tensors:]}
