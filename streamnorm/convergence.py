"""How mean and std settle along a stream, beside the level that the shortcut settles at."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamnorm.fields import Counts, Floats
from streamnorm.moments import Moments
from streamnorm.partial import Partial
from streamnorm.samples import check_only, follow_samples
from streamnorm.sources.items import Choice
from streamnorm.stacks import Stack

__all__ = ["Curve", "follow"]

_POINTS_A_DOUBLING = 8


@dataclass(frozen=True)
class Curve:
    """What was known of the data after so many samples.

    Attributes
    ----------
    samples : array of int, shape (P,)
    mean, std, shortcut : array of float64, shape (P, C)
        Of all samples so far; the shortcut is the mean of the samples' stds (ddof 1).
    names : tuple of str
        Of the channels.
    source : str
    """

    samples: Counts
    mean: Floats
    std: Floats
    shortcut: Floats
    names: tuple[str, ...]
    source: str


def follow(
    source: Any,
    *,
    choice: Choice | None = None,
    workers: int | None = None,
    transform: Callable[[Any], Any] | None = None,
    scale: float = 1.0,
) -> Curve:
    """Measure a source sample by sample, and note on the way what is known so far.

    Parameters
    ----------
    source, workers, transform
        As for `streamnorm.compute`.
    choice : Choice, optional
        Which part of the source.
    scale : float
        What to divide the values by.

    Raises
    ------
    ValueError
        If the source is empty, or holds several arrays.
    """
    stack = Stack()
    points: list[tuple[int, Floats, Floats, Floats]] = []
    std_sum: Any = 0.0
    following = 1.0

    def take(name: str | None, rows: Partial) -> None:
        nonlocal std_sum, following
        check_only(name)
        value = Moments.of_rows(rows.copy())
        std_sum = std_sum + np.nan_to_num(value.std(ddof=1))
        stack.push(rows, some=True)
        if stack.parts >= following:
            points.append(_point(stack, value.channels, std_sum))
            following = max(stack.parts + 1, stack.parts * 2 ** (1 / _POINTS_A_DOUBLING))

    opened, whole, _ = follow_samples(
        source, choice or Choice(), take, workers=workers, transform=transform
    )
    if stack.parts and points[-1][0] != stack.parts:
        points.append(_point(stack, points[-1][1].size, std_sum))
    samples, mean, std, shortcut = (np.array(column) for column in zip(*points, strict=True))
    settled = (mean / scale, std / scale, shortcut / scale)
    return Curve(samples, *settled, whole.channel_names, opened.name)


def _point(stack: Stack, channels: int, std_sum: Any) -> tuple[int, Floats, Floats, Floats]:
    so_far = Moments.of_rows(stack.fold(channels))
    return stack.parts, so_far.mean, so_far.std(), std_sum / stack.parts
