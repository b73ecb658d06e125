"""Merge state files of parts into that of the whole."""

import argparse
import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from streamnorm.cli import formats, options
from streamnorm.dtypes import scales_may_differ
from streamnorm.errors import warn
from streamnorm.exact import ExactMoments
from streamnorm.labels import Label
from streamnorm.state import load, save
from streamnorm.value import Value, merge
from streamnorm.weighted import WeightedMoments

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = """\
  streamnorm merge part-*.json -o all.json
  streamnorm merge part-*.json --expect shards.txt -o all.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("part", nargs="+", metavar="PART", help="state files")
    parser.add_argument("-o", "--output", metavar="FILE", help="state file to write")
    parser.add_argument(
        "--expect",
        metavar="FILE",
        help="the labels of all parts, one a line, # begins a comment: what is missing or not "
        "expected is an error",
    )
    options.add_ddof(parser)


def run(arguments: argparse.Namespace) -> None:
    """Load, merge, save, print."""
    paths = arguments.part
    options.checked_output(arguments.output, [])
    _refuse_copies(paths)
    parts = [load(path) for path in paths]
    _check_alike(paths, parts)
    total = merge(parts, expect=arguments.expect and _expected(arguments.expect))
    sys.stdout.write(formats.as_table(total, arguments.ddof))
    for text in dict.fromkeys(_warnings(_values(parts))):
        warn(text)
    options.say_digests(total)
    options.say_what_is_beyond(total, arguments.ddof)
    where = f" into {arguments.output}" if arguments.output else ""
    if arguments.output:
        save(total, arguments.output)
    print(f"streamnorm: merged {len(paths):,}{where}", file=sys.stderr)


def _refuse_copies(paths: Sequence[str]) -> None:
    """Refuse a file that is named twice, or is the copy of another."""
    seen: dict[bytes, str] = {}
    for path in paths:
        # What is no file, a pipe say, can be read only once.
        if not os.path.isfile(path):
            continue
        other = seen.setdefault(hashlib.sha256(Path(path).read_bytes()).digest(), path)
        if other is not path:
            same = os.path.realpath(path) == os.path.realpath(other)
            what = f"{path} is given twice" if same else f"{path} is a copy of {other}"
            msg = (
                f"{what}: its data would be counted twice; name it once, or, if they are of "
                f"different data, compute them with a --label each"
            )
            raise ValueError(msg)


def _expected(path: str) -> list[Label]:
    """Read labels, one a line."""
    found = []
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        for number, line in enumerate(file, 1):
            text = line.strip()
            try:
                found += [Label.parse(text)] if text and not text.startswith("#") else []
            except ValueError as error:
                msg = f"{path}, line {number}: {error}; one label a line is expected"
                raise ValueError(msg) from error
    return found


def _warnings(parts: Sequence[Value]) -> Iterator[str]:
    """Say what may be wrong with the parts together, and what they have left out."""
    passes = [entry for part in parts for entry in part.meta.provenance.passes]
    transforms = {str(entry.transform) for entry in passes}
    if len(transforms) > 1:
        what = f"the parts were transformed differently ({', '.join(sorted(transforms))})"
        yield f"{what}: are their scales the same?"
    yield from _twice([part for part in parts if not part.meta.labels])
    if any(entry.sample is not None for entry in passes):
        yield "of a part only a sample was read: it stands beside the others as if it were all"
    dtypes = {dtype for entry in passes for dtype in entry.dtype.split("+") if dtype}
    if scales_may_differ(dtypes):
        yield f"the parts hold {' and '.join(sorted(dtypes))}: are their scales the same?"
    reports = [part.meta.report for part in parts]
    if skipped := sum(report.skipped for report in reports):
        least = "at least " * any(part.meta.provenance.further for part in parts)
        items = [item for report in reports for item in report.skipped_items]
        example = ", for example {} ({})".format(*items[0]) if items else ""
        yield f"{least}{skipped:,} item(s) of the parts were skipped{example}"


def _twice(parts: Sequence[Value]) -> Iterator[str]:
    """Say which parts may be of the same data: labels would tell."""
    seen: set[tuple[str, str]] = set()
    for part in parts:
        for entry in part.meta.provenance.passes:
            key = (entry.contents.digest, entry.array)
            if entry.names_its_data and key in seen:
                yield (
                    f"{entry.source} was measured twice, or has files of the same names and sizes "
                    f"as another: the same data would be counted twice; a --label each tells"
                )
                return
            seen.add(key)


def _values(parts: Sequence[formats.Held]) -> list[Value]:
    """Return all values: of several arrays in a file the first, whose pass is that of all."""
    return [part if isinstance(part, Value) else next(iter(part.values())) for part in parts]


def _check_alike(paths: Sequence[str], parts: Sequence[formats.Held]) -> None:
    """Refuse exact and rounded, weighted and unweighted parts together, by the names of files."""
    weighted = [isinstance(value, WeightedMoments) for value in _values(parts)]
    if any(weighted) and not all(weighted):
        msg = (
            f"{paths[weighted.index(True)]} is weighted, every image the same or by weights of its "
            f"own, but {paths[weighted.index(False)]} is not; compute all parts alike"
        )
        raise ValueError(msg)
    exact = [isinstance(value, ExactMoments) for value in _values(parts)]
    if any(exact) and not all(exact):
        msg = (
            f"{paths[exact.index(True)]} is exact but {paths[exact.index(False)]} is not: what was "
            f"rounded cannot become exact again; compute all parts with --exact, or none"
        )
        raise ValueError(msg)
