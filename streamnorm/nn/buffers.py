"""Buffers that keep their 64 bits whatever the network around them is cast to."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from streamnorm.layout import ChannelAxis

__all__ = ["KeepsFloat64"]

Make = Callable[[tuple[int, ...], torch.dtype, torch.device], tuple[Tensor, ...]]


class KeepsFloat64(nn.Module):
    """A module whose buffers of its own follow it to devices, but not to dtypes.

    To a device that has no float64 they do not follow it either. What casts them behind its back
    (mixed precision of FSDP) gets what it asks for; the module goes on with a copy.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[str, Tensor] = {}
        self._made: dict[Any, tuple[Tensor, ...]] = {}
        self._made_of: tuple[Any, ...] = ()

    def keep(self, name: str, values: Tensor) -> None:
        """Register float64 values as a buffer that stays so."""
        self.register_buffer(name, values)
        self._kept[name] = values.clone()

    def kept(self, name: str) -> Tensor:
        """Return a buffer in float64."""
        buffer = self._buffer(name)
        return buffer if buffer.dtype == torch.float64 else self._kept[name].to(buffer.device)

    def _buffer(self, name: str) -> Tensor:
        # Ten times as quick as an attribute of a module.
        buffer = self._buffers[name]
        assert buffer is not None  # noqa: S101 - as `keep` registered it
        return buffer

    def made(
        self, x: Tensor, channel_axis: ChannelAxis, work: torch.dtype, make: Make
    ) -> tuple[Tensor, ...]:
        """Return what ``make(shape, work, device)`` makes of the buffers, for `x`.

        Remembered while those are unchanged, as to make it takes longer than to use it; but not
        where a graph is made, which remembers by itself.
        """
        shape, buffers = tuple(x.shape), [self._buffer(name) for name in self._kept]
        known = isinstance(channel_axis, int) and -len(shape) <= channel_axis < len(shape)
        plain = type(x) is Tensor and not torch.compiler.is_compiling()
        if not (known and plain) or any(map(torch.is_inference, buffers)):
            return make(shape, work, x.device)
        made_of = tuple(map(_state_of, buffers))
        if self._made_of != made_of:
            self._made, self._made_of = {}, made_of
        key = shape[channel_axis], len(shape), work, x.device  # type: ignore[index]
        if key not in self._made:
            # Not as inference tensors: training may go on with them.
            with torch.inference_mode(mode=False):
                self._made[key] = make(shape, work, x.device)
        return self._made[key]

    def __getstate__(self) -> dict[str, Any]:
        # Identities mean nothing in a copy.
        return self.__dict__ | {"_made": {}, "_made_of": ()}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        held = {name: self._buffers.pop(name) for name in self._kept}
        try:
            super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        finally:
            self._buffers.update(held)
        for name in held:
            setattr(self, name, _moved(self._buffer(name), fn))
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in self._kept:
            given = state_dict.get(prefix + name)
            if isinstance(given, Tensor) and given.dtype != torch.float64:
                # Under assign=True it would take the place of ours as it is.
                state_dict[prefix + name] = given.to(torch.float64)
        super()._load_from_state_dict(state_dict, prefix, *rest)
        for name in self._kept:
            buffer = self._buffer(name)
            if prefix + name in state_dict and not buffer.is_meta:
                self._kept[name] = buffer.detach().to("cpu", torch.float64, copy=True)


def _state_of(buffer: Tensor) -> tuple[Any, ...]:
    """Return what changes with a buffer: its content, or, on a device, what tells of changes."""
    if buffer.device.type == "cpu" and type(buffer) is Tensor:
        return buffer.dtype, buffer.view(torch.uint8).numpy().tobytes()
    return id(buffer), buffer._version, buffer.dtype, buffer.device  # noqa: SLF001


def _moved(buffer: Tensor, fn: Callable[[Tensor], Tensor]) -> Tensor:
    """Do to a float64 buffer what `fn` does, but for a change of its dtype."""
    try:
        after = fn(buffer)
    except TypeError:
        # A device without float64.
        return buffer
    if after.dtype == buffer.dtype:
        return after
    return buffer.to(after.device)
