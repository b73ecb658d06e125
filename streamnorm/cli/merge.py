"""Merge state files of parts into that of the whole."""

import argparse
import sys

from streamnorm.cli import formats, options
from streamnorm.moments import merge
from streamnorm.state import load, save

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("part", nargs="+", metavar="PART", help="state files")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="state file to write")
    options.add_ddof(parser)


def run(arguments: argparse.Namespace) -> None:
    """Load, merge, save, print."""
    paths = arguments.part
    if len(set(paths)) != len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        msg = f"{twice} is given twice: its data would be counted twice"
        raise ValueError(msg)
    total = merge([load(path) for path in paths])
    save(total, arguments.output)
    sys.stdout.write(formats.as_table(total, arguments.ddof))
    print(f"streamnorm: {len(paths):,} parts merged into {arguments.output}", file=sys.stderr)
