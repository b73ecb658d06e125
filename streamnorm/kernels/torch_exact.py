"""Plain torch, for any device: one piece of floats -> exact sums, added to limbs as integers."""

import torch
from torch import Tensor

from streamnorm.dtypes import Precision
from streamnorm.kernels.raw import KEY, NO_KEY
from streamnorm.limbs import COUNTS, LIMB_BITS, NARROW, WIDE, Grid

__all__ = ["sum_floats"]

_REDUCED = (0, 2)
_LIMB = (1 << LIMB_BITS) - 1


def sum_floats(x: Tensor, valid: Tensor | None, precision: Precision) -> Tensor:
    """Sum a piece of floats, of shape (O, C, I).

    Returns
    -------
    tensor of int64, shape (1, C, words)
        Records as `kernels.raw` describes them.
    """
    grid = WIDE if precision.name == "float64" else NARROW
    keep = torch.ones_like(x, dtype=torch.bool) if valid is None else valid
    values = x if precision.name == "float64" else x.to(torch.float32)
    finite = keep & values.isfinite()
    out = torch.zeros((x.shape[1], grid.dtype.itemsize // 8), dtype=torch.int64, device=x.device)
    counted = (
        ("count", keep),
        ("nan", keep & values.isnan()),
        ("positive_infinity", keep & (values == torch.inf)),
        ("negative_infinity", keep & (values == -torch.inf)),
    )
    for name, which in counted:
        out[:, COUNTS.index(name)] = which.sum(_REDUCED)
    for at, name in enumerate(("minimum", "maximum"), len(COUNTS)):
        out[:, at] = _largest_key(values, finite, negated=name == "minimum")
    _add_to_limbs(values, finite, grid, out)
    return out[None]


def _largest_key(values: Tensor, finite: Tensor, *, negated: bool) -> Tensor:
    kind, sign = (torch.int64, 63) if values.dtype == torch.float64 else (torch.int32, 31)
    bits = values.view(kind) ^ (-(1 << sign) if negated else 0)
    order = (bits ^ (bits >> sign & ((1 << sign) - 1))).to(torch.int64)
    if kind == torch.int64:
        return torch.where(finite, order, NO_KEY).amax(_REDUCED)
    return torch.where(finite, order + KEY, 0).amax(_REDUCED)


def _add_to_limbs(values: Tensor, finite: Tensor, grid: Grid, out: Tensor) -> None:
    """Add finite values and their squares to the limbs of records."""
    wide = grid is WIDE
    fraction, bias = (52, 1023) if wide else (23, 127)
    bits = values.view(torch.int64) if wide else values.view(torch.int32).to(torch.int64)
    exponent = bits >> fraction & 2 * bias + 1
    digits = bits & (1 << fraction) - 1 | torch.where(exponent > 0, 1 << fraction, 0)
    digits = torch.where(finite, digits, 0)
    # A value is `digits` times 2**place, counted from the grid's last bit.
    place = exponent.clamp(min=1) - (bias + fraction + grid.exponent)
    place = torch.where(finite, place, 0)
    sign = torch.where(bits < 0, -1, 1)
    first = len(grid.dtype.names or ()) - 2
    channel = torch.arange(values.shape[1], device=values.device)[None, :, None]
    row = channel * out.shape[1] + first
    _add(out, row, digits, place, sign)
    row = row + grid.limbs
    # Products of halves of 27 bits have at most 54.
    h, l = digits >> 27, digits & (1 << 27) - 1  # noqa: E741 - high and low
    for number, up in ((l * l, 0), (h * l, 28), (h * h, 54)) if wide else ((l * l, 0),):
        _add(out, row, number, 2 * place + up, 1)


def _add(out: Tensor, row: Tensor, number: Tensor, place: Tensor, sign: Tensor | int) -> None:
    """Add ``sign * number * 2**place`` to limbs; a number has at most 54 bits."""
    limb, shift = place >> 5, place & 31
    low = (number & _LIMB) << shift
    high = ((number >> LIMB_BITS) << shift) + (low >> LIMB_BITS)
    flat = out.view(-1)
    for k, part in enumerate((low & _LIMB, high & _LIMB, high >> LIMB_BITS)):
        index = (row + limb + k).reshape(-1)
        flat.index_add_(0, index, (sign * part).reshape(-1))
