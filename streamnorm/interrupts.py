"""Ctrl-C, held back where it would leave a lock locked for ever."""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Self

__all__ = ["Interrupts"]


class Interrupts:
    """Holds back Ctrl-C inside of its ``with`` blocks, of which there may be many.

    `KeyboardInterrupt` strikes between any two bytecodes, and `threading` and `concurrent.futures`
    hold locks in Python: struck there they never let go, and whoever comes next waits for ever
    (the library reference of Python, *signal*, "Note on signal handlers and exceptions").

    The first one is raised where its block is left, the second one at once: whoever insists does
    not wait. Outside of the main thread, and where the program has a handler of its own, nothing is
    held back.

    Attributes
    ----------
    came : bool
        Whether there was one.
    """

    def __init__(self) -> None:
        self.came = False
        self._raised = False
        self._holds = False

    def __enter__(self) -> Self:
        here = threading.current_thread() is threading.main_thread()
        if here and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._holds = True
            signal.signal(signal.SIGINT, self._hold)
        return self

    def _hold(self, number: int, frame: FrameType | None) -> None:
        if self.came:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.default_int_handler(number, frame)
        self.came = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._holds:
            return
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._holds = False
        if self.came and not self._raised:
            self._raised = True
            raise KeyboardInterrupt


def _let_go() -> None:
    if isinstance(getattr(signal.getsignal(signal.SIGINT), "__self__", None), Interrupts):
        signal.signal(signal.SIGINT, signal.default_int_handler)


if hasattr(os, "register_at_fork"):
    # Nobody leaves the block in a child that another thread has forked.
    os.register_at_fork(after_in_child=_let_go)
