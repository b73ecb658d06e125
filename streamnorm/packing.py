"""Values as bytes of a size that kind and channels tell, for engines that send them around."""

import json
from typing import Any, NamedTuple

import numpy as np

from streamnorm import limbs
from streamnorm.exact import ExactMoments
from streamnorm.fields import checked_meta
from streamnorm.labels import Label
from streamnorm.limbs import NARROW, WIDE
from streamnorm.meta import NO_META, Meta, Provenance
from streamnorm.moments import Moments
from streamnorm.partial import PARTIAL
from streamnorm.value import Value
from streamnorm.weighted import WeightedMoments
from streamnorm.weights import WEIGHTED

__all__ = ["KINDS", "Header", "from_bytes", "header_of", "pack", "to_bytes", "unpack"]

VERSION = 1
KINDS = ("nothing", "Moments", "ExactMoments", "ExactMoments of float64", "WeightedMoments")
_HEADER_BYTES = 32
_TYPES: tuple[type[Value], ...] = (Value, Moments, ExactMoments, ExactMoments, WeightedMoments)
_DTYPES = (None, PARTIAL, NARROW.dtype, WIDE.dtype, WEIGHTED)


class Header(NamedTuple):
    """What must be known of packed values before they can be read: whole numbers.

    Attributes
    ----------
    version : int
        Of this form.
    kind : int
        0 for nothing, 1 for `Moments`, 2 and 3 for `ExactMoments` on either grid, 4 for
        `WeightedMoments`.
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
        return Header(VERSION, len(KINDS), 0, 0)
    if value is None:
        return Header(VERSION, 0, 0, 0)
    kind = _DTYPES.index(value.rows.dtype)
    return Header(VERSION, kind, value.channels, len(_named(value.meta)))


def _named(meta: Meta) -> bytes:
    labels = [label.to_json() for label in meta.labels]
    if meta.names is None and meta.channel_shape is None and not labels:
        return b""
    return json.dumps([meta.names, meta.channel_shape, labels, meta.unlabelled]).encode()


def pack(value: Any, form: Header) -> bytes:
    """Return a value as bytes, in the form that all have agreed on."""
    if value is None:
        kind: Any = _TYPES[form.kind]
        value = kind.empty(form.channels)
    rows = limbs.widened(value.rows) if form.kind == 3 else value.rows
    return (rows.tobytes() + _named(value.meta)).ljust(form.size, b"\0")


def unpack(data: bytes, form: Header) -> Any:
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
    kind: Any = _TYPES[form.kind]
    return kind.of_rows(rows, meta)


def to_bytes(value: Value) -> bytes:
    """Return a value as bytes that say themselves what they are: header, then numbers."""
    form = header_of(value)
    return np.array(form, np.int64).tobytes() + pack(value, form)


def from_bytes(data: bytes) -> Any:
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
    known = form is not None and form.version == VERSION and 0 < form.kind < len(KINDS)
    if form is None or not known or min(form) < 0 or len(data) != _HEADER_BYTES + form.size:
        msg = f"these {len(data)} bytes are no moments that this release has written"
        raise ValueError(msg)
    return unpack(data[_HEADER_BYTES:], form)
