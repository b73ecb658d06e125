"""Draw statistics: every channel, how they settle along the data, or groups side by side."""

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streamnorm.channels import concat
from streamnorm.cli import formats, options
from streamnorm.convergence import follow
from streamnorm.plotting import (
    picture_of_arrays,
    picture_of_channels,
    picture_of_convergence,
    picture_of_groups,
    rendered,
)
from streamnorm.state import load, write_atomically
from streamnorm.value import Value

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = """\
  streamnorm plot train.json -o train.png
  streamnorm plot data/train --convergence -o settling.svg
  streamnorm plot classes.json --groups -o classes.pdf
"""

_FORMS = ("png", "svg", "pdf")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "source",
        nargs="+",
        metavar="FILE",
        help="a state file; several, or --groups, are drawn side by side; with --convergence a "
        "data set",
    )
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="picture: .png, .svg or .pdf"
    )
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument(
        "--convergence",
        action="store_true",
        help="read the data set FILE, and draw how mean and std settle, beside the shortcut's std",
    )
    kinds.add_argument(
        "--groups", action="store_true", help="draw the arrays of FILE, such as classes, as panels"
    )
    options.add_channel_axis(parser)
    options.add_scale(parser)
    options.add_ddof(parser)
    options.add_reading(parser)


def run(arguments: argparse.Namespace) -> None:
    """Draw and write."""
    options.checked_output(arguments.output, arguments.source)
    form = arguments.output.rpartition(".")[2].lower()
    if form not in _FORMS:
        msg = f"{arguments.output}: a picture's name ends in .png, .svg or .pdf"
        raise ValueError(msg)
    _refuse_idle(arguments)
    figure = _convergence(arguments) if arguments.convergence else _statistics(arguments)
    write_atomically(Path(arguments.output), rendered(figure, form))
    print(f"streamnorm: drawn into {arguments.output}", file=sys.stderr)


def _refuse_idle(arguments: argparse.Namespace) -> None:
    """Refuse options that say how data are read where none are, and ddof where it says nothing."""
    reading = ("workers", "include", "exclude", "resize", "crop", "mode", "max_pixels")
    idle = ["ddof"] if arguments.convergence else list(reading)
    given = [name for name in idle if getattr(arguments, name)]
    if not arguments.convergence:
        given += ["channel_axis"] if arguments.channel_axis != "auto" else []
        given += ["on_error"] if arguments.on_error != "raise" else []
    if given:
        kind = "a picture with --convergence" if arguments.convergence else "a state file"
        msg = f"--{given[0].replace('_', '-')} does not apply to {kind}"
        raise ValueError(msg)


def _convergence(arguments: argparse.Namespace) -> Any:
    source = arguments.source[0] if len(arguments.source) == 1 else arguments.source
    curve = follow(
        source,
        choice=options.choice_of(arguments),
        workers=arguments.workers,
        transform=options.transform_of(arguments),
        scale=float(arguments.scale),
    )
    return picture_of_convergence(curve)


def _statistics(arguments: argparse.Namespace) -> Any:
    if folders := [path for path in arguments.source if os.path.isdir(path)]:
        msg = f"{folders[0]} is a folder, no state file; --convergence draws a data set"
        raise ValueError(msg)
    held = {
        path: options.scaled(options.selected(load(path), arguments.select), arguments.scale)
        for path in arguments.source
    }
    (first, value), *others = held.items()
    if not others and not arguments.groups:
        if not isinstance(value, Value) and any(one.channels > 1 for one in value.values()):
            return picture_of_arrays(value, first, arguments.ddof)
        # Columns of a table are read as the channels of one array.
        whole = value if isinstance(value, Value) else concat(value)
        return picture_of_channels(whole, _title(first, whole), arguments.ddof)
    groups: Mapping[str, Value]
    if others:
        names = _short_names(list(held))
        whole_values = (formats.alone(one, "a panel") for one in held.values())
        groups = dict(zip(names, whole_values, strict=True))
        title = f"{len(groups)} state files"
    else:
        groups, title = _as_groups(first, value), first
    return picture_of_groups(groups, title, arguments.ddof)


def _as_groups(path: str, held: formats.Held) -> Mapping[str, Value]:
    if isinstance(held, Value):
        msg = f"{path} holds one array, so there are no groups; leave --groups out"
        raise ValueError(msg)  # noqa: TRY004 - the file is wrong, not a type
    return held


def _title(path: str, value: Value) -> str:
    fewest, most = int(value.count.min()), int(value.count.max())
    seen = f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"
    return f"{path}: {seen} values a channel"


def _short_names(paths: list[str]) -> list[str]:
    """Return the names of files without what they have in common."""
    stems = [os.path.basename(path).partition(".")[0] for path in paths]
    return stems if len(set(stems)) == len(stems) else paths
