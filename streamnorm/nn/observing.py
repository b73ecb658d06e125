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
from streamnorm.partial import Partial, mean_formula, pair_formula
from streamnorm.pending import Pending, rows_of
from streamnorm.threads import resolve

__all__ = ["Book"]

_SMALL_INTEGERS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.uint16)


class Book(ABC):
    """Fields of `streamnorm.running`, and what writes into them."""

    def __init__(self, channels: int, fields: Any) -> None:
        self.channels = channels
        self.fields = fields
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
        x = self._measurable(x)
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
                self._enter(done.rows, x.numel() // self.channels, half_life, published)

    def _measurable(self, x: Tensor) -> Tensor:
        return x

    @abstractmethod
    def _enter(self, rows: Any, each: int, half_life: float | None, published: Tensor) -> None:
        """Merge a partial result of `each` values a channel, and publish the total."""

    @abstractmethod
    def _advance(self) -> None:
        """Merge the batch that has been written into the fields."""

    @abstractmethod
    def _tensor(self) -> Tensor:
        """Return the fields as a tensor that shares their memory."""

    @abstractmethod
    def constants(self, work: torch.dtype) -> tuple[Tensor, ...]:
        """Return what to normalize with after the last batch: the mean in two pieces, and the std.

        Tensors of shape (C,).
        """

    def _constants(self, work: torch.dtype) -> tuple[Tensor, ...]:
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
        each: int,  # noqa: ARG002 - rows that have come to the host say what was omitted
        half_life: float | None,
        published: Tensor,
    ) -> None:
        rows = rows_of(rows)
        batch = self.fields[running.BATCH, : self.channels]
        batch[:] = rows.view(np.float64).reshape(-1, len(batch)).T
        batch[0], batch[-1] = rows["count"], rows["omitted"]
        if half_life is not None:
            self.fields[running.DECAY, : self.channels] = np.exp2(rows["count"] / -half_life)
        self._advance()
        self.publish(published)

    def _advance(self) -> None:
        _compiled()(self.fields)

    def _tensor(self) -> Tensor:
        return torch.from_numpy(self.fields)

    def publish(self, statistics: Tensor) -> None:
        if statistics.dtype == torch.float64 and statistics.device.type == "cpu":
            statistics.numpy()[:] = self.fields[running.TOTAL, : self.channels]
        else:
            super().publish(statistics)

    def constants(self, work: torch.dtype) -> tuple[Tensor, ...]:
        if work != torch.float32:
            return self._constants(work)
        center, variance = self.fields[running.CENTER :, : self.channels]
        head = center.astype(np.float32)
        rest = (center - head).astype(np.float32)
        return tuple(map(torch.from_numpy, (head, rest, np.sqrt(variance).astype(np.float32))))


class _DeviceBook(Book):
    """A tensor: a batch is measured and merged where it lies, and nothing waits for the device."""

    def __init__(self, channels: int, fields: Tensor) -> None:
        super().__init__(channels, fields)
        self._made: Tensor | None = None

    def _measurable(self, x: Tensor) -> Tensor:
        # Sums of integers would have to come to the host to be read.
        return x.to(torch.float32) if x.dtype in _SMALL_INTEGERS else x

    def _enter(self, rows: Any, each: int, half_life: float | None, published: Tensor) -> None:
        here = self.fields.device
        one = isinstance(rows, Pending) and len(rows.raw) == 1 and rows.raw.device == here
        step = _step_on(here.type) if one and half_life is None else None
        if step is not None and published.dtype == torch.float64:
            self._made = step(self.fields, rows.raw[0], each, published)
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

    def constants(self, work: torch.dtype) -> tuple[Tensor, ...]:
        if self._made is not None and work == torch.float32:
            return self._made.unbind()
        return self._constants(work)


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
    from streamnorm.kernels.compiled import advance

    return advance
