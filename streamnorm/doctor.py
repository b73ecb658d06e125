"""Statistics, and perhaps the data that they are for -> what is wrong with them."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from streamnorm.arrays import name_of
from streamnorm.errors import StreamnormWarning
from streamnorm.findings import Finding, examine
from streamnorm.judging import Data, as_normalized, beside
from streamnorm.partial import PARTIAL, Partial
from streamnorm.samples import follow_samples
from streamnorm.shortcuts import BATCH_SIZES, Averages
from streamnorm.sources.items import Choice
from streamnorm.value import Value

__all__ = ["check"]

_ROWS = 256
"""Of a table, in a sample: rows in a row are seldom independent of each other."""
_ENOUGH, _WIDE = 200, 2000
"""Samples of a table up to which it is read again in smaller ones; channels up to which it is."""


@dataclass
class _Samples:
    """What was read of one array, sample by sample: 48 bytes a channel each."""

    data: bytearray = field(default_factory=bytearray)
    averages: Averages = field(default_factory=lambda: Averages(BATCH_SIZES))

    def add(self, rows: Partial, scale: float) -> None:
        rows["mean"] /= scale
        rows["m2"] /= scale * scale
        self.data += rows.tobytes()
        # Of fewer values there is no std.
        if (rows["count"] > 1).all():
            self.averages.add(rows)

    def rows(self, channels: int) -> Partial:
        return np.frombuffer(self.data, PARTIAL).reshape(-1, channels)


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
        The data that they are for, as for `streamnorm.compute`; read once, image by image, or, of
        tables and arrays of one or two axes, 256 rows at a time (and once more, fewer at a time, to
        look for a drift, if that gives less than 200 pieces).
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
    everything = dict(statistics) if isinstance(statistics, Mapping) else {"": statistics}
    named = _chosen(everything, None if choice is None else choice.select)
    found = [finding for name, value in named.items() for finding in examine(name, value)]
    if source is None:
        return found
    chosen = replace(choice or Choice(), by_folder=_by_folder(named))
    read_by = partial(_read, source, chosen, workers, transform, scale)
    read = _with_fine_pieces(source, read_by(_ROWS), read_by)
    for name, value in named.items():
        data = _of_this_name(name, value, read, alone=len(everything) == 1)
        if data is None:
            found.append(Finding("missing-array", "wrong", name, (), _missing(name, read)))
        elif data.value.channels != value.channels:
            text = f"they have {value.channels} channels but the source {data.value.channels}"
            found.append(Finding("channels", "wrong", name, (), text))
        else:
            found += as_normalized(name, data) if normalized else beside(name, value, data)
    return found


def _missing(name: str, read: Mapping[str, Data]) -> str:
    there = ", ".join("files in no folder" if key == "." else key for key in read)
    if name:
        return f"the source holds nothing of this name, but {there}"
    return f"they are of one array, and the source holds several, {there}; choose one with select="


def _by_folder(named: Mapping[str, Value]) -> bool:
    """Whether the statistics are those of folders of images, one by one."""
    passes = [entry for value in named.values() for entry in value.meta.provenance.passes]
    return bool(passes) and all(entry.of_folder for entry in passes)


def _chosen(named: Mapping[str, Value], select: Any) -> Mapping[str, Value]:
    """Return the statistics of the arrays that are read; of one array, or channels, those there."""
    names = [select] if isinstance(select, str) else select
    if len(named) == 1 or not isinstance(names, list | tuple):
        return named
    if missing := [name for name in names if name not in named]:
        msg = f"the statistics hold no {missing[0]!r}, only {', '.join(named)}"
        raise ValueError(msg)
    return {name: named[name] for name in names}


def _of_this_name(name: str, value: Value, read: Mapping[str, Data], *, alone: bool) -> Data | None:
    """Return what was read of an array: by its name, or that with which it was recorded."""
    passes = value.meta.provenance.passes
    recorded = {entry.array for entry in passes} if passes else set()
    names = [name, *recorded, *(value.meta.names or ())[:1]]
    found = next((read[key] for key in names if key in read), None)
    # What was chosen by its name is read without one.
    if found is None and len(read) == 1 and (alone or "" in read):
        return next(iter(read.values()))
    return found


def _with_fine_pieces(
    source: Any, read: Mapping[str, Data], again: Callable[[int], Mapping[str, Data]]
) -> Mapping[str, Data]:
    """Read tables of few pieces once more, in smaller ones, where that can be done."""
    longest = 0
    for data in read.values():
        rows = (data.samples["count"] + data.samples["omitted"]).max(axis=1, initial=0)
        if len(rows) >= _ENOUGH or rows.max(initial=0) > _ROWS or data.value.channels > _WIDE:
            return read
        longest = max(longest, int(rows.sum()))
    if isinstance(source, Iterator) or not all(data.of_rows for data in read.values()):
        return read
    with warnings.catch_warnings():
        # What there is to say was said the first time.
        warnings.simplefilter("ignore", StreamnormWarning)
        fine = again(max(1, longest // (2 * _ENOUGH)))
    return {name: replace(data, fine=fine[name].samples) for name, data in read.items()}


def _read(
    source: Any,
    choice: Choice,
    workers: int | None,
    transform: Callable[[Any], Any] | None,
    scale: float,
    rows: int,
) -> dict[str, Data]:
    samples: dict[str, _Samples] = {}

    def take(name: str | None, rows: Partial) -> None:
        samples.setdefault(name or "", _Samples()).add(rows, scale)

    opened, held, of_rows = follow_samples(
        source, choice, take, workers=workers, transform=transform, rows=rows, omit=True
    )
    inputs = None if opened.inputs is None else opened.inputs()
    digest = "" if inputs is None else inputs.contents.digest
    values: Mapping[str, Any] = held if isinstance(held, dict) else {"": held}
    return {
        name: Data(
            value.affine(1 / scale),
            samples[name].rows(value.channels),
            samples[name].averages.found(value.channels),
            opened.kind,
            digest,
            None if transform is None else name_of(transform),
            as_declared=isinstance(choice.nodata, str) and choice.mask is None,
            of_rows=of_rows,
        )
        for name, value in values.items()
    }
