"""The book of running moments, on the host or on a device, and what writes into it."""

import threading
from abc import ABC, abstractmethod
from functools import cache, reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor

from streamnorm import running
from streamnorm.layout import ChannelAxis
from streamnorm.measure import NanPolicy, measure_partial
from streamnorm.partial import Partial, empty, mean_formula, pair_formula
from streamnorm.pending import Pending, rows_of
from streamnorm.threads import resolve

__all__ = ["Book"]

_SMALL_INTEGERS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.uint16)


class Book(ABC):
    """Fields of `streamnorm.running`, and what writes into them."""

    def __init__(self, channels: int, fields: Any) -> None:
        self.channels = channels
        self.fields = fields
        self._made: tuple[Tensor, ...] | None = None
        self._threads = resolve(None)
        self._turn = threading.Lock()

    @staticmethod
    def start(channels: int, min_count: float, until: float) -> "Book":
        """Open a book of nothing, on the host."""
        return _HostBook(channels, running.start(channels, min_count, until))

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_turn", "_threads")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._threads = resolve(None)
        self._turn = threading.Lock()

    def on(self, device: torch.device) -> "Book":
        """Return the book where a module goes; on the host if that has no float64."""
        if device.type == "meta":
            return self
        before = self._tensor()
        tensor = before.to("cpu" if device.type == "mps" else device)
        if tensor is before:
            return self
        if tensor.device.type == "cpu":
            return _HostBook(self.channels, tensor.numpy())
        return _DeviceBook(self.channels, tensor)

    def observe(
        self,
        x: Tensor,
        channel_axis: ChannelAxis,
        nan_policy: NanPolicy,
        half_life: float | None,
        published: Tensor,
    ) -> None:
        """Measure a batch, merge it, and copy the total to a tensor, (6, C).

        Raises
        ------
        ValueError
            If it has another number of channels, or holds a NaN under ``nan_policy="raise"``.
        """
        done = measure_partial(x, channel_axis, nan_policy, None, self._threads, exact=False)
        if done.rows.size != self.channels:
            msg = (
                f"expected {self.channels} channels on axis {channel_axis} but the batch of shape "
                f"{tuple(x.shape)} has {done.rows.size} there; pass another channel_axis (-1 "
                f"serves any number of axes before the channels)"
            )
            raise ValueError(msg)
        if done.some:
            with self._turn:
                self._enter(done.rows, x, half_life, published)

    @abstractmethod
    def _enter(self, rows: Any, x: Tensor, half_life: float | None, published: Tensor) -> None:
        """Merge a partial result, of `x`, and publish the total."""

    @abstractmethod
    def _advance(self) -> None:
        """Merge the batch that has been written into the fields."""

    @abstractmethod
    def _tensor(self) -> Tensor:
        """Return the fields as a tensor that shares their memory."""

    def constants(self, work: torch.dtype) -> tuple[Tensor, ...]:
        """Return what to normalize with after the last batch: the mean in two pieces, and the std.

        Tensors of shape (C,).
        """
        if self._made is not None and work == torch.float32:
            return self._made
        center, variance = self._tensor()[running.CENTER :, : self.channels]
        # New memory each time: a backward pass may need it after the next batch.
        head = center.to(work, copy=True)
        return head, (center - head).to(work), variance.sqrt().to(work)

    def publish(self, statistics: Tensor) -> None:
        """Copy the total to a tensor, (6, C)."""
        statistics.copy_(self.statistics())

    def statistics(self) -> Tensor:
        """Return the total as a tensor of float64, (6, C), which later batches change."""
        return self._tensor()[running.TOTAL, : self.channels]

    def adopt(self, statistics: Tensor) -> None:
        """Start from statistics, all of which are known elsewhere too."""
        tensor = self._tensor()
        tensor[running.TOTAL, : self.channels] = statistics.to(tensor.device)
        nothing = torch.from_numpy(running.start(self.channels, 0, 0)).to(tensor.device)
        for place in (running.NEW, running.BATCH, slice(running.DECAY, running.DECAY + 1)):
            tensor[place] = nothing[place]
        # With a batch of nothing: what to normalize with is that of these statistics.
        self._advance()

    def new(self) -> Partial:
        """Return what came since the last `adopt`, on the host."""
        fields = self._tensor()[running.NEW, : self.channels]
        return running.rows_of_fields(fields.cpu().numpy())


class _HostBook(Book):
    """A NumPy array: a compiled step takes a tenth of the time that torch's operations take."""

    def _enter(
        self,
        rows: Any,
        x: Tensor,  # noqa: ARG002 - rows that have come to the host say what was omitted
        half_life: float | None,
        published: Tensor,
    ) -> None:
        rows = rows_of(rows)
        if half_life is not None:
            self.fields[running.DECAY, : self.channels] = np.exp2(rows["count"] / -half_life)
        if published.is_cpu and published.dtype is torch.float64:
            self._step(rows, published.numpy())
        else:
            self._step(rows, np.empty(published.shape))
            self.publish(published)

    def _step(self, rows: Partial, statistics: Any) -> None:
        # New memory each time: a backward pass may need it after the next batch.
        made = np.empty((3, self.channels), np.float32)
        _compiled()(rows, self.fields, statistics, made)
        head, rest, std = made
        self._made = torch.from_numpy(head), torch.from_numpy(rest), torch.from_numpy(std)

    def _advance(self) -> None:
        statistics = np.empty_like(self.fields[running.TOTAL, : self.channels])
        self._step(empty(self.channels), statistics)

    def _tensor(self) -> Tensor:
        return torch.from_numpy(self.fields)


class _DeviceBook(Book):
    """A tensor: a batch is measured and merged where it lies, and nothing waits for the device."""

    def observe(self, x: Tensor, *options: Any) -> None:
        # Sums of integers would have to come to the host to be read.
        super().observe(x.to(torch.float32) if x.dtype in _SMALL_INTEGERS else x, *options)

    def _enter(self, rows: Any, x: Tensor, half_life: float | None, published: Tensor) -> None:
        here, each = self.fields.device, x.numel() // self.channels
        one = isinstance(rows, Pending) and len(rows.raw) == 1 and rows.raw.device == here
        step = _step_on(here.type) if one and half_life is None else None
        if step is not None and published.dtype == torch.float64:
            self._made = step(self.fields, rows.raw[0], each, published).unbind()
            return
        batch = self._batch(rows, each)
        self.fields[running.BATCH, : self.channels] = batch
        if half_life is not None:
            self.fields[running.DECAY, : self.channels] = torch.exp2(batch[0] / -half_life)
        self._advance()
        self.publish(published)

    def _batch(self, rows: Any, each: int) -> Tensor:
        """Return a batch as fields, (6, C), where the book is; its pieces merged."""
        if not isinstance(rows, Pending):
            return torch.from_numpy(running.to_fields(rows)).to(self.fields.device)
        pieces = [_with_omitted(piece.to(self.fields.device)) for piece in rows.raw]
        merged = reduce(lambda a, b: torch.stack(_pair(*a, *b)), pieces)
        merged[-1] = each - merged[0]
        return merged

    def _advance(self) -> None:
        self._made = None
        changed, _ = running.advance(torch.where, self.fields.__getitem__)
        for field, values in changed.items():
            self.fields[field] = values

    def _tensor(self) -> Tensor:
        fields: Tensor = self.fields
        return fields


_pair = pair_formula(torch.where, mean_formula(torch.where))


def _with_omitted(piece: Tensor) -> Tensor:
    """Return count, mean, m2 and extremes with a field more."""
    return torch.cat([piece, torch.zeros_like(piece[:1])])


def _step_on(kind: str) -> Any:
    """Return what does a step in one kernel on a kind of device, or None."""
    from streamnorm.kernels.device import triton_kernels

    if kind != "cuda" or triton_kernels() is None or torch.version.hip is not None:
        return None
    return _triton_step()


@cache
def _triton_step() -> Any:
    from streamnorm.kernels.triton_running import step

    return step


@cache
def _compiled() -> Any:
    from streamnorm.kernels.compiled import step

    return step
