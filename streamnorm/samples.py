"""A pass sample by sample: what is measured of each of them is handed on before it is merged."""

from collections.abc import Callable
from dataclasses import replace
from time import perf_counter
from typing import Any

from streamnorm import threads
from streamnorm.folding import Fold
from streamnorm.partial import Partial
from streamnorm.progress import Bar
from streamnorm.reading import Plan, outcomes
from streamnorm.sources.items import ONLY, Choice, Source
from streamnorm.sources.registry import open_source

__all__ = ["check_only", "follow_samples"]


def follow_samples(
    source: Any,
    choice: Choice,
    take: Callable[[str | None, Partial], None],
    *,
    workers: int | None,
    transform: Callable[[Any], Any] | None,
    rows: int = 1,
    omit: bool = False,
) -> tuple[Source, Any, bool]:
    """Read a source, and hand on what is measured of each sample.

    Parameters
    ----------
    source, workers, transform
        As for `streamnorm.compute`.
    choice : Choice
        Which part of the source.
    take : callable
        Gets the name of an array and, its own to change, what was measured of one sample, in their
        order: an image, or so many rows. Samples that are skipped do not come.
    rows : int
        Of arrays of one or two axes, and of tables, in a sample.
    omit : bool
        Leave NaN out.

    Returns
    -------
    opened : Source
    values : Moments, or dict of them
        Of all samples.
    of_rows : bool
        Whether samples are so many rows.
    """
    choice = replace(choice, by_sample=rows, copies=transform is not None)
    opened = open_source(source, choice)
    plan = Plan(choice, "omit" if omit else "propagate", transform=transform).fits(opened)
    fold = Fold(opened, plan, watch=take)
    started = perf_counter()
    with Bar(opened, None) as bar:
        for outcome in outcomes(opened, plan, threads.resolve(workers, "workers")):
            fold.add(outcome)
            bar.advance(outcome)
    values = fold.finish(perf_counter() - started)
    forms = [stream.like for stream in fold.streams.values()]
    return opened, values, all(form is None or len(form.shape) < 3 for form in forms)


def check_only(name: str | None) -> None:
    """Raise unless this is the only array of its source.

    Raises
    ------
    ValueError
        If the source holds several arrays.
    """
    if name is not ONLY:
        msg = f"the source holds several arrays, {name} among them; choose one with select="
        raise ValueError(msg)
