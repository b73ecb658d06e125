"""Show the std of a data set beside what the usual shortcuts give for it."""

import argparse
import json
import sys
from decimal import Decimal, InvalidOperation

import numpy as np

from streamnorm.cli import formats, options
from streamnorm.shortcuts import BATCH_SIZES, Comparison, compare

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = """\
  streamnorm compare data/train --scale 255
  streamnorm compare data/train --scale 255 --published 0.2023,0.1994,0.2010
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("source", metavar="SOURCE", help="folder, file, glob or URL")
    parser.add_argument(
        "--published",
        type=_numbers,
        metavar="S,S,...",
        help="a std to be explained, one per channel",
    )
    parser.add_argument(
        "--batch-sizes", type=_sizes, default=BATCH_SIZES, metavar="B,B,...",
        help="batch sizes of the per-batch rows (default: 64,256,1000)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options.add_channel_axis(parser)
    options.add_scale(parser)
    options.add_reading(parser)


def run(arguments: argparse.Namespace) -> None:
    """Compare and print."""
    comparison = compare(
        arguments.source,
        workers=arguments.workers,
        batch_sizes=arguments.batch_sizes,
        scale=float(arguments.scale),
        choice=options.choice_of(arguments),
        transform=options.transform_of(arguments),
    )
    published = arguments.published
    if published is not None and len(published[0]) != comparison.pooled.channels:
        msg = (
            f"--published has {len(published[0])} numbers but the data have "
            f"{comparison.pooled.channels} channels"
        )
        raise ValueError(msg)
    matches = None if published is None else comparison.matching(*published)
    print(options.what_happened(comparison.pooled.meta.report), file=sys.stderr)
    sys.stdout.write(_json(comparison, matches) if arguments.json else _table(comparison))
    if matches is not None and not arguments.json:
        print(_verdict(matches))


def _table(comparison: Comparison) -> str:
    truth = comparison.pooled.std()
    channels = range(comparison.pooled.channels)
    rows = [
        (
            "std (shortcuts with ddof 1, as torch)",
            *(f"channel {c}" for c in channels),
            *(f"error {c}" for c in channels),
        )
    ]
    right = ("pooled (the std of the data set)", *_digits(truth), *("" for _ in channels))
    rows.append(right)
    for shortcut in comparison.shortcuts:
        with np.errstate(all="ignore"):
            errors = (shortcut.std / truth - 1) * 100
        percent = [f"{error:+.2f} %" for error in errors.tolist()]
        rows.append((shortcut.name, *_digits(shortcut.std), *percent))
    mean = ("mean", *_digits(comparison.pooled.mean), *("" for _ in channels))
    return formats.rows_as_text([*rows, mean])


def _json(comparison: Comparison, matches: list[str] | None) -> str:
    plain = {
        "samples": comparison.samples,
        "mean": comparison.pooled.mean.tolist(),
        "std": comparison.pooled.std().tolist(),
        "shortcuts": {row.name: row.std.tolist() for row in comparison.shortcuts},
        "published_matches": matches,
    }
    return json.dumps(plain, indent=1) + "\n"


def _verdict(matches: list[str]) -> str:
    if not matches:
        return "published value matches none of these"
    if matches == ["pooled"]:
        return "published value matches the pooled std: it is right"
    if matches[0] == "pooled":
        shortcuts = ", ".join(matches[1:])
        return f"published value matches the pooled std, but in so few digits also: {shortcuts}"
    return f"published value matches the shortcut: {', '.join(matches)}"


def _digits(values: np.ndarray) -> list[str]:
    return [f"{value:.7g}" for value in values.tolist()]


def _numbers(text: str) -> tuple[list[float], float]:
    """Return the numbers, and one unit in their last digit: zeros at an end are often left out."""
    try:
        numbers = [Decimal(part.strip()) for part in text.split(",")]
    except InvalidOperation:
        numbers = []
    exponents = [number.as_tuple().exponent for number in numbers]
    last_digits = [digit for digit in exponents if isinstance(digit, int)]
    if not numbers or len(last_digits) != len(numbers):
        msg = f"expected numbers separated by commas, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return [float(number) for number in numbers], 10.0 ** min(last_digits)


def _sizes(text: str) -> tuple[int, ...]:
    sizes = [int(part) for part in text.split(",") if part.isdigit() and int(part) > 0]
    if len(sizes) != text.count(",") + 1:
        msg = f"expected whole numbers above 0 separated by commas, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return tuple(sizes)
