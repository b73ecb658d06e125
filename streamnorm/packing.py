"""Values as bytes of a size that kind and channels tell, for engines that send them around."""

import json
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from streamnorm import limbs
from streamnorm.exact import ExactMoments
from streamnorm.fields import checked_meta
from streamnorm.labels import Label
from streamnorm.limbs import NARROW, WIDE
from streamnorm.meta import NO_META, Meta, Provenance, Report
from streamnorm.moments import Moments
from streamnorm.origin import new_pass
from streamnorm.partial import PARTIAL
from streamnorm.value import Value, merge

__all__ = ["Header", "across", "agreed", "from_bytes", "header_of", "pack", "to_bytes", "unpack"]

V = TypeVar("V", Moments, ExactMoments)
Words = NDArray[np.int64]
VERSION = 1
_KINDS = ("nothing", "Moments", "ExactMoments", "ExactMoments of float64")
_HEADER_BYTES = 32
_WRONG = "neither Moments nor ExactMoments"
_DTYPES = (None, PARTIAL, NARROW.dtype, WIDE.dtype)


class Header(NamedTuple):
    """What must be known of packed values before they can be read: whole numbers.

    Attributes
    ----------
    version : int
        Of this form.
    kind : int
        0 for nothing, 1 for `Moments`, 2 and 3 for `ExactMoments` on either grid.
    channels : int
    names : int
        Bytes that names, the shape of the channels and labels take, sent behind the numbers.
    """

    version: int
    kind: int
    channels: int
    names: int

    @property
    def size(self) -> int:
        """Bytes of a value packed so, a multiple of 8."""
        dtype = _DTYPES[self.kind]
        numbers = 0 if dtype is None else dtype.itemsize * self.channels
        return max(8, numbers + -(-self.names // 8) * 8)


def header_of(value: Value | None) -> Header:
    """Describe a value, or None for nothing; other things too, for all to refuse them."""
    if not isinstance(value, Value | None):
        return Header(VERSION, len(_KINDS), 0, 0)
    if value is None:
        return Header(VERSION, 0, 0, 0)
    kind = 1 if isinstance(value, Moments) else 2 + (value.rows.dtype == WIDE.dtype)
    return Header(VERSION, kind, value.channels, len(_named(value.meta)))


def agreed(headers: Sequence[Header]) -> Header:
    """Return how all pack for each other.

    Raises
    ------
    ValueError
        If versions, kinds or channels differ, or there is nothing; the message says which ranks
        have what.
    """
    if any(header.kind == len(_KINDS) for header in headers):
        what = [_WRONG if header.kind == len(_KINDS) else "a value" for header in headers]
        _refuse("must all give values or None", what, "pass an accumulator's .moments")
    some = [header for header in headers if header.kind]
    versions = [header.version for header in headers]
    if len(set(versions)) > 1:
        _refuse("send different versions of their values", versions, "install one release")
    if not some:
        msg = f"none of the {len(headers)} ranks has a value; give one of them Moments.empty(C)"
        raise ValueError(msg)
    kinds = [_KINDS[min(header.kind, 2)] for header in headers]
    if len({kind for kind in kinds if kind != _KINDS[0]}) > 1:
        _refuse("have different kinds of values", kinds, "measure all with exact=True, or none")
    channels = [header.channels for header in headers]
    if len({header.channels for header in some}) > 1:
        _refuse("have different numbers of channels", channels, "measure the same channels")
    return Header(*map(max, zip(*some, strict=True)))


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
        If the values do not fit; see `agreed`.
    """
    headers = gather(np.array(header_of(value), np.int64))
    form = agreed([Header(*header.tolist()) for header in headers])
    states = gather(np.frombuffer(pack(value, form), np.int64))
    merged: V = merge([unpack(state.tobytes(), form) for state in states])  # type: ignore[assignment]
    report = Report(read=len(states), omitted=int(merged.omitted.sum()))
    entry = new_pass(source, "ranks", report=report)
    return merged.with_meta(provenance=merged.meta.with_pass(entry).provenance)


def _refuse(what: str, found: Sequence[object], remedy: str) -> None:
    ranks: dict[object, list[int]] = {}
    for rank, value in enumerate(found):
        ranks.setdefault(value, []).append(rank)
    said = "; ".join(f"rank(s) {', '.join(map(str, r))}: {value}" for value, r in ranks.items())
    msg = f"the ranks {what} ({said}); {remedy} on every rank"
    raise ValueError(msg)


def _named(meta: Meta) -> bytes:
    labels = [label.to_json() for label in meta.labels]
    if meta.names is None and meta.channel_shape is None and not labels:
        return b""
    return json.dumps([meta.names, meta.channel_shape, labels, meta.unlabelled]).encode()


def pack(value: Value | None, form: Header) -> bytes:
    """Return a value as bytes, in the form that all have agreed on."""
    if value is None:
        value = (Moments if form.kind == 1 else ExactMoments).empty(form.channels)
    rows = limbs.widened(value.rows) if form.kind == 3 else value.rows
    return (rows.tobytes() + _named(value.meta)).ljust(form.size, b"\0")


def unpack(data: bytes, form: Header) -> Moments | ExactMoments:
    """Return the value that `pack` packed in this form, with its names and labels."""
    dtype = _DTYPES[form.kind]
    assert dtype is not None  # noqa: S101 - nothing has no form that can be agreed on
    end = dtype.itemsize * form.channels
    rows = np.frombuffer(data[:end], dtype).copy()
    named = data[end:].rstrip(b"\0")
    meta = NO_META
    if named:
        names, shape, labels, unlabelled = json.loads(named)
        given = Meta(names, shape, Provenance(), tuple(map(Label.from_json, labels)), unlabelled)
        meta = checked_meta(given, form.channels)
    return Moments.of_partial(rows, meta) if form.kind == 1 else ExactMoments.of_rows(rows, meta)


def to_bytes(value: Value) -> bytes:
    """Return a value as bytes that say themselves what they are: header, then numbers."""
    form = header_of(value)
    return np.array(form, np.int64).tobytes() + pack(value, form)


def from_bytes(data: bytes) -> Moments | ExactMoments:
    """Return the value that `to_bytes` gave the bytes of.

    Raises
    ------
    ValueError
        If they are no such bytes, or of another release.
    TypeError
        If they are no bytes.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        msg = f"expected the bytes of a value, got {type(data).__name__}"
        raise TypeError(msg)
    words = np.frombuffer(data[:_HEADER_BYTES], np.int64).tolist() if len(data) % 8 == 0 else []
    form = Header(*words) if len(words) == len(Header._fields) else None
    known = form is not None and form.version == VERSION and form.kind in (1, 2, 3)
    if form is None or not known or len(data) != _HEADER_BYTES + form.size:
        msg = f"these {len(data)} bytes are no moments that this release has written"
        raise ValueError(msg)
    return unpack(data[_HEADER_BYTES:], form)
