"""What is wrong with statistics, beside what was read of the data: one array at a time."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamnorm.fields import Bools, Floats
from streamnorm.findings import Finding, named_channels
from streamnorm.meta import Pass, Sample
from streamnorm.partial import Partial
from streamnorm.sampling import with_errors
from streamnorm.value import Value

__all__ = ["Data", "as_normalized", "beside"]

_SCALES = (255.0, 127.5, 65535.0)
_NEAR, _ROUGHLY = 0.15, 0.3
"""Relative difference up to which a ratio is one of these: if all channels have it, or if not."""
_APART, _ALIKE, _SURELY = 3.0, 0.05, 30.0
"""Ratio from which means and stds are of another unit, if all have it but for so much; and from
which they are so whatever the ratios."""
_LIKE = 5e-4
"""Relative difference up to which two numbers are the same: four digits are printed of most."""
_SHORT = 3e-3
"""Relative difference from which a std is not that of the data."""
_SURE = 4.0
"""Standard errors beyond which a difference is no accident."""
_MATTERS = 0.01
"""Of a std: less is of no consequence to what is normalized."""
_FAR = 0.2
"""Of a std, which is worth a word even where there is too little data to be sure."""
_BLOCKS = 20
_FEWEST = 5
"""Samples a block, for a drift to be looked for."""
_DRIFT = 4.0
"""Variance between blocks over that within: by accident above 2.3 once in a thousand times."""
_DRIFT_OF_ROWS = 100.0
"""The same of pieces of few rows, which depend on each other: neighbours stay below it."""
_WHOLE = 1 << 62
"""Of how many a sample is taken to be: the data at hand stand for all that is to come."""


@dataclass(frozen=True)
class Data:
    """What was read of one array.

    Attributes
    ----------
    value : Moments
        Of all of it.
    samples : array of PARTIAL, shape (n, C)
        Of every image, episode or piece of a table, in their order.
    shortcuts : mapping of str to array
        The stds that the shortcuts give.
    kind, digest : str
        What it is, and the digest of names and sizes of its files, as in provenance.
    transform : str or None
        What was applied to its items.
    as_declared : bool
        Whether all is left out that the source declares missing, and nothing else but NaN.
    of_rows : bool
        Whether samples are so many rows of a table.
    fine : array of PARTIAL, shape (m, C), or None
        Of few rows each, to look for a drift in where there are few samples.
    """

    value: Value
    samples: Partial
    shortcuts: Mapping[str, Floats]
    kind: str
    digest: str
    transform: str | None
    as_declared: bool
    of_rows: bool
    fine: Partial | None = None

    def errors(self) -> tuple[Floats, Floats]:
        """Return the standard errors of mean and std, clustered by sample; NaN where undefined."""
        drawn = Sample(len(self.samples), _WHOLE)
        found = with_errors(drawn, self.samples, self.value, each=False)
        mean, std = (np.array(of, float) for of in (found.mean_error, found.std_error))
        return mean, std


def beside(array: str, value: Value, data: Data) -> Iterator[Finding]:
    """Yield what is wrong with statistics, given the data that they are for."""
    yield from _of_other_data(array, value, data)
    yield from _read_differently(array, value, data)
    if scale := _scale_between(value, data.value):
        text = f"they are about {scale}; scale one of them, for example with --scale"
        yield Finding("scale", "wrong", array, (), text)
    elif shortcut := _shortcut(value, data):
        right = ", ".join(f"{s:.5g}" for s in data.value.std().tolist())
        text = f"the std is the {shortcut}, not the std of the data, which is {right}"
        yield Finding("shortcut", "wrong", array, (), text)
    else:
        yield from _misfit(array, value, data)
    yield from _drift(array, data)


def _too_few(array: str, channels: tuple[str, ...], data: Data) -> Finding:
    text = (
        f"are far off, but {len(data.samples)} images or pieces of data are too few to tell a "
        f"fault from an accident"
    )
    return Finding("too-few", "doubtful", array, channels, text)


def as_normalized(array: str, data: Data) -> Iterator[Finding]:
    """Yield where data that were normalized have another mean than 0, or another std than 1."""
    mean, std = data.value.mean, data.value.std()
    mean_error, std_error = data.errors()
    if len(data.samples) < _FEWEST:
        far = (np.abs(mean) > _FAR) | (np.abs(std - 1) > _FAR)
        if far.any():
            yield _too_few(array, named_channels(data.value, far), data)
        return
    for what, off, error, right in (
        ("mean", mean, mean_error, 0),
        ("std", std - 1, std_error, 1),
    ):
        found = _significant(off, error, np.ones(len(mean)))
        if found.any():
            numbers = _with_errors(off + right, error, found)
            text = f"have the {what} {numbers} instead of {right}, by other statistics or none"
            yield Finding("not-normalized", "wrong", array, named_channels(data.value, found), text)
    yield from _drift(array, data)


def _of_other_data(array: str, value: Value, data: Data) -> Iterator[Finding]:
    """Yield that other files, or another choice of them, were measured."""
    entry = _only_pass(value, data)
    if entry is None or not data.digest or entry.contents.digest == data.digest:
        return
    named = f" of the split {entry.split}" if entry.split else ""
    there = entry.contents
    text = (
        f"they were computed from other files{named}: {there.count:,}, from {there.first} to "
        f"{there.last}; if this is the data that they should be of, compute them again"
    )
    yield Finding("other-data", "doubtful", array, (), text)


def _read_differently(array: str, value: Value, data: Data) -> Iterator[Finding]:
    """Yield that the same files were measured, but not as they were read now."""
    entry = _only_pass(value, data)
    if entry is None or entry.contents.digest != data.digest or entry.weigh:
        return
    before = _without_scale(entry.transform)
    if before != data.transform:
        here = data.transform or "without"
        text = f"they are of these files after {before or 'nothing'}; here they were read {here}"
        yield Finding("read-differently", "doubtful", array, (), text)


def _only_pass(value: Value, data: Data) -> Pass | None:
    """Return the pass behind a value, if there is one, over files of this kind, all of them."""
    passes = value.meta.provenance.passes
    if len(passes) != 1 or value.meta.provenance.further:
        return None
    (entry,) = passes
    alike = entry.kind == data.kind and entry.names_its_data
    return entry if alike and entry.sample is None else None


def _scale_between(value: Value, truth: Value) -> str:
    """Say what factor is between two scales, if there seems to be one."""
    with np.errstate(all="ignore"):
        stds = value.std() / truth.std()
        # Near 0 they say nothing.
        means = (value.mean / truth.mean)[np.abs(truth.mean) > _FAR * truth.std()]
    if means.size and np.median(means) < 0:
        return ""
    stds, means = (ratio[np.isfinite(ratio) & (ratio > 0)] for ratio in (stds, means))
    middles = [float(np.median(ratios)) for ratios in (means, stds) if ratios.size]
    one_way = all(r > _APART for r in middles) or all(r < 1 / _APART for r in middles)
    if not stds.size or not one_way:
        return ""
    ratio, off = min(((r, _off_usual(r)) for r in middles), key=lambda pair: pair[1])
    times = f"{ratio:.3g} times" if ratio > 1 else f"1/{1 / ratio:.3g} of"
    text = f"{times} those of the data"
    one_factor = (np.abs(np.concatenate([stds, means]) / ratio - 1) < _ALIKE).all()
    # Other data have other means and stds, and a std may be wrong besides.
    if off < (_NEAR if means.size and one_factor else _ROUGHLY):
        return f"{text}, as if one was of values from 0 to 255, the other of 0 to 1 or the like"
    if means.size and (one_factor or all(max(r, 1 / r) > _SURELY for r in middles)):
        return f"{text}, as if they were in another unit"
    return ""


def _off_usual(ratio: float) -> float:
    """Return by how much, relatively, a ratio is off the nearest usual one."""
    return min(abs(ratio / factor - 1) for s in _SCALES for factor in (s, 1 / s))


def _shortcut(value: Value, data: Data) -> str:
    """Return the name of the shortcut whose stds these are, if they are one's."""
    std, truth = value.std(), data.value.std()
    with np.errstate(all="ignore"):
        if not (np.abs(std / truth - 1) > _SHORT).any():
            return ""
        near = np.clip(_rounding(std) / std, _LIKE, _SHORT)
        for name, wrong in data.shortcuts.items():
            if (np.abs(std / wrong - 1) < near).all():
                return name
    return ""


def _rounding(numbers: Floats) -> Floats:
    """Return half a unit of the last digit in which numbers are written, all alike."""
    # Published ones have few; a root taken of their square adds none to nine.
    given = [float(f"{number:.9g}") for number in numbers.tolist()]
    written = [np.format_float_positional(number, trim="-") for number in given]
    decimals = max(len(text.partition(".")[2]) for text in written)
    return np.full(len(numbers), 0.5 * 10.0**-decimals)


def _misfit(array: str, value: Value, data: Data) -> Iterator[Finding]:
    """Yield where the data, normalized by the statistics, have not mean 0 and std 1."""
    mean_error, std_error = data.errors()
    with np.errstate(all="ignore"):
        off = (data.value.mean - value.mean) / value.std()
        wide = data.value.std() / value.std() - 1
        unit = 1 / value.std()
    if _is_same(value, data):
        # The very same data: there is no accident.
        found = (np.abs(off) > _LIKE) | (np.abs(wide) > _LIKE)
        stored = data.value.count + data.value.omitted
        counted = found & (value.count > data.value.count) & (value.count <= stored)
        counted &= data.as_declared
        if counted.any():
            text = (
                "have counted values in that the source declares missing; measure again without "
                "nodata=None (--nodata none)"
            )
            yield Finding("nodata", "wrong", array, named_channels(value, counted), text)
        if (found & ~counted).any():
            channels = named_channels(value, found & ~counted)
            text = "differ from those of the same data, measured now; were they read differently?"
            yield Finding("differs", "wrong", array, channels, text)
        return
    if len(data.samples) < _FEWEST:
        far = (np.abs(off) > _FAR) | (np.abs(wide) > _FAR)
        if far.any():
            yield _too_few(array, named_channels(value, far), data)
        return
    for what, by, error, right in (
        ("mean", off, mean_error, 0),
        ("std", wide, std_error, 1),
    ):
        found = _significant(by, error, unit)
        if found.any():
            numbers = _with_errors(by + right, error * unit, found)
            text = f"normalize this data to the {what} {numbers}, instead of {right}"
            yield Finding("does-not-fit", "doubtful", array, named_channels(value, found), text)


def _is_same(value: Value, data: Data) -> bool:
    """Whether the statistics are of the very same data, read in the same way."""
    entry = _only_pass(value, data)
    if entry is None or entry.contents.digest != data.digest or entry.weigh:
        return False
    return _without_scale(entry.transform) == data.transform


def _without_scale(transform: str | None) -> str | None:
    """Return what was applied but for a division at the end, which --scale undoes."""
    return re.sub(r"(, )?x / [\d.e+-]+$", "", transform or "") or None


def _significant(off: Floats, error: Floats, unit: Floats) -> Bools:
    """Return where a difference, in stds, matters and is no accident."""
    with np.errstate(all="ignore"):
        found: NDArray[np.bool_] = (np.abs(off) > _MATTERS) & (np.abs(off) > _SURE * error * unit)
    return found


def _with_errors(numbers: Floats, errors: Floats, found: Bools) -> str:
    shown = [f"{numbers[i]:.3g} ± {errors[i]:.1g}" for i in np.flatnonzero(found)[:3]]
    return ", ".join(shown) + (", …" if found.sum() > 3 else "")


def _drift(array: str, data: Data) -> Iterator[Finding]:
    """Yield where means or spreads of samples change along the data, as where they are sorted.

    One-way analysis of variance over blocks of samples in a row (Fisher 1925), with the samples'
    numbers of values as weights.
    """
    rows, most = data.samples, _DRIFT
    if data.fine is not None:
        rows, most = data.fine, _DRIFT_OF_ROWS
    if len(rows) < _BLOCKS * _FEWEST:
        return
    weight = rows["count"].astype(np.float64)
    with np.errstate(all="ignore"):
        spread = np.where(weight > 0, rows["m2"] / weight, 0.0)
        mean = np.where(weight > 0, rows["mean"], 0.0)
    for what, numbers in (("mean", mean), ("variance", spread)):
        ratio, blocks = _between_over_within(numbers, weight)
        found = ratio > most
        if found.any():
            worst = int(np.argmax(np.where(found, ratio, 0)))
            low, high = blocks[:, worst].min(), blocks[:, worst].max()
            name = named_channels(data.value, np.arange(len(ratio)) == worst)[0]
            number = "channel " if data.value.meta.names is None else ""
            of = f" of {number}{name}" if len(ratio) > 1 else ""
            text = (
                f"drift along the data: the {what}{of} of a twentieth of it is between "
                f"{low:.4g} and {high:.4g} (variance between blocks {ratio[worst]:.0f} times that "
                f"within); is it sorted? its first part says little of the whole"
            )
            channels = named_channels(data.value, found)
            yield Finding("drift", "doubtful", array, channels, text)


def _between_over_within(numbers: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Return the F ratio per channel, and the means of the blocks, shape (_BLOCKS, C)."""
    cuts = [len(numbers) * b // _BLOCKS for b in range(_BLOCKS)]
    with np.errstate(all="ignore"):
        weights = np.add.reduceat(weight, cuts)
        blocks = np.add.reduceat(weight * numbers, cuts) / weights
        whole = (weights * blocks).sum(0) / weights.sum(0)
        between = (weights * (blocks - whole) ** 2).sum(0) / (_BLOCKS - 1)
        each = np.repeat(blocks, np.diff([*cuts, len(numbers)]), axis=0)
        within = (weight * (numbers - each) ** 2).sum(0) / (len(numbers) - _BLOCKS)
        # What does not vary at all does not drift.
        return np.where(between > 0, between / within, 0.0), blocks
