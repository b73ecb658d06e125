"""For the GPU: a step of running moments in one kernel, written out of the one formula.

`running.advance` is a plain function of numbers that are added, compared and chosen between. Here
the numbers write down what is done with them, as the source of a Triton kernel: nothing is fused,
so the bits are those of NumPy.
"""

import linecache
import math
from functools import cache, lru_cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from streamnorm import running
from streamnorm.kernels.operators import Operators
from streamnorm.kernels.triton_launch import Start

__all__ = ["step"]

_WIDTH = 128


class _Symbol(Operators):
    """A number of the kernel being written; every operation writes a line."""

    def __init__(self, lines: list[str], text: str) -> None:
        self.lines = lines
        self.name = f"t{len(lines)}"
        lines.append(f"{self.name} = {text}")

    def apply(self, sign: str, other: Any) -> "_Symbol":
        """Write one line."""
        return _Symbol(self.lines, f"{self.name} {sign} {_text(other)}")


def _text(value: Any) -> str:
    if isinstance(value, _Symbol):
        return value.name
    return repr(float(value)) if math.isfinite(value) else f'float("{float(value)}")'


def _source() -> str:
    """Write the kernel: a batch beside a book, which is advanced; and what follows from it."""
    lines: list[str] = []

    def place(field: int) -> str:
        return f"book + {field} * width + lane"

    def load(field: int) -> _Symbol:
        if field == running.BATCH.stop - 1:
            return _Symbol(lines, "each - tl.load(batch + lane, mask=room, other=0.0)")
        if field >= running.BATCH.start and field < running.BATCH.stop:
            at = f"batch + {field - running.BATCH.start} * channels + lane"
            return _Symbol(lines, f"tl.load({at}, mask=room, other=0.0)")
        return _Symbol(lines, f"tl.load({place(field)}, mask=room, other=0.0)")

    def select(condition: _Symbol, if_true: Any, if_false: Any) -> _Symbol:
        chosen = ", ".join(map(_text, (condition, if_true, if_false)))
        return _Symbol(lines, f"tl.where({chosen})")

    changed, _ = running.advance(select, load)
    for field, value in changed.items():
        lines.append(f"tl.store({place(field)}, {_text(value)}, mask=room)")
        if field < running.TOTAL.stop:
            to = f"statistics + {field} * channels + lane"
            lines.append(f"tl.store({to}, {_text(value)}, mask=room)")
    center, variance = (changed[k].name for k in (running.CENTER, running.VARIANCE))
    lines += [
        f"head = {center}.to(tl.float32)",
        "tl.store(made + lane, head, mask=room)",
        f"rest = ({center} - head.to(tl.float64)).to(tl.float32)",
        "tl.store(made + channels + lane, rest, mask=room)",
        f"tl.store(made + 2 * channels + lane, tl.sqrt({variance}).to(tl.float32), mask=room)",
    ]
    head = (
        "def advance_book(book, batch, statistics, made, width, channels, each, W: tl.constexpr):",
        "    lane = tl.program_id(0) * W + tl.arange(0, W)",
        "    room = lane < channels",
    )
    return "\n".join([*head, *(f"    {line}" for line in lines)]) + "\n"


@cache
def _kernel() -> Any:
    """Compile the source; Triton looks for it where Python looks for lines of code."""
    name, source = "<streamnorm.running.advance>", _source()
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    namespace: dict[str, Any] = {"tl": tl, "__name__": __name__}
    exec(compile(source, name, "exec"), namespace)  # noqa: S102 - written right here
    return triton.jit(namespace["advance_book"])


@lru_cache(maxsize=256)
def _start(width: int, channels: int, each: int) -> Start:
    given = {"width": width, "channels": channels, "each": each, "W": _WIDTH}
    return Start(_kernel(), -(-channels // _WIDTH), given)


def step(book: Tensor, batch: Tensor, each: int, statistics: Tensor) -> Tensor:
    """Advance a book by a batch of `each` values a channel, (5, C), and publish the total.

    Returns
    -------
    tensor of float32, shape (3, C)
        What to normalize with: the mean, what is left of it, and the std.
    """
    channels = batch.shape[1]
    made = torch.empty((3, channels), dtype=torch.float32, device=book.device)
    start = _start(book.shape[1], channels, each)
    if not book.is_cuda or book.device.index == torch.cuda.current_device():
        start(book, batch, statistics, made)
    else:
        with torch.cuda.device_of(book):  # type: ignore[no-untyped-call]
            start(book, batch, statistics, made)
    return made
