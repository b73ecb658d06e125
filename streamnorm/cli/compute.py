"""Measure a data set: a folder of images, image files, or .npy and .npz arrays."""

import argparse
import sys

from streamnorm.cli import formats, options
from streamnorm.compute import compute
from streamnorm.moments import Moments
from streamnorm.state import save

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("source", nargs="+", metavar="SOURCE", help="folder, file or files, glob")
    parser.add_argument("-o", "--output", metavar="FILE", help="save a state file")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options.add_channel_axis(parser)
    options.add_scale(parser)
    options.add_ddof(parser)
    options.add_workers(parser)
    parser.add_argument(
        "--nan-policy", choices=("propagate", "omit", "raise"), default="propagate",
        help="what NaN does to its channel (default: propagate)",
    )  # fmt: skip
    parser.add_argument(
        "--on-error", choices=("raise", "skip"), default="raise",
        help="what to do with files that cannot be read (default: raise)",
    )  # fmt: skip
    parser.add_argument("--select", metavar="NAME", help="which array of an .npz file")
    parser.add_argument("--include", action="append", default=[], metavar="GLOB")
    parser.add_argument("--exclude", action="append", default=[], metavar="GLOB")
    parser.add_argument("--mode", help="convert every image to this Pillow mode, such as RGB or L")


def run(arguments: argparse.Namespace) -> None:
    """Measure, save, print."""
    source = arguments.source[0] if len(arguments.source) == 1 else arguments.source
    moments = compute(
        source,
        channel_axis=arguments.channel_axis,
        nan_policy=arguments.nan_policy,
        workers=arguments.workers,
        on_error=arguments.on_error,
        select=arguments.select,
        include=arguments.include,
        exclude=arguments.exclude,
        mode=arguments.mode,
    )
    if arguments.scale != 1:
        moments = moments.affine(1 / arguments.scale)
    if arguments.output:
        save(moments, arguments.output)
    text = formats.as_json if arguments.json else formats.as_table
    sys.stdout.write(text(moments, arguments.ddof))
    print(_what_happened(moments), file=sys.stderr)


def _what_happened(moments: Moments) -> str:
    report = moments.meta.report
    parts = [f"{report.read:,} read in {report.seconds:.1f} s"]
    parts += [f"{report.skipped:,} skipped"] * (report.skipped > 0)
    parts += [f"{report.ignored:,} ignored"] * (report.ignored > 0)
    parts += [f"{count:,} × {kind}" for kind, count in report.converted.items()]
    parts += [f"{report.omitted:,} values omitted"] * (report.omitted > 0)
    return "streamnorm: " + ", ".join(parts)
