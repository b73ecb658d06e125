"""Which Triton kernel measures what, and how it is started."""

from typing import Any

import torch
from torch import Tensor

from streamnorm.dtypes import Precision, Summed
from streamnorm.kernels.raw import SUMS
from streamnorm.kernels.schemes import SHORT
from streamnorm.kernels.tiles import FEW, Tiles, tiles_of
from streamnorm.kernels.triton_exact import sum_floats
from streamnorm.kernels.triton_floats import measure_floats, merge_partials
from streamnorm.kernels.triton_integers import sum_integers
from streamnorm.limbs import NARROW

__all__ = ["launch"]

_MERGED_AT_ONCE = 1024
_FORMATS = {"float16": (10, -14), "bfloat16": (7, -126), "float32": (23, -126)}
"""Bits of the fraction, and the exponent of the smallest normal number."""

_VIEWED = {torch.bfloat16: torch.int16, torch.bool: torch.uint8}

_FLOATS = {"num_warps": 8, "maxnreg": 96}
"""Sums in float64 take many registers; with fewer of them more programs run side by side, and what
does not fit is needed at the end of a program only."""


class _Launch:
    most_values = 1 << 30

    def __call__(
        self, x: Tensor, valid: Tensor | None, precision: Precision, *, exact: bool, omit: bool
    ) -> Tensor | None:
        if precision.summed is Summed.CENTRED or (exact and precision.name == "float64"):
            return None
        outer, channels, inner = x.shape
        tiles = tiles_of(outer, channels, inner, x.element_size())
        with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
            if not precision.is_float and (exact or precision.bits.itemsize <= 2):
                return _integers(x, valid, precision, tiles)
            if exact:
                return _exact(x, valid, precision, tiles)
            return _floats(x, valid, precision, tiles, omit=omit)


launch = _Launch()


def _floats(
    x: Tensor, valid: Tensor | None, precision: Precision, tiles: Tiles, *, omit: bool
) -> Tensor:
    channels = x.shape[1]
    parts = torch.empty((1, 5, channels, tiles.parts), dtype=torch.float64, device=x.device)
    omit = omit and precision.is_float
    _start(measure_floats, x, valid, precision, tiles, parts, OMIT=omit, **_FLOATS)
    if tiles.parts == 1:
        return parts[..., 0]
    out = torch.empty((1, 5, channels), dtype=torch.float64, device=x.device)
    at_once = min(_MERGED_AT_ONCE, 1 << (tiles.parts - 1).bit_length())
    merge_partials[(channels,)](
        parts, out, channels, tiles.parts, B=at_once, num_warps=4, enable_fp_fusion=False
    )
    return out


def _integers(x: Tensor, valid: Tensor | None, precision: Precision, tiles: Tiles) -> Tensor:
    out = torch.zeros((1, len(SUMS), x.shape[1]), dtype=torch.int64, device=x.device)
    least, most = precision.range
    numbers = {"LEAST": least, "MOST": most, "BITS": 8 * x.element_size()}
    _start(sum_integers, x, valid, precision, tiles, out, **numbers, num_warps=4)
    return out


def _exact(x: Tensor, valid: Tensor | None, precision: Precision, tiles: Tiles) -> Tensor:
    words = NARROW.dtype.itemsize // 8
    out = torch.zeros((1, x.shape[1], words), dtype=torch.int64, device=x.device)
    fraction, exponent = _FORMATS[precision.name]
    # The last bit of the smallest numbers is the last of the lowest window.
    least = exponent - fraction + SHORT.span + 126
    numbers = {"FRACTION": fraction, "LEAST": least}
    _start(sum_floats, x, valid, precision, tiles, out, **numbers, **_FLOATS)
    return out


def _start(
    kernel: Any, x: Tensor, valid: Tensor | None, precision: Precision, tiles: Tiles, out: Tensor,
    **further: Any,
) -> None:  # fmt: skip
    channels, inner = x.shape[1:]
    stored = x.view(_VIEWED.get(x.dtype, x.dtype))
    kernel[(tiles.blocks * tiles.chunks,)](
        stored, stored if valid is None else valid.view(torch.uint8), out,
        channels, inner, tiles.blocks, tiles.per, tiles.used, tiles.total, tiles.each, x.numel(),
        tiles.parts,
        KIND=tiles.kind,
        CHANNELS=channels if tiles.kind == FEW else 1,
        STORED=precision.name,
        MASKED=valid is not None,
        EVEN=tiles.even,
        R=tiles.rows,
        W=tiles.width,
        enable_fp_fusion=False,
        **further,
    )  # fmt: skip
