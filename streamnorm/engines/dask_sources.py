"""What Dask has -> keys of parts in their order, and how each is measured."""

from collections.abc import Callable, Iterable
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from streamnorm.engines.answers import ONE, chosen_columns, required
from streamnorm.engines.partitions import Found, How, Partition
from streamnorm.layout import kept_axes

__all__ = ["Source", "sources_of"]

dask = required("dask", "dask")
Delayed = required("dask.delayed", "dask").Delayed


class Source(NamedTuple):
    """What becomes one value.

    Attributes
    ----------
    name : str
        For provenance.
    collections : list
        What the tasks take their parts from.
    pieces : list of list
        For every piece of the channels, in order: keys of values, or tasks that give them.
    grid : tuple of int
        In how many pieces each kept axis is cut.
    """

    name: str
    collections: list[Any]
    pieces: list[list[Any]]
    grid: tuple[int, ...] = ()


def sources_of(collection: Any, columns: Any, how: How) -> dict[Any, Source]:
    """Return what there is to measure, by column, or under `ONE`.

    Raises
    ------
    TypeError
        If it is no Dask collection and no xarray object.
    ValueError
        If a column is not there, or the channel axis does not exist or is not clear.
    """
    name = f"{type(collection).__module__.partition('.')[0]} {type(collection).__name__}"
    # Of a Delayed all attributes seem to be there.
    kind = list if isinstance(collection, Delayed | list | tuple) else type(collection)
    if hasattr(kind, "data_vars"):
        return _dataset(collection, columns, how, name)
    if hasattr(kind, "to_delayed") and hasattr(kind, "columns") and collection.ndim:
        return _frame(collection, columns, how, name)
    if columns is not None:
        msg = f"columns= does not apply to a {name}"
        raise ValueError(msg)
    if hasattr(kind, "encoding"):
        if how.channel_axis == "auto":
            how = how._replace(channel_axis=how.axis(collection.shape))
        return {ONE: _variable(collection, how, name)}
    if hasattr(kind, "chunks") and dask.is_dask_collection(collection):
        return {ONE: _array(collection, how, name)}
    return {ONE: _parts(collection, how, name)}


def _array(array: Any, how: How, name: str) -> Source:
    """Chunks in C order, for each piece of the channels.

    As blocks of an array, so that Dask fuses measuring with reading.
    """
    kept = kept_axes(array.ndim, how.axis(array.shape))
    blocks = array.numblocks
    cut = any(blocks[axis] > 1 for axis in kept)
    values = array.map_blocks(
        _measured_block,
        how._replace(channel_axis=kept),
        "chunk {}" + cut * ", whose channels are counted from its own first",
        dtype=object,
        chunks=tuple((1,) * number for number in blocks),
        meta=np.empty((0,) * array.ndim, object),
    )
    (values,) = dask.optimize(values)
    grid = tuple(blocks[axis] for axis in kept)
    pieces = []
    for cell in np.ndindex(*grid):
        fixed = dict(zip(kept, cell, strict=True))
        chosen = [[fixed[a]] if a in fixed else range(n) for a, n in enumerate(blocks)]
        pieces.append([(values.name, *at) for at in product(*chosen)])
    return Source(name, [values], pieces, grid)


def _measured_block(block: Any, how: How, name: str, block_id: tuple[int, ...] = ()) -> Found:
    return _measured(block, how, name.format(block_id))


def _parts(given: Any, how: How, name: str) -> Source:
    """Each Delayed is an array, each partition of a bag several."""
    several = isinstance(given, list | tuple)
    collections = list(given) if several else [given]
    bag = hasattr(type(given), "to_textfiles") and dask.is_dask_collection(given)
    if not collections or not (bag or all(isinstance(part, Delayed) for part in collections)):
        msg = (
            f"cannot read a {name}; expected a Dask array, data frame or bag, a Delayed or a list "
            f"of them, or an xarray object; what is no Dask collection, streamnorm.compute reads"
        )
        raise TypeError(msg)
    collections = list(dask.optimize(*collections))
    keys = [key for part in collections for key in part.__dask_keys__()]
    if len(set(keys)) < len(keys):
        twice = next(at for at, key in enumerate(keys) if key in keys[:at])
        msg = f"part {twice} of the {name} is there twice: it would be counted twice"
        raise ValueError(msg)
    measure = _measured_all if bag else _measured
    tasks = [_task(measure, key, how, f"partition {at}") for at, key in enumerate(keys)]
    return Source(name, collections, [tasks])


def _measured(batch: Any, how: How, name: str) -> Found:
    return Partition(how, name).add([(batch, None)]).found


def _measured_all(batches: Iterable[Any], how: How, name: str) -> Found:
    return Partition(how, name).add((batch, None) for batch in batches).found


def _frame(frame: Any, columns: Any, how: How, name: str) -> dict[Any, Source]:
    if not hasattr(type(frame), "select_dtypes"):
        return {ONE: _column(frame, _measured_series, how, name)}
    numeric = [column for column, dtype in frame.dtypes.items() if dtype.kind in "biuf"]
    chosen = chosen_columns(columns, list(frame.columns), numeric, name)
    read = frame[chosen]
    return {
        column: _column(
            read, partial(_measured_column, column=column), how, f"column {column!r} of {name}"
        )
        for column in chosen
    }


def _column(read: Any, measure: Callable[..., Any], how: How, name: str) -> Source:
    # Not dask.optimize, which gives the whole frame in place of a Series (2026.8).
    read = read.optimize()
    tasks = [
        _task(measure, key, how, f"partition {at} of {name}")
        for at, key in enumerate(read.__dask_keys__())
    ]
    return Source(name, [read], [tasks])


def _task(measure: Callable[..., Found], key: Any, how: How, name: str) -> tuple[Any, ...]:
    # What else a task holds could be the name of another one.
    return partial(measure, how=how, name=name), key


def _measured_column(frame: Any, how: How, name: str, column: str) -> Found:
    return _measured_series(frame[column], how, name)


def _measured_series(series: Any, how: How, name: str) -> Found:
    return Partition(how, name).add_column(series).found


def _dataset(dataset: Any, columns: Any, how: How, name: str) -> dict[str, Source]:
    numeric = [n for n, variable in dataset.data_vars.items() if variable.dtype.kind in "biuf"]
    chosen = chosen_columns(columns, list(dataset.data_vars), numeric, name)
    return {n: _variable(dataset[n], how, f"variable {n!r} of {name}") for n in chosen}


def _variable(array: Any, how: How, name: str) -> Source:
    axis = how.channel_axis
    if isinstance(axis, str):
        axis = None if axis == "auto" else array.get_axis_num(axis)
    policy = how.nan_policy
    if array.dtype.kind == "f" and {"_FillValue", "missing_value"} & set(array.encoding):
        # What the file declares missing was made NaN by xarray: it is never data.
        policy = "omit"
    data = array.data
    if not dask.is_dask_collection(data):
        data = required("dask.array", "dask").from_array(data, chunks=-1)
    return _array(data, How(axis, how.exact, policy), name)
