"""What users of an engine meet: which columns, one value or a dict of them, errors as they were."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from typing import Any

from streamnorm.columns import columns_among
from streamnorm.engines.partitions import Found, Value, with_nulls
from streamnorm.errors import warn
from streamnorm.meta import Provenance
from streamnorm.sources.needs import needed

__all__ = ["ONE", "chosen_columns", "finished", "plain_errors", "required"]


class _Names(Enum):
    """Names that no column has."""

    ONE = "a source of one value"


ONE = _Names.ONE

_ERRORS = {"TypeError": TypeError, "ValueError": ValueError}
_RAISED = re.compile(r"^(?:.*\s)?(\w+(?:Error|Exception)): (.*)$", re.MULTILINE)


def required(module: str, extra: str) -> Any:
    """Import what an engine needs.

    Raises
    ------
    ImportError
        Naming the extra.
    """
    return needed(module, extra, f"streamnorm.engines.{extra}")


def chosen_columns(
    asked: Any, there: Sequence[Any], numeric: Sequence[Any], source: str
) -> list[Any]:
    """Return the columns to measure: those asked for, or all that are numeric.

    Raises
    ------
    ValueError
        If one is not there, or is there or asked for twice, or there is none.
    TypeError
        If what is asked for is neither a name nor a list of names.
    """
    chosen, note = columns_among(asked, there, numeric, source, "columns")
    if note:
        warn(note)
    return chosen


def finished(found: Mapping[Any, Found], names: Mapping[Any, str], kind: str, columns: Any) -> Any:
    """Return what was measured of a source: one value where there is one, else a dict of them.

    Parameters
    ----------
    found : mapping of str to Found
        In the columns, or of `ONE`.
    names : mapping of str to str
        What each is called in provenance.
    kind : str
        Of source, for provenance.
    columns : str, sequence of str or None
        What was asked for.

    Raises
    ------
    ValueError
        If there were no rows at all, or nothing but nulls of unknown size.
    """
    done = {column: _finished(of, names[column], kind) for column, of in found.items()}
    return done[columns] if isinstance(columns, str) else done.get(ONE, done)


def _finished(found: Found, name: str, kind: str) -> Value:
    value = with_nulls(found)
    if value is None or not (value.count.any() or value.omitted.any()):
        why = "is empty, there is nothing to measure"
        if rows := found.nulls + found.skipped:
            why = f"holds nothing but {rows:,} nulls: nobody knows what they would have been"
        msg = f"{name} {why}"
        raise ValueError(msg)
    entry = replace(value.meta.provenance.passes[0], source=name, kind=kind)
    report = replace(entry.report, omitted=int(value.omitted.sum()))
    if "+" in entry.dtype:
        what = f"the partitions of {name} are of different dtypes, {entry.dtype}"
        warn(f"{what}: are their scales the same?")
    if found.skipped:
        items = ((f"{found.skipped:,} rows", "null"),)
        report = replace(report, skipped=found.skipped, skipped_items=items)
        warn(f"{name}: {found.skipped:,} rows were skipped, as they are null")
    return value.with_meta(provenance=Provenance((replace(entry, report=report),)))


@contextmanager
def plain_errors(remedy: str) -> Iterator[None]:
    """Raise what workers raised here, as what it was; say so where they lack streamnorm.

    Engines wrap errors, or send only their text.
    """
    try:
        yield
    except Exception as error:
        said = _all_of(error)
        if re.search(r"No module named 'streamnorm['.]", said):
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
