"""The shortcuts that people take for the std of a data set, computed on purpose, to compare.

None of them is a std of the data: the mean of standard deviations of pieces leaves out how much the
pieces' means differ, and weighs a root by the piece.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from streamnorm.fields import Floats
from streamnorm.moments import Moments
from streamnorm.partial import Partial
from streamnorm.samples import check_only, follow_samples
from streamnorm.sources.items import Choice
from streamnorm.stacks import Stack

__all__ = ["BATCH_SIZES", "Averages", "Comparison", "Shortcut", "compare"]

BATCH_SIZES = (64, 256, 1000)


@dataclass(frozen=True)
class Shortcut:
    """One wrong way: its name and what it gives, float64, shape (C,)."""

    name: str
    std: Floats


@dataclass(frozen=True)
class Comparison:
    """The pooled moments beside the shortcuts, which use ddof 1, as torch does."""

    pooled: Moments
    samples: int
    shortcuts: tuple[Shortcut, ...]

    def matching(self, published: Sequence[float], unit: float) -> list[str]:
        """Name the rows, the pooled one included, that were published in digits down to `unit`.

        Those that round to the numbers, or, where none does, that are less than a unit away: they
        may have been cut off.
        """
        rows = [Shortcut("pooled", self.pooled.std()), *self.shortcuts]
        target = np.asarray(published, np.float64)
        off = {row.name: np.abs(row.std - target).max() for row in rows}
        rounded = [name for name, most in off.items() if most <= unit / 2]
        return rounded or [name for name, most in off.items() if most <= unit]


@dataclass
class Averages:
    """Running sums over the samples and over batches of several sizes."""

    sizes: Sequence[int]
    samples: int = 0
    std_sum: Any = 0.0
    variance_sum: Any = 0.0
    batches: dict[int, Stack] = field(default_factory=dict)
    batch_sums: dict[int, tuple[int, Any]] = field(default_factory=dict)

    def add(self, rows: Partial) -> None:
        """Take one sample."""
        variance = _variance(rows)
        self.samples += 1
        self.std_sum = self.std_sum + np.sqrt(variance)
        self.variance_sum = self.variance_sum + variance
        for size in self.sizes:
            batch = self.batches.setdefault(size, Stack())
            batch.push(rows.copy(), some=True)
            if batch.parts == size:
                self._close(size, rows.size)

    def _close(self, size: int, channels: int) -> None:
        count, total = self.batch_sums.get(size, (0, 0.0))
        std = np.sqrt(_variance(self.batches.pop(size).fold(channels)))
        self.batch_sums[size] = (count + 1, total + std)

    def found(self, channels: int) -> dict[str, Floats]:
        """Every shortcut by its name."""
        return {row.name: row.std for row in self.rows(channels)} if self.samples else {}

    def rows(self, channels: int) -> list[Shortcut]:
        """Every shortcut that is defined: not per image of one value, nor per batch of all."""
        found = [Shortcut("mean of per-image std", self.std_sum / self.samples)]
        for size in self.sizes:
            if size >= self.samples:
                continue
            if size in self.batches:
                self._close(size, channels)
            count, total = self.batch_sums[size]
            found.append(Shortcut(f"mean of per-batch std, B = {size}", total / count))
        root = np.sqrt(self.variance_sum / self.samples)
        found.append(Shortcut("sqrt of mean per-image variance", root))
        return [row for row in found if not np.isnan(row.std).all()]


def compare(
    source: Any,
    *,
    workers: int | None = None,
    choice: Choice | None = None,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    scale: float = 1.0,
    transform: Callable[[Any], Any] | None = None,
) -> Comparison:
    """Measure a source sample by sample, and take every shortcut on the way.

    Parameters
    ----------
    source, workers, transform
        As for `streamnorm.compute`; a sample is an image, or an index of axis 0.
    choice : Choice, optional
        Which part of the source.
    batch_sizes : sequence of int
        Batches of so many samples in the order of the source; the last may be smaller.
    scale : float
        What to divide the values by.

    Raises
    ------
    ValueError
        If the source is empty or cannot be read; see `streamnorm.compute`.
    """
    averages = Averages(sorted(batch_sizes))

    def take(name: str | None, rows: Partial) -> None:
        check_only(name)
        averages.add(rows)

    _, value, _ = follow_samples(
        source, choice or Choice(), take, workers=workers, transform=transform
    )
    pooled = value.affine(1 / scale)
    found = averages.rows(pooled.channels)
    shortcuts = tuple(Shortcut(row.name, row.std / scale) for row in found)
    return Comparison(pooled, averages.samples, shortcuts)


def _variance(rows: Partial) -> Floats:
    return Moments.of_rows(rows.view()).variance(ddof=1)
