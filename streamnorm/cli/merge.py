"""Merge state files of parts into that of the whole."""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence

from streamnorm.cli import formats, options
from streamnorm.errors import StreamnormWarning
from streamnorm.exact import ExactMoments
from streamnorm.state import load, save
from streamnorm.value import Value, merge

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("part", nargs="+", metavar="PART", help="state files")
    parser.add_argument("-o", "--output", metavar="FILE", help="state file to write")
    parser.add_argument(
        "--expect",
        metavar="FILE",
        help="the labels of all parts, one a line: what is missing or not expected is an error",
    )
    options.add_ddof(parser)


def run(arguments: argparse.Namespace) -> None:
    """Load, merge, save, print."""
    paths = arguments.part
    options.checked_output(arguments.output, [])
    real = [os.path.realpath(path) for path in paths]
    if len(set(real)) != len(real):
        twice = next(path for path, file in zip(paths, real, strict=True) if real.count(file) > 1)
        msg = f"{twice} is given twice: its data would be counted twice"
        raise ValueError(msg)
    parts = [load(path) for path in paths]
    _check_alike(paths, parts)
    total = merge(parts, expect=arguments.expect and _lines(arguments.expect))
    sys.stdout.write(formats.as_table(total, arguments.ddof))
    transforms = {str(entry.transform) for entry in total.meta.provenance.passes}
    if len(transforms) > 1:
        what = f"the parts were transformed differently ({', '.join(sorted(transforms))})"
        warnings.warn(f"{what}: are their scales the same?", StreamnormWarning, stacklevel=2)
    if isinstance(total, ExactMoments):
        print(f"streamnorm: exact, digest {total.digest()}", file=sys.stderr)
    options.say_what_is_beyond(total, arguments.ddof)
    where = f" into {arguments.output}" if arguments.output else ""
    if arguments.output:
        save(total, arguments.output)
    print(f"streamnorm: merged {len(paths):,}{where}", file=sys.stderr)


def _lines(path: str) -> list[str]:
    with open(path, encoding="utf-8") as file:
        lines = (line.strip() for line in file)
        return [line for line in lines if line and not line.startswith("#")]


def _check_alike(paths: Sequence[str], parts: Sequence[Value]) -> None:
    """Refuse exact and rounded parts together, by the names of their files."""
    exact = [isinstance(part, ExactMoments) for part in parts]
    if any(exact) and not all(exact):
        msg = (
            f"{paths[exact.index(True)]} is exact but {paths[exact.index(False)]} is not: what was "
            f"rounded cannot become exact again; compute all parts with --exact, or none"
        )
        raise ValueError(msg)
