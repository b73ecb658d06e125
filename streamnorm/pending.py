"""Partial results that still lie on a device: they are fetched many at a time, in their order."""

import sys
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from streamnorm.arrays import Array

__all__ = ["Pending", "current_stream", "fetch", "rows_of"]


class Pending(NamedTuple):
    """What a kernel on a device will have written.

    Attributes
    ----------
    raw : torch.Tensor
        Of 8-byte numbers, on the device.
    size : int
        Number of channels.
    decode : callable
        Makes rows of shape (C,) from the numbers as a NumPy array.
    stream : int or None
        The handle of that on which the kernel was started, where the device has streams.
    """

    raw: Any
    size: int
    decode: Callable[[Array], Array]
    stream: int | None = None

    @property
    def nbytes(self) -> int:
        """Bytes on the device."""
        return int(self.raw.numel()) * 8


def current_stream(index: int) -> int:
    """Return the handle of the current stream of a CUDA device.

    Of torch's streams, which are made once and stay; to ask for the object takes ten times as long.
    """
    handle: int = sys.modules["torch"]._C._cuda_getCurrentRawStream(index)  # noqa: SLF001
    return handle


def rows_of(part: Array | Pending) -> Array:
    """Return rows; waits for the device where they are pending."""
    return fetch([part])[0] if isinstance(part, Pending) else part


def fetch(parts: Sequence[Pending]) -> list[Array]:
    """Return the rows of all parts; waits once for each device that follows another."""
    rows = []
    for _, group in groupby(parts, key=lambda part: (part.raw.device, part.raw.dtype)):
        rows += _fetched(list(group))
    return rows


def _fetched(parts: list[Pending]) -> list[Array]:
    torch = sys.modules["torch"]
    device = parts[0].raw.device
    if device.type == "cuda":
        here = torch.cuda.current_stream(device)
        for handle in {part.stream for part in parts} - {here.cuda_stream}:
            here.wait_stream(torch.cuda.ExternalStream(handle, device=device))
    flat = [part.raw.reshape(-1) for part in parts]
    numbers = (flat[0] if len(flat) == 1 else torch.cat(flat)).cpu().numpy()
    rows, start = [], 0
    for part in parts:
        stop = start + part.raw.numel()
        rows.append(part.decode(numbers[start:stop].reshape(part.raw.shape)))
        start = stop
    return rows
