"""Which Triton kernel measures what, and how it is started."""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from streamnorm.dtypes import Precision, Summed
from streamnorm.kernels.raw import MOST_VALUES, SUMS
from streamnorm.kernels.schemes import SHORT
from streamnorm.kernels.tiles import FEW, inverse_of, tiles_of
from streamnorm.kernels.triton_exact import MOST_VALUES as MOST_VALUES_EXACTLY
from streamnorm.kernels.triton_exact import sum_floats
from streamnorm.kernels.triton_floats import measure_floats, merge_partials
from streamnorm.kernels.triton_integers import sum_integers
from streamnorm.kernels.tuned import BYTES, SHAPES
from streamnorm.limbs import NARROW
from streamnorm.pending import current_stream

__all__ = ["Start", "launch"]

_FORMATS = {"float16": (10, -14, 5), "bfloat16": (7, -126, 5), "float32": (23, -126, 1)}
"""Bits of the fraction, the exponent of the smallest normal number, and how many powers of two a
program's largest value may lie above that of its first tile: the more, the sooner are small values
below the window. With 5, all of float16 lies in one."""
_VIEWED = {torch.bfloat16: torch.int16, torch.bool: torch.uint8}
_LONG = 2048
"""Partial results of a channel that one program merges; more are merged in two steps."""
_SHORT = 256
_MERGING = 512
"""Programs that merge at a time, if there are as many shares of `_SHORT`."""
_MERGED_AT_ONCE = 1024


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
    options: dict[str, int] = field(default_factory=lambda: {"num_warps": 4})
    compiled: dict[Any, Any] = field(default_factory=dict)

    def __call__(self, *tensors: Tensor) -> None:
        """Start it on the current stream of the current device."""
        key = tensors[0].device.index, *[tensor.data_ptr() % 16 for tensor in tensors]
        run = self.compiled.get(key)
        if run is not None:
            run(*tensors, *self.given.values(), stream=current_stream(key[0]))
            return
        made = self.kernel[(self.programs,)](
            *tensors, **self.given, **self.options, enable_fp_fusion=False
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

    def __call__(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """Start all kernels; gives what the last one will have written.

        Of `x` only the memory matters, whatever its shape.
        """
        if not x.is_cuda or x.device.index == torch.cuda.current_device():
            return self._start(x, valid)
        with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
            return self._start(x, valid)

    def _start(self, x: Tensor, valid: Tensor | None) -> Tensor:
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


class _Launch:
    most_values = MOST_VALUES

    @staticmethod
    @lru_cache(maxsize=4096)
    def plan(
        shape: tuple[int, int, int], precision: Precision, *, masked: bool, exact: bool, omit: bool
    ) -> _Plan | None:
        """Say how pieces of this shape are measured; None if that is not for these kernels."""
        if precision.summed is Summed.CENTRED or (exact and precision.name == "float64"):
            return None
        return _plan_for(shape, precision, masked, exact, omit)


launch = _Launch()


def _plan_for(
    shape: tuple[int, int, int], precision: Precision, masked: bool, exact: bool, omit: bool
) -> _Plan:
    channels = shape[1]
    if not precision.is_float and (exact or precision.bits.itemsize <= 2):
        least, most = precision.range
        further = {"LEAST": least, "MOST": most, "BITS": 8 * precision.bits.itemsize}
        start = _start(sum_integers, shape, precision, masked, BYTES, further)
        return _Plan(start, (1, len(SUMS), channels), floats=False)
    if exact:
        fraction, exponent, ahead = _FORMATS[precision.name]
        # The last bit of the smallest numbers is the last of the lowest window.
        least = exponent - fraction + SHORT.span + 126
        further = {"FRACTION": fraction, "LEAST": least, "AHEAD": ahead}
        start = _start(sum_floats, shape, precision, masked, MOST_VALUES_EXACTLY, further)
        return _Plan(start, (1, channels, NARROW.dtype.itemsize // 8), floats=False)
    further = {"OMIT": omit and precision.is_float}
    start = _start(measure_floats, shape, precision, masked, BYTES, further)
    parts = start.given["parts"]
    return _Plan(start, _room(channels, parts), floats=True, merges=_merges(channels, parts))


def _start(
    kernel: Any, shape: tuple[int, int, int], precision: Precision, masked: bool, most: int,
    further: dict[str, Any],
) -> Start:  # fmt: skip
    """Deal an array out to programs of at most so many values."""
    outer, channels, inner = shape
    itemsize = precision.bits.itemsize
    shapes = SHAPES[kernel.__name__][itemsize]
    tiles = tiles_of(outer, channels, inner, shapes, min(most, BYTES // itemsize))
    inverse, shift = inverse_of(tiles.per)
    given = tiles._asdict() | further | {
        "channels": channels, "inner": inner, "inverse": inverse, "shift": shift,
        "size": outer * channels * inner, "KIND": tiles.kind, "STORED": precision.name,
        "CHANNELS": channels if tiles.kind == FEW else 1, "MASKED": masked, "EVEN": tiles.even,
        "R": tiles.rows, "W": tiles.width,
    }  # fmt: skip
    programs = tiles.blocks * tiles.chunks
    return Start(kernel, programs, _ordered(kernel, 3, given), shapes[tiles.kind].options)


def _merges(channels: int, parts: int) -> tuple[tuple[Start, tuple[int, ...]], ...]:
    """Return how the partial results of every channel become one: at once, or in two steps."""
    merges = []
    while parts > 1:
        groups = 1
        if parts > _LONG:
            groups = min(-(-parts // _SHORT), max(-(-parts // _LONG), _MERGING // channels))
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
