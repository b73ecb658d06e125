"""What users of an engine meet: which columns, one value or a dict of them, errors as they were."""

import importlib
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from streamnorm.engines.partitions import ONE, Value
from streamnorm.errors import StreamnormWarning
from streamnorm.meta import Provenance

__all__ = ["chosen_columns", "finished", "plain_errors", "required"]

_ERRORS = {"TypeError": TypeError, "ValueError": ValueError}
_RAISED = re.compile(r"^(?:.*\s)?(\w+(?:Error|Exception)): (.*)$", re.MULTILINE)


def required(module: str, extra: str) -> Any:
    """Import what an engine needs.

    Raises
    ------
    ImportError
        Naming the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        msg = (
            f"streamnorm.engines.{extra} needs {name} ({error}); install it with: "
            f"pip install 'streamnorm[{extra}]'"
        )
        raise ImportError(msg) from error


def chosen_columns(
    asked: str | Sequence[str] | None, there: Sequence[str], numeric: Sequence[str], source: str
) -> list[str]:
    """Return the columns to measure: those asked for, or all that are numeric.

    Raises
    ------
    ValueError
        If one is not there, or none is numeric.
    """
    if asked is not None:
        chosen = [asked] if isinstance(asked, str) else list(asked)
        if wrong := [name for name in chosen if name not in there]:
            msg = f"{source} has no column {', '.join(map(repr, wrong))}; it has {list(there)}"
            raise ValueError(msg)
        return chosen
    if not numeric:
        msg = f"{source} has no numeric columns, only {list(there)}; name some with columns="
        raise ValueError(msg)
    if others := [name for name in there if name not in numeric]:
        what = f"left out, as they hold no numbers: {', '.join(map(repr, others))}"
        _warn(f"{source}: columns {what}")
    return list(numeric)


def finished(
    values: Mapping[str, Value | None],
    names: Mapping[str, str],
    kind: str,
    columns: str | Sequence[str] | None,
) -> Any:
    """Return what was measured of a source: one value where there is one, else a dict of them.

    Parameters
    ----------
    values : mapping of str to Moments, ExactMoments or None
        Of the columns, or of `ONE`.
    names : mapping of str to str
        What each is called in provenance.
    kind : str
        Of source, for provenance.
    columns : str, sequence of str or None
        What was asked for.

    Raises
    ------
    ValueError
        If there were no rows at all.
    """
    done = {}
    for column, value in values.items():
        if value is None or not (value.count.any() or value.omitted.any()):
            msg = f"{names[column]} is empty, there is nothing to measure"
            raise ValueError(msg)
        entry = replace(value.meta.provenance.passes[0], source=names[column], kind=kind)
        if "+" in entry.dtype:
            what = f"the partitions of {entry.source} are of different dtypes, {entry.dtype}"
            _warn(f"{what}: are their scales the same?")
        done[column] = value.with_meta(provenance=Provenance((entry,)))
    return done[columns] if isinstance(columns, str) else done.get(ONE, done)


def _warn(text: str) -> None:
    """Warn whoever called us from outside."""
    level, frame = 2, sys._getframe(1)  # noqa: SLF001 - what warnings.warn looks at too
    while frame.f_back is not None and frame.f_globals.get("__package__") == __package__:
        level, frame = level + 1, frame.f_back
    warnings.warn(text, StreamnormWarning, stacklevel=level)


@contextmanager
def plain_errors(remedy: str) -> Iterator[None]:
    """Raise what workers raised here, as what it was; say so where they lack streamnorm.

    Engines wrap errors, or send only their text.
    """
    try:
        yield
    except Exception as error:
        said = _all_of(error)
        if "No module named 'streamnorm" in said:
            msg = f"the workers have no streamnorm: install it where they run, {remedy}"
            raise ModuleNotFoundError(msg) from error
        found = _RAISED.findall(said)
        kind, text = found[-1] if found else ("", "")
        if kind not in _ERRORS or type(error) in _ERRORS.values():
            raise
        raise _ERRORS[kind](text) from error


def _all_of(error: BaseException | None) -> str:
    said = ""
    while error is not None:
        said += f"{error}\n"
        error = error.__cause__ or error.__context__
    return said
