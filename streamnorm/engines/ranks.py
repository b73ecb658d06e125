"""Values of ranks -> one value on every rank, by whatever gathers words from all of them."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from streamnorm.exact import ExactMoments
from streamnorm.meta import Report
from streamnorm.moments import Moments
from streamnorm.origin import new_pass
from streamnorm.packing import KINDS, Header, header_of, pack, unpack
from streamnorm.value import merge

__all__ = ["Words", "across", "agreed"]

V = TypeVar("V", Moments, ExactMoments)
Words = NDArray[np.int64]
_WRONG = "neither Moments nor ExactMoments"


def across(value: V | None, gather: Callable[[Words], Sequence[Words]], source: str) -> V:
    """Merge the values of all ranks, by whatever gathers.

    Two gatherings are made: of headers, by which every rank knows whether the values fit each
    other, and of states of one size, which are merged in the order of the ranks.

    Parameters
    ----------
    value : Moments, ExactMoments or None
        What this rank has.
    gather : callable
        Takes int64 words and returns those of all ranks, in their order, on every rank.
    source : str
        For provenance.

    Raises
    ------
    ValueError
        If the values do not fit; the message says which ranks have what.
    """
    headers = gather(np.array(header_of(value), np.int64))
    form = agreed([Header(*header.tolist()) for header in headers])
    states = gather(np.frombuffer(pack(value, form), np.int64))
    merged: V = merge([unpack(state.tobytes(), form) for state in states])
    report = Report(read=len(states), omitted=int(merged.omitted.sum()))
    entry = new_pass(source, "ranks", report=report)
    return merged.with_meta(provenance=merged.meta.with_pass(entry).provenance)


def agreed(headers: Sequence[Header]) -> Header:
    """Return how all pack for each other.

    Raises
    ------
    ValueError
        If versions, kinds or channels differ, or there is nothing; the message says which ranks
        have what.
    """
    if any(header.kind == len(KINDS) for header in headers):
        what = [_WRONG if header.kind == len(KINDS) else "a value" for header in headers]
        _refuse("must all give values or None", what, "pass an accumulator's .moments")
    some = [header for header in headers if header.kind]
    versions = [header.version for header in headers]
    if len(set(versions)) > 1:
        _refuse("send different versions of their values", versions, "install one release")
    if not some:
        msg = f"none of the {len(headers)} ranks has a value; give one of them Moments.empty(C)"
        raise ValueError(msg)
    kinds = [KINDS[header.kind].removesuffix(" of float64") for header in headers]
    if len({kind for kind in kinds if kind != KINDS[0]}) > 1:
        _refuse("have different kinds of values", kinds, "measure all with exact=True, or none")
    channels = [header.channels for header in headers]
    if len({header.channels for header in some}) > 1:
        _refuse("have different numbers of channels", channels, "measure the same channels")
    return Header(*map(max, zip(*some, strict=True)))


def _refuse(what: str, found: Sequence[object], remedy: str) -> None:
    ranks: dict[object, list[int]] = {}
    for rank, value in enumerate(found):
        ranks.setdefault(value, []).append(rank)
    said = "; ".join(f"rank(s) {', '.join(map(str, r))}: {value}" for value, r in ranks.items())
    msg = f"the ranks {what} ({said}); {remedy} on every rank"
    raise ValueError(msg)
