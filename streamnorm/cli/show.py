"""Print a state file."""

import argparse
import sys
from collections.abc import Iterator

from streamnorm.cli import formats, options
from streamnorm.exact import ExactMoments
from streamnorm.labels import listed
from streamnorm.state import load
from streamnorm.value import Value

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = """\
  streamnorm show train.json
  streamnorm show train.json --select action --format torchvision
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("file", metavar="FILE", help="state file")
    parser.add_argument("--format", choices=("table", "json", "torchvision"), default="table")
    options.add_select(parser, "which arrays, or which channels")
    options.add_scale(parser)
    options.add_ddof(parser)


def run(arguments: argparse.Namespace) -> None:
    """Load and print."""
    loaded = load(arguments.file)
    moments = options.selected(options.scaled(loaded, arguments.scale), arguments.select)
    if arguments.format == "table":
        text = formats.as_table(moments, arguments.ddof) + _about(moments)
        text += "".join(_digests(options.selected(loaded, arguments.select)))
    elif arguments.format == "json":
        text = formats.as_json(moments, arguments.ddof)
    else:
        text = formats.as_torchvision(moments, arguments.ddof)
    sys.stdout.write(text)
    options.say_what_is_beyond(moments, arguments.ddof)


def _about(held: formats.Held) -> str:
    """Say where the numbers came from; once where several arrays came from one pass."""
    if isinstance(held, Value):
        return "".join(_provenance(held, named=True))
    return "".join(dict.fromkeys("".join(_provenance(v, named=False)) for v in held.values()))


def _digests(held: formats.Held) -> Iterator[str]:
    for name, value in [("", held)] if isinstance(held, Value) else held.items():
        if isinstance(value, ExactMoments):
            yield f"exact, digest {f'of {name} ' if name else ''}{value.digest()}\n"


def _provenance(moments: Value, *, named: bool) -> Iterator[str]:
    origin = moments.meta.provenance
    if moments.meta.labels:
        yield f"labelled {listed(moments.meta.labels)}\n"
    for entry in origin.passes:
        skipped = f", {entry.report.skipped:,} skipped" if entry.report.skipped else ""
        transform = f", transform {entry.transform}" if entry.transform else ""
        array = f", array {entry.array}" if named and entry.array else ""
        split = f", split {entry.split}" if entry.split else ""
        split += f", every {entry.weigh} weighs the same" if entry.weigh else ""
        yield (
            f"from {entry.source}{array}: {entry.kind}{split}, {entry.report.read:,} read"
            f"{skipped}, {entry.dtype}{transform}, {entry.software}, {entry.time}\n"
        )
        there = entry.contents
        if there.count:
            between = f"{there.first} to {there.last}" if there.count > 1 else there.first
            yield f"  of {there.count:,}: {between}, digest {there.digest[:12]}\n"
        if entry.sample is not None:
            drawn = f"{entry.sample.taken:,} of {entry.sample.of:,}"
            yield f"  a sample, {drawn}; ± is a standard error\n"
        if entry.decoder:
            yield f"  decoded by {entry.decoder}\n"
    if origin.further:
        yield f"and {origin.further:,} more passes (digest {origin.digest[:12]})\n"
