"""Progress: a bar on a terminal, a callback, or nothing."""

import sys
from collections.abc import Callable
from typing import Any, Self

from streamnorm.reading import Outcome
from streamnorm.sources.items import Source

__all__ = ["Bar", "Progress"]

Progress = Callable[[int, int | None], object]


class Bar:
    """Shows how far the pass over a source is: by its items, or where they are in its files."""

    def __init__(self, source: Source, progress: Progress | bool | None, done: int = 0) -> None:
        self._done = done
        self._bytes = 0
        self._total = source.total
        self._by_place = source.size > 0
        self._call = progress if callable(progress) else None
        self._bar: Any = None
        if progress is True or (progress is None and sys.stderr.isatty()):
            from tqdm import tqdm

            options: dict[str, Any] = {"desc": source.kind, "file": sys.stderr}
            if self._by_place:
                options |= {"total": source.size, "unit": "B", "unit_scale": True}
            else:
                options |= {"total": self._total, "initial": done, "unit": " items"}
            self._bar = tqdm(**options)

    def advance(self, outcome: Outcome) -> None:
        """Count one more item."""
        self._done += 1
        self._bytes += outcome.size
        if self._call is not None:
            self._call(self._done, self._total)
        if self._bar is None:
            return
        if self._by_place:
            self._bar.update(outcome.item.place - self._bar.n)
        else:
            self._bar.set_postfix_str(f"{self._bytes / 1e6:.0f} MB", refresh=False)
            self._bar.update()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
