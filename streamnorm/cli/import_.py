"""Take over statistics that others computed: published numbers, LeRobot's files, a scaler."""

import argparse
import sys
from typing import Any

from streamnorm.cli import formats, options
from streamnorm.exchange import from_lerobot, from_scaler
from streamnorm.moments import Moments
from streamnorm.origin import new_pass
from streamnorm.sources.needs import needed
from streamnorm.state import save
from streamnorm.value import Value

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = """\
  streamnorm import meta/episodes_stats.jsonl -o robot.json
  streamnorm import --mean 0.1307 --std 0.3081 --count 47040000 -o mnist.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "file",
        nargs="?",
        metavar="FILE",
        help="LeRobot's stats.json or episodes_stats.jsonl, or a StandardScaler that joblib wrote "
        "(.joblib, .pkl: reading runs code, so only files that you trust)",
    )
    parser.add_argument("--mean", type=_numbers, metavar="M,M,...", help="published means")
    parser.add_argument("--std", type=_numbers, metavar="S,S,...", help="published stds")
    parser.add_argument(
        "--count",
        type=_counts,
        metavar="N",
        help="values behind each: pixels a channel, not images",
    )
    parser.add_argument(
        "--names", metavar="NAME,...", help="names of the channels", type=options.names
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="state file to write")
    options.add_ddof(parser)


def run(arguments: argparse.Namespace) -> None:
    """Take over, print, save."""
    options.checked_output(arguments.output, [arguments.file] if arguments.file else [])
    numbers = (arguments.mean, arguments.std, arguments.count, arguments.names)
    if arguments.file and any(given is not None for given in numbers):
        msg = f"{arguments.file} has its own numbers: leave --mean, --std, --count and --names out"
        raise ValueError(msg)
    held = _from_file(arguments.file) if arguments.file else _from_numbers(arguments)
    sys.stdout.write(formats.as_table(held, arguments.ddof))
    if arguments.output:
        save(held, arguments.output)


def _from_numbers(arguments: argparse.Namespace) -> Value:
    if arguments.mean is None or arguments.std is None or arguments.count is None:
        msg = "expected a FILE, or --mean, --std and --count: without a count nothing can be merged"
        raise ValueError(msg)
    mean, std, count = arguments.mean, arguments.std, arguments.count
    if len(mean) != len(std) or len(count) not in (1, len(mean)):
        msg = f"--mean has {len(mean)} numbers, --std {len(std)} and --count {len(count)}"
        raise ValueError(msg)
    counts: Any = count[0] if len(count) == 1 else count
    value = Moments.from_mean_std(counts, mean, std, arguments.ddof)
    names = None if arguments.names is None else tuple(arguments.names)
    return _from("the command line", value.with_meta(names=names))


def _from_file(path: str) -> formats.Held:
    if path.endswith((".joblib", ".pkl", ".pickle")):
        loaded = needed("joblib", "sklearn", path).load(path)
        return _from(path, from_scaler(loaded))
    return {name: _from(path, value) for name, value in from_lerobot(path).items()}


def _from(source: str, value: Moments) -> Moments:
    entry = new_pass(source, "statistics of others", dtype="unknown")
    return value.with_meta(provenance=value.meta.with_pass(entry).provenance)


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        msg = f"expected numbers separated by commas, got {text!r}"
        raise argparse.ArgumentTypeError(msg) from None


def _counts(text: str) -> list[int]:
    parts = [part.strip().replace("_", "") for part in text.split(",")]
    if not all(part.isdigit() for part in parts):
        msg = f"expected whole numbers separated by commas, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return list(map(int, parts))
