"""Statistics, and perhaps the data that they are for -> what is wrong with them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from streamnorm import threads
from streamnorm.findings import Finding, examine
from streamnorm.folding import Fold
from streamnorm.judging import Data, as_normalized, beside
from streamnorm.partial import Partial
from streamnorm.pending import rows_of
from streamnorm.progress import Bar
from streamnorm.reading import Plan, outcomes
from streamnorm.shortcuts import Averages
from streamnorm.sources.items import Choice
from streamnorm.sources.registry import open_source
from streamnorm.value import Value

__all__ = ["check"]

_BATCHES = (64, 256, 1000)


@dataclass
class _Samples:
    """What was read of one array, sample by sample."""

    rows: list[Partial] = field(default_factory=list)
    averages: Averages = field(default_factory=lambda: Averages(_BATCHES))

    def add(self, rows: Partial, scale: float) -> None:
        rows["mean"] /= scale
        rows["m2"] /= scale * scale
        self.rows.append(rows)
        if rows["count"].all():
            self.averages.add(rows)


def check(
    statistics: Value | Mapping[str, Value],
    source: Any = None,
    *,
    normalized: bool = False,
    choice: Choice | None = None,
    workers: int | None = None,
    transform: Callable[[Any], Any] | None = None,
    scale: float = 1.0,
) -> list[Finding]:
    """Say what is wrong with statistics, or with data that were normalized by them.

    Parameters
    ----------
    statistics : Moments, ExactMoments or WeightedMoments, or dict of these
    source : optional
        The data that they are for, as for `streamnorm.compute`; read once, image by image, row by
        row, or, of tables, piece by piece.
    normalized : bool
        The source is what comes out of normalizing: it should have mean 0 and std 1.
    choice : Choice, optional
        Which part of the source.
    workers, transform
        As for `streamnorm.compute`.
    scale : float
        What to divide the values of the source by.

    Returns
    -------
    list of Finding
        Empty where nothing is wrong. How sure a difference is comes from the means of images, or
        of episodes, never from pixels as if they were independent.

    Examples
    --------
    >>> import numpy as np, streamnorm as sn
    >>> from streamnorm.doctor import check
    >>> images = np.random.default_rng(0).integers(0, 256, (50, 3, 8, 8)).astype(np.uint8)
    >>> check(sn.compute(images), images)
    []
    >>> [finding.code for finding in check(sn.compute(images).affine(1 / 255), images)]
    ['scale']
    """
    named = dict(statistics) if isinstance(statistics, Mapping) else {"": statistics}
    found = [finding for name, value in named.items() for finding in examine(name, value)]
    if source is None:
        return found
    read = _read(source, choice or Choice(), workers, transform, scale)
    for name, value in named.items():
        data = read.get(name) or (next(iter(read.values())) if len(read) == 1 else None)
        if data is None:
            text = f"the source holds no array of this name, but {', '.join(read)}"
            found.append(Finding("missing-array", "wrong", name, (), text))
        elif data.value.channels != value.channels:
            text = f"they have {value.channels} channels but the source {data.value.channels}"
            found.append(Finding("channels", "wrong", name, (), text))
        else:
            found += as_normalized(name, data) if normalized else beside(name, value, data)
    return found


def _read(
    source: Any,
    choice: Choice,
    workers: int | None,
    transform: Callable[[Any], Any] | None,
    scale: float,
) -> dict[str, Data]:
    choice = replace(choice, by_sample=True, copies=transform is not None)
    opened = open_source(source, choice)
    plan = Plan(choice, nan_policy="omit", transform=transform)
    fold = Fold(opened, plan)
    samples: dict[str, _Samples] = {}
    with Bar(opened, None) as bar:
        for outcome in outcomes(opened, plan, threads.resolve(workers, "workers")):
            # The fold merges in place.
            copies = [
                (name or "", rows_of(part.measured.rows).copy())
                for name, part in outcome.parts
                if part.measured is not None
            ]
            fold.add(outcome)
            for name, rows in copies:
                samples.setdefault(name, _Samples()).add(rows, scale)
            bar.advance(outcome)
    held = fold.finish(0.0)
    inputs = None if opened.inputs is None else opened.inputs()
    digest = "" if inputs is None else inputs.contents.digest
    values: Mapping[str, Any] = held if isinstance(held, dict) else {"": held}
    return {
        name: Data(
            value.affine(1 / scale),
            samples[name].rows,
            samples[name].averages.found(value.channels),
            opened.kind,
            digest,
        )
        for name, value in values.items()
    }
