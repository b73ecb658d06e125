"""Arguments that several commands share."""

import argparse
import errno
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from streamnorm.cli.formats import Held
from streamnorm.cli.resizing import Resized
from streamnorm.exact import ExactMoments
from streamnorm.fields import channels_where
from streamnorm.labels import Label
from streamnorm.layout import ChannelAxis
from streamnorm.meta import Report
from streamnorm.sources.items import Choice
from streamnorm.sources.needs import needed
from streamnorm.value import Value

Container = argparse._ActionsContainer  # noqa: SLF001 - a parser, or a group of its arguments

__all__ = [
    "add_channel_axis",
    "add_ddof",
    "add_label",
    "add_nodata",
    "add_reading",
    "add_scale",
    "add_select",
    "checked_output",
    "choice_of",
    "chosen_of",
    "report_of",
    "say_digests",
    "say_what_is_beyond",
    "say_what_was_drawn",
    "scaled",
    "selected",
    "transform_of",
    "what_happened",
]


def add_channel_axis(parser: Container) -> None:
    """Add --channel-axis."""
    parser.add_argument(
        "--channel-axis",
        type=_channel_axis,
        default="auto",
        metavar="AXIS",
        help="axis that is kept: a number, several as 1,2, or 'none' for one channel over "
        "everything (default: auto)",
    )


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Add what says how a data set is read: threads, errors, and which part of it."""
    reading = parser.add_argument_group("how it is read")
    reading.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="threads that read and measure; the result does not depend on it (default: CPUs)",
    )
    reading.add_argument(
        "--on-error",
        choices=("raise", "skip"),
        default="raise",
        help="what to do with files that cannot be read (default: raise)",
    )
    add_select(reading, "which columns, variables, or array of an .npz file (default: all numeric)")
    images = parser.add_argument_group("images")
    images.add_argument(
        "--include", action="append", default=[], metavar="GLOB", help="only these images"
    )
    images.add_argument(
        "--exclude", action="append", default=[], metavar="GLOB", help="not these images"
    )
    images.add_argument(
        "--resize",
        type=_size,
        metavar="N",
        help="first resize every image: its shorter side to N, or to HEIGHTxWIDTH (bilinear, as "
        "torchvision does)",
    )
    images.add_argument(
        "--crop",
        type=_size,
        metavar="N",
        help="then take the middle of it: N by N, or HEIGHTxWIDTH",
    )
    images.add_argument(
        "--max-pixels",
        type=positive,
        metavar="N",
        help="refuse images of more than twice N pixels as bombs (default: Pillow's 89 million)",
    )
    images.add_argument("--mode", help="convert every image to this Pillow mode, such as RGB or L")


def add_select(parser: Container, what: str) -> None:
    """Add --select."""
    parser.add_argument(
        "--select",
        action="append",
        default=[],
        metavar="NAME",
        help=f"{what}; may be given several times",
    )


def selected(held: Held, names: Sequence[str]) -> Held:
    """Return what a file holds, or some of it: arrays by name, channels of the one that is there.

    Raises
    ------
    ValueError
        If one is not there.
    """
    if not names:
        return held
    there: Any = held if isinstance(held, Mapping) else held.channel_names
    if wrong := [name for name in names if name not in there]:
        msg = f"there is no {wrong[0]!r}, only {', '.join(there)}"
        raise ValueError(msg)
    if isinstance(held, Value):
        return held.select([there.index(name) for name in names])
    return held[names[0]] if len(names) == 1 else {name: held[name] for name in names}


def add_nodata(parser: Container) -> None:
    """Add --nodata."""
    parser.add_argument(
        "--nodata",
        type=_nodata,
        default="auto",
        metavar="V",
        help="stored values that mean 'nothing here', beside those that the format declares: a "
        "number, or one a channel as --nodata=0,0,255 (- for none); 'none': all that is stored is "
        "data",
    )


def choice_of(arguments: argparse.Namespace, **more: Any) -> Choice:
    """Return the parsed choice of what to read, for what reads sample by sample."""
    skips = arguments.on_error == "skip"
    chosen = chosen_of(arguments) | more
    return Choice(channel_axis=arguments.channel_axis, skips=skips, **chosen)


def chosen_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the parsed choice of what to read, as keywords."""
    return {
        "select": _one_or_list(arguments.select),
        "include": tuple(arguments.include),
        "exclude": tuple(arguments.exclude),
        "mode": arguments.mode,
    }


def transform_of(arguments: argparse.Namespace) -> Resized | None:
    """Return what --resize and --crop ask for; set the limit of --max-pixels."""
    if arguments.max_pixels is not None:
        needed("PIL.Image", "images", "--max-pixels").MAX_IMAGE_PIXELS = arguments.max_pixels
    if arguments.resize is None and arguments.crop is None:
        return None
    return Resized(arguments.resize, arguments.crop)


def names(text: str) -> list[str]:
    """Parse names of channels, each of its own."""
    found = [name.strip() for name in text.split(",")]
    if twice := [name for name in found if found.count(name) > 1]:
        msg = f"{twice[0]!r} is there twice: channels need names of their own"
        raise argparse.ArgumentTypeError(msg)
    return found


def _one_or_list(names: list[str]) -> Any:
    return names[0] if len(names) == 1 else names or None


def checked_output(path: str | None, sources: Sequence[str]) -> None:
    """Refuse an output that could not be written, or would destroy a source: before the work.

    Raises
    ------
    OSError
        If its folder is missing or closed, or it is a folder.
    ValueError
        If it is one of the sources.
    """
    if path is None:
        return
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    if os.path.isdir(target):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, "its folder does not exist", path)
    if not os.access(target if os.path.exists(target) else folder, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
    if target in map(os.path.realpath, sources):
        msg = f"{path} is one of the sources: it would be overwritten; name another output"
        raise ValueError(msg)


def report_of(held: Held) -> Report:
    """Return the report of a pass, of all its arrays together."""
    values = _values(held)
    reports = [value.meta.report for value in values]
    if all(entry.of_folder for value in values for entry in value.meta.provenance.passes):
        return sum(reports, Report())
    # Items hold all arrays.
    return replace(
        reports[0],
        read=max(report.read for report in reports),
        omitted=sum(report.omitted for report in reports),
    )


def what_happened(report: Report) -> str:
    """Say in one line what was read, left out and changed."""
    parts = [f"{report.read:,} read in {report.seconds:.1f} s"]
    parts += [f"{report.skipped:,} skipped"] * (report.skipped > 0)
    parts += [f"{report.ignored:,} ignored"] * (report.ignored > 0)
    parts += [f"{count:,} × {kind}" for kind, count in report.converted.items()]
    parts += [f"{report.omitted:,} values omitted"] * (report.omitted > 0)
    return "streamnorm: " + ", ".join(parts)


def scaled(held: Held, scale: Fraction) -> Any:
    """Divide, and say so in the provenance: 0 to 1 and 0 to 255 must not be confused later."""
    if isinstance(held, Mapping):
        return {name: scaled(value, scale) for name, value in held.items()}
    if scale == 1:
        return held
    moments: Any = held
    if isinstance(moments, ExactMoments):
        divided = moments.affine(1 / scale)
    else:
        divided = moments.affine(1 / float(scale))
    origin = divided.meta.provenance
    by = f"x / {float(scale):g}"
    passes = tuple(
        replace(entry, transform=by if entry.transform is None else f"{entry.transform}, {by}")
        for entry in origin.passes
    )
    return divided.with_meta(provenance=replace(origin, passes=passes))


def say_what_is_beyond(held: Held, ddof: float) -> None:
    """Say on stderr where a std is infinite only because float64 does not hold it."""
    for value in _values(held):
        beyond = np.isinf(value.std(ddof)) & np.isfinite(value.mean)
        if beyond.any():
            where = channels_where(beyond)
            print(f"streamnorm: the std of channel(s) {where} is beyond float64", file=sys.stderr)


def say_what_was_drawn(held: Held) -> None:
    """Say on stderr that the numbers are of a sample."""
    for value in _values(held):
        for entry in value.meta.provenance.passes:
            if entry.sample is not None:
                what = f"{entry.sample.taken:,} of {entry.sample.of:,}"
                error = "± is one standard error, clustered by image"
                print(f"streamnorm: a sample, {what}: {error}", file=sys.stderr)


def say_digests(held: Held, of: str = "") -> None:
    """Print on stderr the digests of exact values."""
    named = held.items() if isinstance(held, Mapping) else [("", held)]
    for name, value in named:
        if isinstance(value, ExactMoments):
            whose = f" of {name}" if name else ""
            print(f"streamnorm: exact, digest{whose}{of} {value.digest()}", file=sys.stderr)


def _values(held: Held) -> Sequence[Value]:
    return list(held.values()) if isinstance(held, Mapping) else [held]


def add_scale(parser: Container) -> None:
    """Add --scale."""
    parser.add_argument(
        "--scale",
        type=_scale,
        default=Fraction(1),
        metavar="S",
        help="divide every value by S; 255 gives the numbers of 8-bit images as 0 to 1",
    )


def add_label(parser: Container) -> None:
    """Add --label."""
    parser.add_argument(
        "--label",
        type=_label,
        metavar="LABEL",
        help="which part of which data this is: SOURCE or SOURCE#SHARD, with [START:STOP] behind "
        "if it is some of its rows or files",
    )


def add_ddof(parser: Container) -> None:
    """Add --ddof."""
    parser.add_argument(
        "--ddof",
        type=float,
        default=0,
        metavar="D",
        help="divide the sum of squares by count - D (default: 0)",
    )


def _channel_axis(text: str) -> ChannelAxis | str:
    if text.lower() in ("auto", "none"):
        return None if text.lower() == "none" else "auto"
    try:
        axes = tuple(int(part) for part in text.split(","))
    except ValueError:
        msg = f"expected a number, numbers like 1,2, 'none' or 'auto', got {text!r}"
        raise argparse.ArgumentTypeError(msg) from None
    return axes[0] if len(axes) == 1 else axes


def _label(text: str) -> Label:
    try:
        return Label.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _nodata(text: str) -> Any:
    if text in ("auto", "none"):
        return None if text == "none" else text
    try:
        values = [None if part.strip() == "-" else float(part) for part in text.split(",")]
    except ValueError:
        msg = f"expected a number, one a channel as 0,0,-, 'none' or 'auto'; got {text!r}"
        raise argparse.ArgumentTypeError(msg) from None
    return values[0] if len(values) == 1 else values


def _size(text: str) -> int | tuple[int, int]:
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        msg = f"expected a number of pixels, or HEIGHTxWIDTH; got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return int(parts[0]) if len(parts) == 1 else (int(parts[0]), int(parts[1]))


def positive(text: str) -> int:
    """Parse a whole number of at least 1."""
    if not text.isdigit() or int(text) < 1:
        msg = f"expected a whole number of at least 1, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _scale(text: str) -> Fraction:
    try:
        # First as float64: a rational with a huge exponent takes long to make.
        sensible = 0 < float(text) < math.inf
    except ValueError:
        sensible = False
    if not sensible:
        msg = f"expected a finite number above 0, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return Fraction(text)
