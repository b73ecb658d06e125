"""Measure a data set: images, arrays, tables, rasters and more, in files, folders, URLs."""

import argparse
import os
import sys
from pathlib import Path

from streamnorm.cli import formats, options
from streamnorm.compute import compute
from streamnorm.state import remove_temporaries, save

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = """\
  streamnorm compute data/train --scale 255 -o train.json
  streamnorm compute 'data/*.parquet' --select observation.state --split train
  streamnorm compute scene.tif --nodata 0
  streamnorm compute data/train --sample 1000
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "source", nargs="+", metavar="SOURCE", help="folder, file or files, glob, URL"
    )
    result = parser.add_argument_group("result")
    result.add_argument("-o", "--output", metavar="FILE", help="save a state file")
    result.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options.add_scale(result)
    options.add_ddof(result)
    result.add_argument(
        "--exact",
        action="store_true",
        help="add up in integers: the same bits whatever the order, workers or sharding",
    )
    result.add_argument(
        "--channels",
        type=options.names,
        metavar="NAME,...",
        help="names of the channels, kept in the state file",
    )
    result.add_argument(
        "--split", default="", metavar="NAME", help="which split this is, for the state file"
    )
    options.add_label(result)
    _add_counting(parser)
    options.add_reading(parser)
    passing = parser.add_argument_group("long passes")
    passing.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="keep in FILE how far this is; when killed, the same command goes on where it was",
    )


def _add_counting(parser: argparse.ArgumentParser) -> None:
    counting = parser.add_argument_group("what counts")
    options.add_channel_axis(counting)
    options.add_nodata(counting)
    counting.add_argument(
        "--nan-policy",
        choices=("propagate", "omit", "raise"),
        default="propagate",
        help="what NaN does to its channel (default: propagate)",
    )
    counting.add_argument(
        "--weigh",
        choices=("pixel", "image"),
        default="pixel",
        help="whether every pixel counts the same, or every image (default: pixel)",
    )
    counting.add_argument(
        "--by-folder",
        action="store_true",
        help="images of each folder, such as a class, by themselves; plot --groups draws them",
    )
    counting.add_argument(
        "--sample",
        type=options.positive,
        metavar="N",
        help="read only N images of a folder, or samples of a .npy file, drawn at random: a first "
        "answer, with standard errors",
    )


def run(arguments: argparse.Namespace) -> None:
    """Measure, print, save."""
    options.checked_output(arguments.output, arguments.source)
    options.checked_output(arguments.checkpoint, arguments.source)
    if arguments.checkpoint:
        _look_at(arguments.checkpoint, arguments.output)
    if arguments.exact and arguments.output and arguments.scale != 1:
        msg = (
            "--scale rounds, so what it gives is not exact; save the sums of the stored values "
            "without --scale, and give it to show or export later; or leave --exact out"
        )
        raise ValueError(msg)
    source = arguments.source[0] if len(arguments.source) == 1 else arguments.source
    moments = compute(
        source,
        channel_axis=arguments.channel_axis,
        exact=arguments.exact,
        nan_policy=arguments.nan_policy,
        workers=arguments.workers,
        on_error=arguments.on_error,
        checkpoint=arguments.checkpoint,
        label=arguments.label,
        nodata=arguments.nodata,
        channels=arguments.channels,
        split=arguments.split,
        transform=options.transform_of(arguments),
        sample=arguments.sample,
        weigh=arguments.weigh,
        by_folder=arguments.by_folder,
        **options.chosen_of(arguments),
    )
    stored = moments
    moments = options.scaled(moments, arguments.scale)
    text = formats.as_json if arguments.json else formats.as_table
    sys.stdout.write(text(moments, arguments.ddof))
    print(options.what_happened(options.report_of(moments)), file=sys.stderr)
    options.say_what_was_drawn(moments)
    options.say_digests(stored, " of the stored values" if arguments.scale != 1 else "")
    options.say_what_is_beyond(moments, arguments.ddof)
    if arguments.output:
        save(moments, arguments.output)
    if arguments.checkpoint:
        # Not before the result is safe: killed in between, the same command writes it again.
        sys.stdout.flush()
        Path(arguments.checkpoint).unlink(missing_ok=True)


def _look_at(checkpoint: str, output: str | None) -> None:
    """Say whether a pass goes on; remove what a kill has left beside its output."""
    if output is not None:
        if os.path.realpath(checkpoint) == os.path.realpath(output):
            msg = f"{checkpoint} is the output: name another file as --checkpoint"
            raise ValueError(msg)
        remove_temporaries(Path(output))
    if os.path.exists(checkpoint):
        print(f"streamnorm: going on from {checkpoint}", file=sys.stderr)
