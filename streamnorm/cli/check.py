"""Say in plain words what is wrong with a state file, or with data that it is for."""

import argparse
import json
import sys
from dataclasses import asdict

from streamnorm.cli import options
from streamnorm.doctor import check
from streamnorm.findings import Finding
from streamnorm.state import load

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = """\
  streamnorm check train.json
  streamnorm check train.json data/val
  streamnorm check train.json normalized.npy --normalized
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("file", metavar="STATS", help="state file")
    parser.add_argument("source", nargs="?", metavar="SOURCE", help="the data that it is for")
    parser.add_argument(
        "--normalized",
        action="store_true",
        help="SOURCE was normalized: it should have mean 0 and std 1 in every channel",
    )
    parser.add_argument(
        "--strict", action="store_true", help="exit 1 for what is doubtful too, not only wrong"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    options.add_channel_axis(parser)
    options.add_scale(parser)
    options.add_reading(parser)
    options.add_nodata(parser)


def run(arguments: argparse.Namespace) -> int:
    """Examine and print; return the exit code."""
    found = check(
        load(arguments.file),
        arguments.source,
        normalized=arguments.normalized,
        choice=options.choice_of(arguments, nodata=arguments.nodata),
        workers=arguments.workers,
        transform=options.transform_of(arguments),
        scale=float(arguments.scale),
    )
    if arguments.json:
        plain = {"file": arguments.file, "findings": [asdict(finding) for finding in found]}
        sys.stdout.write(json.dumps(plain, indent=1) + "\n")
    else:
        sys.stdout.write(_text(found))
    failing = [f for f in found if f.severity == "wrong" or arguments.strict]
    return 1 if failing else 0


def _text(found: list[Finding]) -> str:
    if not found:
        return "nothing wrong was found\n"
    lines = []
    for finding in sorted(found, key=lambda one: one.severity, reverse=True):
        where = f"{finding.array}: " if finding.array else ""
        channels = ", ".join(finding.channels[:10]) + (", …" if len(finding.channels) > 10 else "")
        where += f"channel(s) {channels} " if finding.channels else ""
        lines.append(f"{finding.severity}: {where}{finding.text} [{finding.code}]\n")
    return "".join(lines)
