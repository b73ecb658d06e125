"""Which of the named arrays of a source are measured; and rows of which nothing is known."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from streamnorm.channels import with_rows
from streamnorm.exact import ExactMoments
from streamnorm.meta import NO_META
from streamnorm.moments import Moments

__all__ = ["columns_among", "with_nulls"]


def columns_among(
    asked: Any, there: Sequence[Any], numeric: Sequence[Any], source: str, option: str
) -> tuple[list[Any], str]:
    """Return the columns to measure: those asked for, or all that are numeric.

    Parameters
    ----------
    asked : str, sequence of str or None
        By the user, as `option`.
    there, numeric : sequence of str
        All names, and those whose arrays hold numbers.
    source, option : str
        For messages.

    Returns
    -------
    chosen : list of str
    note : str
        What is to be warned of, if anything.

    Raises
    ------
    ValueError
        If one is not there, or is there or asked for twice, or there is none.
    TypeError
        If what is asked for is neither a name nor a list of names.
    """
    chosen = list(numeric) if asked is None else _as_names(asked, option)
    asked_for, found = Counter(chosen), Counter(there)
    if wrong := [name for name in chosen if not found[name]]:
        msg = f"{source} has no column {', '.join(map(repr, wrong))}; it has {list(there)}"
        raise ValueError(msg)
    if twice := [name for name in chosen if asked_for[name] > 1 or found[name] > 1]:
        msg = f"column {twice[0]!r} of {source} is there twice, or named twice; each needs one name"
        raise ValueError(msg)
    if not chosen:
        none = "has no numeric columns" if asked is None else "was asked for no columns"
        msg = f"{source} {none}, it has {list(there)}; name some with {option}="
        raise ValueError(msg)
    others = [name for name in there if not asked_for[name]] if asked is None else []
    names = ", ".join(map(repr, others))
    note = f"{source}: columns left out, as their type is not numeric: {names}" if others else ""
    return chosen, note


def _as_names(asked: Any, option: str) -> list[Any]:
    if isinstance(asked, str):
        return [asked]
    try:
        return list(asked)
    except TypeError:
        msg = f"{option}= takes a name or a list of names, got {type(asked).__qualname__} {asked!r}"
        raise TypeError(msg) from None


def with_nulls(
    value: Moments | ExactMoments, nulls: int, each: Collection[int], where: str
) -> Moments | ExactMoments:
    """Count rows of which nothing is known among the omitted values, now that all is known.

    Parameters
    ----------
    value : Moments or ExactMoments
        Of the other rows.
    nulls : int
        Rows that are null.
    each : collection of int
        How many values of a channel the other rows have.
    where : str
        Where the nulls are.

    Raises
    ------
    ValueError
        If it is not known how many values a null stands for.
    """
    if not nulls:
        return value
    if len(each) != 1:
        msg = (
            f"{nulls:,} rows are null in {where} that hold nothing else, and other rows have "
            f"{' or '.join(map(str, each))} values of a channel, so nobody knows how many are "
            f"missing; leave them out"
        )
        raise ValueError(msg)
    missing = type(value).empty(value.channels).rows.copy()
    missing["omitted"] = nulls * next(iter(each))
    whole: Moments | ExactMoments = value + with_rows(value, missing, NO_META)
    return whole
