"""List what can be read, what is installed for it, and how to install the rest."""

import argparse
import json
import sys

from streamnorm.cli import formats
from streamnorm.sources.formats import FORMATS

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = """\
  streamnorm sources
"""

_OBJECTS = """\
In Python also: arrays and memory maps, tensors, DataLoaders, iterables of arrays or of dicts of
them, tables of pandas, Polars and Arrow, xarray objects. URLs need streamnorm[cloud].
"""
_MOST_SUFFIXES = 6
_COMMON = (".jpeg", ".jpg", ".png", ".tif")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> None:
    """Print."""
    if arguments.json:
        plain = [
            {
                "format": known.name,
                "suffixes": known.suffixes,
                "needs": known.needs,
                "missing": known.missing,
                "install": known.hint if known.extra else None,
            }
            for known in FORMATS
        ]
        sys.stdout.write(json.dumps(plain, indent=1) + "\n")
        return
    rows = [("format", "names end in", "read by")]
    for known in FORMATS:
        common_first = sorted(known.suffixes, key=lambda suffix: suffix not in _COMMON)
        shown = " ".join(common_first[:_MOST_SUFFIXES])
        more = " …" if len(known.suffixes) > _MOST_SUFFIXES else ""
        state = f"missing: {known.hint}" if known.missing else known.versions or "built in"
        rows.append((known.name, shown + more, state))
    lines = formats.rows_as_text(rows, numbers=False)
    sys.stdout.write(f"{lines}\n{_OBJECTS}")
