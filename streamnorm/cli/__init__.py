"""The command line: one module a command.

Results go to stdout, progress and messages to stderr. Exit codes: 0 done, 1 the data or a file is
at fault (one line on stderr says how; `check` says on stdout), 2 the command line is, 130
interrupted.
"""

import argparse
import io
import os
import re
import sys
import warnings
from collections.abc import Sequence

from streamnorm.cli import (
    check,
    compare,
    completion,
    compute,
    export,
    import_,
    merge,
    plot,
    show,
    sources,
)
from streamnorm.errors import StreamnormWarning
from streamnorm.version import __version__

__all__ = ["main", "make_parser"]

_COMMANDS = (
    compute,
    merge,
    show,
    plot,
    compare,
    check,
    export,
    import_,
    sources,
    completion,
)

_LISTS = ("--nodata", "--mean", "--std", "--published")
"""Options whose values are numbers with commas between."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        # File names need not be text, and a terminal need not know every letter.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    arguments = make_parser().parse_args(_joined(sys.argv[1:] if argv is None else argv))
    warnings.showwarning = _show_warning
    warnings.simplefilter("always", StreamnormWarning)
    try:
        code: int = arguments.run(arguments) or 0
        sys.stdout.flush()
    except KeyboardInterrupt:
        kept = getattr(arguments, "checkpoint", None)
        what = "nothing was written"
        if kept and os.path.exists(kept):
            what = f"{kept} holds how far it was: the same command goes on from there"
        print(f"streamnorm: interrupted, {what}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output (head, less) has left: not an error of ours.
        sys.stdout = None
        return 0
    except (ImportError, OSError, OverflowError, TypeError, ValueError) as error:
        where = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
        print(f"streamnorm: error: {_as_options(_one_line(error))}{where}", file=sys.stderr)
        return 1
    return code


def _joined(argv: Sequence[str]) -> list[str]:
    """Return the arguments with lists that begin with a minus joined to their options.

    argparse takes ``-1,0`` for an option.
    """
    found: list[str] = []
    for text in argv:
        if found and found[-1] in _LISTS and re.match(r"-[\d.,]", text):
            found[-1] += f"={text}"
        else:
            found.append(text)
    return found


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="streamnorm",
        description="Mean and standard deviation of every channel of a data set, in one pass.",
        epilog="Exit codes: 0 done, 1 the data or a file is at fault, 2 usage, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"streamnorm {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    for module in _COMMANDS:
        name = module.__name__.rpartition(".")[2].rstrip("_")
        summary = (module.__doc__ or "").splitlines()[0]
        command = commands.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=f"examples:\n{module.EXAMPLES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run, parser=parser)
    return parser


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())


def _as_options(text: str) -> str:
    """Spell Python's keywords as the command line's options."""
    names = (
        "channel_axis|channels|checkpoint|select|include|exclude|mode|nodata|on_error|nan_policy"
        "|sample|by_folder|weigh"
    )
    text = text.removesuffix(", or pass verify=False if you trust it")
    text = re.sub(r"\b(exact|by_folder)=True", lambda m: f"--{m[1].replace('_', '-')}", text)
    text = re.sub(rf"\b({names})='([^']*)'", r"\1=\2", text)
    text = re.sub(rf"\b({names})=(?=\w|-)", lambda m: f"--{m[1].replace('_', '-')} ", text)
    return re.sub(rf"\b({names})=", lambda m: f"--{m[1].replace('_', '-')}", text)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    text = _as_options(" ".join(str(message).split()))
    print(f"streamnorm: warning: {text}", file=sys.stderr)
