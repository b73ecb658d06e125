"""What is wrong with statistics, from their numbers alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from streamnorm.dtypes import scales_may_differ
from streamnorm.fields import Bools, Floats
from streamnorm.value import Value

__all__ = ["Finding", "examine", "named_channels"]

Severity = Literal["wrong", "doubtful"]

_CANCELLED = 1e-6
"""Of the mean: float32 has lost a std below that."""
_NEARLY_CONSTANT = 1e-4
"""Of the largest value: to divide by such a std is to magnify noise."""
_HUGE = (1e20, 9.969209968386869e36, 3.4e38, 1.797e308)
_SENTINELS = (
    *(-999.0, -9999.0, -99999.0, -32768.0, -32767.0),
    *(sign * huge for huge in _HUGE for sign in (1, -1)),
)
"""Values that formats and people write where there is nothing."""
_FAR = 10.0
"""Times the other extreme: nearer, such a value may well be one of the data."""
_COPIED = {
    "CIFAR-10": ((0.2023, 0.1994, 0.2010), (0.24703, 0.24349, 0.26159)),
    "CIFAR-100": ((0.2009, 0.1984, 0.2023), (0.2673, 0.2564, 0.2762)),
    "ImageNet": ((0.229, 0.224, 0.225), None),
    "MNIST": ((0.3015,), (0.3081,)),
    "Fashion-MNIST": ((0.3205,), (0.3530,)),
}
"""Stds in circulation that are means of the stds of images, and those of the data sets."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or may be.

    Attributes
    ----------
    code : str
        A short name, for machines.
    severity : {"wrong", "doubtful"}
    array : str
        Which of several arrays; "" where there is one.
    channels : tuple of str
        Those that are concerned; empty for all.
    text : str
        What it is, what it does, and what to do.
    """

    code: str
    severity: Severity
    array: str
    channels: tuple[str, ...]
    text: str


def named_channels(value: Value, flags: Bools) -> tuple[str, ...]:
    """Return the names of the channels of which something is true."""
    return tuple(value.channel_names[i] for i in np.flatnonzero(flags))


def examine(array: str, value: Value) -> Iterator[Finding]:
    """Yield what the numbers of one array say against themselves.

    Parameters
    ----------
    array : str
        Its name, "" where there is one only.
    value : Moments, ExactMoments or WeightedMoments
    """
    mean, std = value.mean, value.std()
    some = value.count > 0
    differ = value.minimum < value.maximum
    with np.errstate(all="ignore"):
        largest = np.fmax(np.abs(value.minimum), np.abs(value.maximum))
        lost = some & differ & (std <= _CANCELLED * np.abs(mean))
        small = some & differ & ~lost & (std < _NEARLY_CONSTANT * largest)
    flags: Sequence[tuple[str, Severity, Bools, str]] = (
        ("empty", "wrong", ~some, "hold no values; all of them are masked or missing"),
        (
            "non-finite",
            "wrong",
            some & ~np.isfinite(mean),
            (
                "have counted NaN or infinities in, so they have no mean; measure again with "
                "nan_policy='omit', or a mask"
            ),
        ),
        (
            "constant",
            "doubtful",
            some & value.constant & ~lost,
            "are constant: there is nothing to scale; drop them, or keep them divided by 1",
        ),
        (
            "cancelled",
            "wrong",
            lost,
            (
                "have a std of (nearly) 0 although their values differ: E[x²] − E[x]² in float32 "
                "loses it; measure again"
            ),
        ),
        (
            "nearly-constant",
            "doubtful",
            small,
            (
                "are nearly constant: divided by such a std, noise becomes the signal; pass a "
                "floor as zero_variance="
            ),
        ),
    )
    for code, severity, found, text in flags:
        if found.any():
            yield Finding(code, severity, array, named_channels(value, found), text)
    yield from _sentinels(array, value)
    yield from _copied(array, value)
    yield from _origin(array, value)


def _sentinels(array: str, value: Value) -> Iterator[Finding]:
    """Yield extremes that people write where there is nothing."""
    sound = any(entry.kind == "sound files" for entry in value.meta.provenance.passes)
    for extreme, other in ((value.minimum, value.maximum), (value.maximum, value.minimum)):
        for sentinel in () if sound else _SENTINELS:
            with np.errstate(all="ignore"):
                found = np.isclose(extreme, sentinel, rtol=1e-2 if abs(sentinel) > 1e30 else 1e-6)
                found &= np.abs(other) < 0.999 * abs(sentinel)
                far = found & (np.abs(other) * _FAR < abs(sentinel))
            near = found & ~far
            if far.any():
                yield _nodata(array, value, sentinel, "wrong", far)
            if near.any():
                yield _nodata(array, value, sentinel, "doubtful", near)


def _nodata(array: str, value: Value, sentinel: float, severity: Severity, found: Bools) -> Finding:
    text = (
        f"have {sentinel:g} among their values, which often means 'nothing here'; measure again "
        f"with nodata={sentinel:g} if it does"
    )
    return Finding("nodata", severity, array, named_channels(value, found), text)


def _copied(array: str, value: Value) -> Iterator[Finding]:
    """Yield stds that are copied everywhere, and are those of no data set."""
    std = value.std()
    for name, (copied, right) in _COPIED.items():
        for scale in (1, 255):
            wrong = np.asarray(copied) * scale
            if std.shape == wrong.shape and np.allclose(std, wrong, rtol=0, atol=5.1e-5 * scale):
                instead = ""
                if right is not None:
                    instead = f"; that of the data set is {_list(np.asarray(right) * scale)}"
                text = f"the std is the one that is copied for {name}, the mean of the images' stds"
                yield Finding("copied-shortcut", "wrong", array, (), text + instead)


def _origin(array: str, value: Value) -> Iterator[Finding]:
    """Yield what the file says of where the numbers came from."""
    for entry in value.meta.provenance.passes:
        if entry.sample is not None:
            drawn = f"{entry.sample.taken:,} of {entry.sample.of:,}"
            text = f"the numbers are of a sample, {drawn}: a first answer, not the last"
            yield Finding("sample", "doubtful", array, (), text)
        if entry.report.skipped:
            text = f"{entry.report.skipped:,} items of {entry.source} could not be read"
            yield Finding("skipped", "doubtful", array, (), text)
        kinds = entry.dtype.split("+")
        if scales_may_differ(kinds):
            text = f"{' and '.join(kinds)} were pooled: are their scales, 0 to 255 and 0 to 1, one?"
            yield Finding("mixed-scales", "doubtful", array, (), text)
    splits = {entry.split for entry in value.meta.provenance.passes if entry.split}
    if len(splits) > 1:
        text = f"data of several splits were merged, {' and '.join(sorted(splits))}"
        yield Finding("mixed-splits", "wrong", array, (), text)


def _list(values: Floats) -> str:
    return ", ".join(f"{value:.5g}" for value in values.tolist())
