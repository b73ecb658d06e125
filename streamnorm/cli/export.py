"""Write mean and std in the form that another tool reads."""

import argparse
import io
import sys
from pathlib import Path

import numpy as np

from streamnorm.channels import concat
from streamnorm.cli import formats, options
from streamnorm.exchange import to_scaler
from streamnorm.sources.needs import needed
from streamnorm.state import load, write_atomically
from streamnorm.value import Value

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = """\
  streamnorm export train.json --format torchvision
  streamnorm export robot.json --format lerobot -o meta/stats.json
"""

_TEXT = {
    "torchvision": formats.as_torchvision,
    "json": formats.as_json,
    "yaml": formats.as_yaml,
    "lerobot": formats.as_lerobot,
}
_BINARY = ("npz", "sklearn")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("file", metavar="FILE", help="state file")
    parser.add_argument(
        "--format",
        choices=(*_TEXT, *_BINARY),
        required=True,
        help="sklearn: a fitted StandardScaler, to be read by joblib.load",
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="default: stdout (npz and sklearn need it)"
    )
    options.add_select(parser, "which arrays, or which channels")
    options.add_scale(parser)
    options.add_ddof(parser)


def run(arguments: argparse.Namespace) -> None:
    """Load, convert, write."""
    options.checked_output(arguments.output, [arguments.file])
    loaded = options.selected(load(arguments.file), arguments.select)
    moments = options.scaled(loaded, arguments.scale)
    if arguments.format in _BINARY:
        if not arguments.output:
            msg = f"--format {arguments.format} is binary: name a file with -o"
            raise ValueError(msg)
        of_a_table = arguments.format == "sklearn" and not isinstance(moments, Value)
        value = concat(moments) if of_a_table else formats.alone(moments, arguments.format)
        if arguments.format == "sklearn" and arguments.ddof:
            msg = "a StandardScaler divides by the count: leave --ddof out"
            raise ValueError(msg)
        data = _npz(value, arguments.ddof) if arguments.format == "npz" else _scaler(value)
        write_atomically(Path(arguments.output), data)
        return
    text = _TEXT[arguments.format](moments, arguments.ddof)
    if arguments.output:
        write_atomically(Path(arguments.output), text.encode())
    else:
        sys.stdout.write(text)


def _npz(moments: Value, ddof: float) -> bytes:
    buffer = io.BytesIO()
    arrays = {name: getattr(moments, name) for name in ("count", "mean", "minimum", "maximum")}
    np.savez(buffer, std=moments.std(ddof), **arrays)
    return buffer.getvalue()


def _scaler(moments: Value) -> bytes:
    buffer = io.BytesIO()
    scaler = to_scaler(moments)
    needed("joblib", "sklearn", "a scikit-learn scaler").dump(scaler, buffer)
    return buffer.getvalue()
