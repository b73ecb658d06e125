"""Columns of Arrow tables -> arrays, and masks of what is not null.

Nothing here imports pyarrow: whoever has a column has it.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from streamnorm.arrays import Array

__all__ = ["batches_of", "is_numeric", "is_scalar", "is_unknown"]

_SCALARS = ("bool", "int", "uint", "float", "double", "halffloat", "decimal")
_LISTS = ("list<", "large_list<", "fixed_size_list<")

Batch = tuple[Array, Array | None]


def is_numeric(kind: Any) -> bool:
    """Whether an Arrow type holds numbers: scalars, lists of them, or tensors."""
    text = str(kind)
    if text.startswith(_LISTS):
        return is_numeric(kind.value_type)
    return text.startswith(_SCALARS) or hasattr(kind, "shape")


def is_scalar(kind: Any) -> bool:
    """Whether every row of an Arrow type is one value."""
    return not (str(kind).startswith(_LISTS) or hasattr(kind, "shape"))


def is_unknown(column: Any) -> bool:
    """Whether nothing is known of the rows of a column: all are null, and of no known length."""
    kind = str(column.type)
    variable = kind == "null" or kind.startswith(("list<", "large_list<"))
    return variable and len(column) > 0 and bool(column.null_count == len(column))


def batches_of(column: Any) -> Iterator[Batch]:
    """Yield the pieces of a column as they lie in memory, rows along axis 0.

    Parameters
    ----------
    column : pyarrow.Array or pyarrow.ChunkedArray
        Of numbers, of lists of numbers, or of tensors. Rows of tensors of different shapes come
        one by one. Nothing comes of one that `is_unknown`.

    Yields
    ------
    array, mask : numpy.ndarray, numpy.ndarray of bool or None
        A null is False in the mask; without nulls there is none.

    Raises
    ------
    TypeError
        If it holds no numbers.
    ValueError
        If its lists are not all of one length, or inner ones are all null: then nobody knows their
        length.
    """
    if str(column.type) == "null":
        return
    if not is_numeric(column.type):
        msg = f"a column of type {column.type} holds no numbers"
        raise TypeError(msg)
    chunks = [chunk for chunk in getattr(column, "chunks", [column]) if len(chunk)]
    lists = str(column.type).startswith(_LISTS)
    length = _length_of(chunks) if lists else None
    for chunk in chunks:
        if hasattr(chunk.type, "shape"):
            yield from _tensors(chunk)
        else:
            yield _lists(chunk, length) if lists else _numbers(chunk)


def _length_of(chunks: Sequence[Any]) -> int | None:
    """Return the length of all lists, as far as any is known."""
    lengths = {chunk.type.list_size for chunk in chunks if hasattr(chunk.type, "list_size")}
    for chunk in chunks:
        own = chunk.drop_null().value_lengths().to_numpy(zero_copy_only=False)
        lengths |= set(np.unique(own).tolist())
    if len(lengths) > 1:
        msg = (
            f"its lists are of {min(lengths)} to {max(lengths)} numbers; a channel is a place in "
            f"the list, so all must be of one length"
        )
        raise ValueError(msg)
    return next(iter(lengths), None)


def _numbers(chunk: Any) -> Batch:
    if str(chunk.type).startswith(_LISTS):
        return _lists(chunk, _length_of([chunk]))
    mask = _valid(chunk)
    if str(chunk.type).startswith("decimal"):
        chunk = chunk.cast("float64")
    filled = chunk if mask is None else chunk.fill_null(False if chunk.type == "bool" else 0)
    return filled.to_numpy(zero_copy_only=False), mask


def _valid(chunk: Any) -> Array | None:
    mask: Array | None = None
    if chunk.null_count:
        mask = chunk.is_valid().to_numpy(zero_copy_only=False)
    return mask


def _lists(chunk: Any, length: int | None) -> Batch:
    if length is None and len(chunk):
        msg = f"all its {len(chunk)} lists are null, so nobody knows how long; leave them out"
        raise ValueError(msg)
    there, length = chunk.drop_null(), length or 0
    inner, mask = _numbers(there.flatten())
    inner = inner.reshape(len(there), length, *inner.shape[1:])
    if mask is not None:
        mask = mask.reshape(len(there), length, *mask.shape[1:])
    return _with_null_rows(inner, mask, _valid(chunk))


def _with_null_rows(rows: Array, mask: Array | None, valid: Array | None) -> Batch:
    if valid is None:
        return rows, mask
    whole = np.zeros((valid.size, *rows.shape[1:]), rows.dtype)
    whole[valid] = rows
    known = np.zeros(whole.shape, bool)
    known[valid] = True if mask is None else mask
    return whole, known


def _tensors(chunk: Any) -> Iterator[Batch]:
    valid, there = _valid(chunk), chunk.drop_null()
    if hasattr(there, "to_numpy_ndarray"):
        values = there.to_numpy_ndarray()
        yield _with_null_rows(values, _valid_within(there, values), valid)
        return
    if valid is not None:
        msg = "a null among tensors of different shapes has no known size; leave it out"
        raise ValueError(msg)
    for row in there.to_numpy(zero_copy_only=False):
        yield np.asarray(row)[None], None


def _valid_within(tensors: Any, values: Array) -> Array | None:
    """Return which values of tensors are not null, in the order in which they come to NumPy."""
    flat = _valid(tensors.storage.flatten())
    if flat is None:
        return None
    steps = tuple(step // values.itemsize for step in values.strides)
    return np.lib.stride_tricks.as_strided(flat, values.shape, steps)
