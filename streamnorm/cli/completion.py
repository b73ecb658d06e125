"""Print what makes a shell complete commands, options and files."""

import argparse
import sys
from typing import Any

from streamnorm.sources.needs import needed

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = """\
  streamnorm completion bash >> ~/.bash_completion
  streamnorm completion zsh > ~/.zfunc/_streamnorm
"""
_FILES = ("FILE", "SOURCE", "PART", "STATS")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"))


def run(arguments: argparse.Namespace) -> None:
    """Print the script."""
    shtab = needed("shtab", "completion", "completion")
    _mark_files(arguments.parser, shtab.FILE)
    sys.stdout.write(shtab.complete(arguments.parser, arguments.shell) + "\n")


def _mark_files(parser: argparse.ArgumentParser, kind: Any) -> None:
    for action in parser._actions:  # noqa: SLF001 - argparse has no public list of them
        if action.metavar in _FILES:
            action.complete = kind  # type: ignore[attr-defined]
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for command in action.choices.values():
                _mark_files(command, kind)
