"""Plain torch, for any device: one piece of a tensor -> mean and m2, or sums of integers."""

from typing import Any

import torch
from torch import Tensor

from streamnorm.dtypes import Precision, Summed

__all__ = ["measure_moments", "sum_integers"]

_REDUCED = (0, 2)
_SIGN = -(1 << 63)
_HALF = (1 << 32) - 1
_LARGE, _DOWN, _UP = 2.0**500, 2.0**-600, 2.0**600


def measure_moments(x: Tensor, valid: Tensor | None, precision: Precision, *, omit: bool) -> Tensor:
    """Measure a piece of shape (O, C, I), corrected two-pass (Chan, Golub & LeVeque 1983, eq. 1.7).

    Returns
    -------
    tensor of float64, shape (1, 5, C)
        Count, mean, m2, minimum, maximum, as `kernels.reference` says.
    """
    keep = _kept(x, valid, omit=omit)
    if precision.summed is not Summed.CENTRED:
        return _packed(*_moments(x.to(torch.float64), keep))
    signed = precision.name == "int64"
    center, deviations = _centred(x, keep, signed=signed)
    count, mean, m2, *_ = _moments(deviations, keep)
    low, high = (_as_float(end, signed=signed) for end in _ends(x, keep, signed=signed))
    return _packed(count, torch.minimum(torch.maximum(mean + center, low), high), m2, low, high)


def _moments(values: Tensor, keep: Tensor) -> tuple[Tensor, ...]:
    """Return count, mean, m2 and extremes of float64 values."""
    count = keep.sum(_REDUCED)
    low = torch.where(keep, values, torch.inf).amin(_REDUCED)
    high = torch.where(keep, values, -torch.inf).amax(_REDUCED)
    # A power of two changes no digit and keeps sums and squares in range.
    finite = keep & values.isfinite()
    largest = torch.where(finite, values, 0.0).abs().amax(_REDUCED)
    unit = torch.ones_like(largest)
    down, up = (torch.where(largest > _LARGE, power, unit) for power in (_DOWN, _UP))
    n = count.clamp(min=1).to(torch.float64)
    scaled = values * down[:, None]
    first = torch.where(finite, scaled, 0.0).sum(_REDUCED) / finite.sum(_REDUCED).clamp(min=1)
    deviations = torch.where(keep, scaled - first[:, None], 0.0)
    rest = deviations.sum(_REDUCED)
    mean = first + rest / n
    m2 = deviations.square().sum(_REDUCED) - rest * (rest / n)
    known = mean.isfinite()
    mean = torch.where(known, torch.minimum(torch.maximum(mean * up, low), high), mean)
    m2 = torch.where(low == high, 0.0, torch.where(m2 < 0, 0.0, m2) * up * up)
    return count, mean, torch.where(known, m2, torch.nan), low, high


def _packed(count: Tensor, mean: Tensor, m2: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Put fields together; zeros are positive, and an empty channel has its one form."""
    some = count > 0
    mean, low, high = (torch.where(some, v + 0.0, torch.nan) for v in (mean, low, high))
    fields = [count.to(torch.float64), mean, torch.where(some, m2, 0.0), low, high]
    return torch.stack(fields)[None]


def _kept(x: Tensor, valid: Tensor | None, *, omit: bool) -> Tensor:
    keep = torch.ones_like(x, dtype=torch.bool) if valid is None else valid
    return keep & (x == x) if omit and x.is_floating_point() else keep


def _centred(x: Tensor, keep: Tensor, *, signed: bool) -> tuple[Tensor, Tensor]:
    """Subtract each channel's first valid 64-bit integer in integers.

    Returns
    -------
    center : tensor of float64, shape (C,)
    deviations : tensor of float64, shape (O, C, I)
        Each rounded once.
    """
    ordered = _ordered(x, signed=signed)
    by_channel = ordered.transpose(0, 1).reshape(x.shape[1], -1)
    at = keep.transpose(0, 1).reshape(x.shape[1], -1).to(torch.int8).argmax(1, keepdim=True)
    first = by_channel.gather(1, at).reshape(1, -1, 1)
    gap = ordered - first
    deviations = torch.where(ordered >= first, _unsigned(gap), -_unsigned(-gap))
    return _as_float(first.reshape(-1), signed=signed), deviations


def _ordered(x: Tensor, *, signed: bool) -> Tensor:
    """Return 64-bit integers as signed ones of the same order."""
    return x if signed else x.view(torch.int64) ^ _SIGN


def _as_float(ordered: Tensor, *, signed: bool) -> Tensor:
    """Return the nearest float64 of what `_ordered` gave."""
    return ordered.to(torch.float64) if signed else _unsigned(ordered ^ _SIGN)


def _ends(x: Tensor, keep: Tensor, *, signed: bool) -> tuple[Tensor, Tensor]:
    """Return the extremes of 64-bit integers, in the form of `_ordered`."""
    ordered, top = _ordered(x, signed=signed), torch.iinfo(torch.int64)
    low = torch.where(keep, ordered, top.max).amin(_REDUCED)
    return low, torch.where(keep, ordered, top.min).amax(_REDUCED)


def _unsigned(bits: Tensor) -> Tensor:
    """Return 64 bits, taken as an unsigned number, as float64, rounded once."""
    high = (bits >> 32 & _HALF).to(torch.float64)
    return high * 2.0**32 + (bits & _HALF).to(torch.float64)


def sum_integers(x: Tensor, valid: Tensor | None, precision: Precision) -> Tensor:
    """Sum a piece of integers, of shape (O, C, I).

    Returns
    -------
    tensor of int64, shape (1, 6 or 11, C)
        See `kernels.raw.SUMS` and `WIDE_SUMS`.
    """
    keep = _kept(x, valid, omit=False)
    if precision.summed is Summed.CENTRED:
        return _sum_wide(x, keep, signed=precision.name == "int64")
    values = torch.where(keep, x.to(torch.int64), 0)
    least, most = precision.range
    low = torch.where(keep, most + 1 - values, 0).amax(_REDUCED)
    high = torch.where(keep, values - least + 1, 0).amax(_REDUCED)
    squares = values * values
    parts = [squares] if precision.summed is Summed.INTEGERS else list(_halves(squares))
    sums = [part.sum(_REDUCED) for part in (keep.to(torch.int64), values, *parts)]
    sums += [torch.zeros_like(low)] * (4 - len(sums))
    return torch.stack([sums[0], low, high, *sums[1:]])[None]


def _halves(bits: Tensor) -> tuple[Tensor, Tensor]:
    return bits & _HALF, bits >> 32 & _HALF


def _sum_wide(x: Tensor, keep: Tensor, *, signed: bool) -> Tensor:
    r"""Sum 64-bit integers by the halves of :math:`|x| = 2^{32} h + l`."""
    bits = x if signed else x.view(torch.int64)
    below = (bits < 0) & signed
    size = torch.where(keep, torch.where(below, -bits, bits), 0)
    halves: list[Any] = list(_halves(size))
    sign = torch.where(below, -1, 1)
    l, h = halves  # noqa: E741 - as in the formula
    parts = [keep.to(torch.int64), l * sign, *_halves(l * l), h * sign, *_halves(h * l)]
    sums = [part.sum(_REDUCED) for part in (*parts, *_halves(h * h))]
    return torch.stack([sums[0], *_ends(x, keep, signed=signed), *sums[1:]])[None]
