"""Print a state file."""

import argparse
import sys

from streamnorm.cli import formats, options
from streamnorm.exact import ExactMoments
from streamnorm.labels import listed
from streamnorm.state import load
from streamnorm.value import Value

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("file", metavar="FILE", help="state file")
    parser.add_argument("--format", choices=("table", "json", "torchvision"), default="table")
    options.add_scale(parser)
    options.add_ddof(parser)


def run(arguments: argparse.Namespace) -> None:
    """Load and print."""
    loaded = load(arguments.file)
    moments = options.scaled(loaded, arguments.scale)
    if arguments.format == "table":
        text = formats.as_table(moments, arguments.ddof) + _provenance(moments)
        if isinstance(loaded, ExactMoments):
            text += f"exact, digest {loaded.digest()}\n"
    elif arguments.format == "json":
        text = formats.as_json(moments, arguments.ddof)
    else:
        text = formats.as_torchvision(moments, arguments.ddof)
    sys.stdout.write(text)
    options.say_what_is_beyond(moments, arguments.ddof)


def _provenance(moments: Value) -> str:
    origin = moments.meta.provenance
    labels = moments.meta.labels
    lines = [f"labelled {listed(labels)}\n"] if labels else []
    for entry in origin.passes:
        skipped = f", {entry.report.skipped:,} skipped" if entry.report.skipped else ""
        transform = f", transform {entry.transform}" if entry.transform else ""
        lines.append(
            f"from {entry.source}: {entry.kind}, {entry.report.read:,} read{skipped}, "
            f"{entry.dtype}{transform}, {entry.software}, {entry.time}\n"
        )
    if origin.further:
        lines.append(f"and {origin.further:,} more passes (digest {origin.digest[:12]})\n")
    return "".join(lines)
