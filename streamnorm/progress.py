"""Progress: a bar on a terminal, a callback, or nothing."""

import sys
from collections.abc import Callable
from typing import Any, Self

from streamnorm.sources.items import Source

__all__ = ["Bar", "Progress"]

Progress = Callable[[int, int | None], object]


class Bar:
    """Shows how far the pass over a source is."""

    def __init__(self, source: Source, progress: Progress | bool | None, done: int = 0) -> None:
        self._done = done
        self._bytes = 0
        self._total = source.total
        self._call = progress if callable(progress) else None
        self._bar: Any = None
        if progress is True or (progress is None and sys.stderr.isatty()):
            from tqdm import tqdm

            self._bar = tqdm(
                total=self._total, initial=done, unit=" items", desc=source.kind, file=sys.stderr
            )

    def advance(self, size: int) -> None:
        """Count one more item, of so many bytes."""
        self._done += 1
        self._bytes += size
        if self._call is not None:
            self._call(self._done, self._total)
        if self._bar is not None:
            self._bar.set_postfix_str(f"{self._bytes / 1e6:.0f} MB", refresh=False)
            self._bar.update()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
