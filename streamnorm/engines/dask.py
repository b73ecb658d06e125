"""Dask: arrays, data frames, bags, delayed parts and xarray objects, chunk by chunk."""

import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import count, product
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np

from streamnorm.engines.partitions import (
    ONE,
    How,
    Partition,
    Value,
    beside,
    chosen_columns,
    finished,
    merged,
    plain_errors,
    required,
)
from streamnorm.layout import ChannelAxis, kept_axes
from streamnorm.measure import NanPolicy

__all__ = ["compute"]

dask = required("dask", "dask")
Delayed = required("dask.delayed", "dask").Delayed
HighLevelGraph = required("dask.highlevelgraph", "dask").HighLevelGraph
SPLIT_EVERY = 8
"""A power of two: then the tree is that of `streamnorm.merge` over all chunks, to the bit."""


def compute(
    collection: Any,
    *,
    columns: str | Sequence[str] | None = None,
    channel_axis: ChannelAxis | str = "auto",
    exact: bool = False,
    nan_policy: NanPolicy = "propagate",
    split_every: int = SPLIT_EVERY,
    lazy: bool = False,
) -> Any:
    """Measure a Dask collection where its chunks are.

    Every chunk becomes a value of some bytes a channel, by one task on one thread; a tree of tasks
    merges them in the order of the chunks, so the bits do not depend on timing or workers.

    Parameters
    ----------
    collection : dask.array.Array, dask.dataframe.DataFrame, Series, dask.bag.Bag, Delayed or list
        An array of any chunking, also of unknown sizes and with the channel axis cut; a data frame;
        a bag of arrays; a Delayed, or a list of them, each of one array; an xarray DataArray or
        Dataset.
    columns : str or sequence of str, optional
        Which columns of a data frame, or variables of a Dataset. Default: all that are numeric.
    channel_axis : int, tuple of int, None, str or "auto"
        As for `streamnorm.compute`; of a DataArray also the name of a dimension. "auto" makes a
        column, and an xarray variable, one channel.
    exact, nan_policy
        As for `streamnorm.measure`. Nulls of a column, and NaN of an xarray variable that was
        decoded from a file with a fill value, are omitted and counted under every policy.
    split_every : int
        How many values one task merges.
    lazy : bool
        Return a Delayed of what would be returned, to be computed with other things.

    Returns
    -------
    Moments, ExactMoments, or dict of them
        A dict, in the order of the columns, for data frames and Datasets; one value if `columns` is
        a str, and for all else. ``meta.report.read`` is the number of chunks.

    Raises
    ------
    TypeError
        If it is no collection, or holds no numbers.
    ValueError
        If there are no rows at all, a column is not there, or channels differ between partitions,
        which are named.
    ModuleNotFoundError
        If the workers have no streamnorm.

    Examples
    --------
    >>> import dask.array as da
    >>> from streamnorm.engines.dask import compute
    >>> compute(da.arange(12, chunks=5).reshape(6, 2))
    Moments(C=2, n=6, mean=[5 6], std=[3.416 3.416])
    """
    how = How(channel_axis, exact, nan_policy).checked()
    sources = _sources(collection, columns, how)
    names = {name: source.name for name, source in sources.items()}
    trees = {name: _tree(source, split_every) for name, source in sources.items()}
    if lazy:
        return dask.delayed(finished)(trees, names, "dask", columns)
    with plain_errors("or client.register_plugin(PipInstall(['streamnorm']))"):
        _check_workers()
        (values,) = dask.compute(trees)
    return finished(values, names, "dask", columns)


def _check_workers() -> None:
    """Refuse workers without streamnorm: the first task would end them, and the next ones too."""
    distributed = sys.modules.get("distributed")
    try:
        client = None if distributed is None else distributed.default_client()
    except ValueError:
        return
    if client is not None:
        # What is pickled must not need us.
        client.run(eval, "__import__('streamnorm') and None")


class _Source(NamedTuple):
    """What becomes one value: keys of parts in their order, and how to measure them.

    Attributes
    ----------
    name : str
        For provenance.
    collections : list
        To which the keys belong.
    parts : list of list of tuple
        For every piece of the channels, the key and the name of each part.
    measure : callable
        Part, how and name -> value.
    how : How
        Given to `measure`.
    grid : tuple of int
        In how many pieces each kept axis is cut.
    """

    name: str
    collections: list[Any]
    parts: list[list[tuple[Any, str]]]
    measure: Callable[[Any, How, str], Value | None]
    how: How
    grid: tuple[int, ...] = ()


def _sources(collection: Any, columns: Any, how: How) -> dict[str, _Source]:
    name = f"{type(collection).__module__.partition('.')[0]} {type(collection).__name__}"
    # Of a Delayed all attributes seem to be there.
    kind = list if isinstance(collection, Delayed | list | tuple) else type(collection)
    if hasattr(kind, "data_vars"):
        return _dataset(collection, columns, how, name)
    if hasattr(kind, "to_delayed") and hasattr(kind, "columns"):
        return _frame(collection, columns, how, name)
    if columns is not None:
        msg = f"columns= does not apply to a {name}"
        raise ValueError(msg)
    if hasattr(kind, "encoding"):
        return {ONE: _variable(collection, how, name)}
    if hasattr(kind, "chunks") and dask.is_dask_collection(collection):
        return {ONE: _array(collection, how, name)}
    return {ONE: _parts(collection, how, name)}


def _array(array: Any, how: How, name: str) -> _Source:
    """Chunks in C order, for each piece of the channels."""
    kept = kept_axes(array.ndim, how.axis(array.shape))
    (array,) = dask.optimize(array)
    key, blocks = array.name, array.numblocks
    grid = tuple(blocks[axis] for axis in kept)
    parts = []
    for cell in np.ndindex(*grid):
        fixed = dict(zip(kept, cell, strict=True))
        chosen = [[fixed[a]] if a in fixed else range(n) for a, n in enumerate(blocks)]
        parts.append([((key, *at), f"chunk {at}") for at in product(*chosen)])
    return _Source(name, [array], parts, _measured, how._replace(channel_axis=kept), grid)


def _parts(given: Any, how: How, name: str) -> _Source:
    """Each Delayed is an array, each partition of a bag several."""
    several = isinstance(given, list | tuple)
    collections = list(given) if several else [given]
    if not collections or not all(map(dask.is_dask_collection, collections)):
        msg = (
            f"cannot read a {name}; expected a Dask array, data frame or bag, a Delayed or a list "
            f"of them, or an xarray object; what is no Dask collection, streamnorm.compute reads"
        )
        raise TypeError(msg)
    collections = list(dask.optimize(*collections))
    keys = [key for part in collections for key in part.__dask_keys__()]
    parts = [(key, f"partition {at}") for at, key in enumerate(keys)]
    bag = not isinstance(collections[0], Delayed)
    return _Source(name, collections, [parts], _measured_all if bag else _measured, how)


def _measured(batch: Any, how: How, name: str) -> Value | None:
    return Partition(how, name).add([(batch, None)]).value


def _measured_all(batches: Iterable[Any], how: How, name: str) -> Value | None:
    return Partition(how, name).add((batch, None) for batch in batches).value


def _frame(frame: Any, columns: Any, how: How, name: str) -> dict[str, _Source]:
    if not hasattr(type(frame), "select_dtypes"):
        return {ONE: _column(frame, _measured_series, how, name)}
    numeric = list(frame.select_dtypes(include=["number", "bool"]).columns)
    chosen = chosen_columns(columns, list(frame.columns), numeric, name)
    read = frame[chosen]
    return {
        column: _column(
            read, partial(_measured_column, column), how, f"column {column!r} of {name}"
        )
        for column in chosen
    }


def _column(read: Any, measure: Callable[..., Any], how: How, name: str) -> _Source:
    # Not dask.optimize, which gives the whole frame in place of a Series (2026.8).
    read = read.optimize()
    parts = [(key, f"partition {at} of {name}") for at, key in enumerate(read.__dask_keys__())]
    return _Source(name, [read], [parts], measure, how)


def _measured_column(column: str, frame: Any, how: How, name: str) -> Value | None:
    return _measured_series(frame[column], how, name)


def _measured_series(series: Any, how: How, name: str) -> Value | None:
    values = required("pyarrow", "dask").array(series, from_pandas=False)
    return Partition(how, name).add_column(values).value


def _dataset(dataset: Any, columns: Any, how: How, name: str) -> dict[str, _Source]:
    numeric = [n for n, variable in dataset.data_vars.items() if variable.dtype.kind in "biuf"]
    chosen = chosen_columns(columns, list(dataset.data_vars), numeric, name)
    return {n: _variable(dataset[n], how, f"variable {n!r} of {name}") for n in chosen}


def _variable(array: Any, how: How, name: str) -> _Source:
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


def _tree(source: _Source, split_every: int) -> Any:
    """Measure every part, merge so many values at a time, in their order; then join the pieces.

    Written as a graph: of ten thousand parts Delayed objects take 20 s to make, this half a second.
    """
    layer = f"streamnorm-{uuid4().hex}"
    graph: dict[Any, Any] = {}
    ends = []
    for piece, parts in enumerate(source.parts):
        left = [(layer, piece, 0, at) for at in range(len(parts))]
        for key, (part, name) in zip(left, parts, strict=True):
            graph[key] = (source.measure, part, source.how, name)
        for level in count(1):
            groups = [left[at : at + split_every] for at in range(0, len(left), split_every)]
            left = [(layer, piece, level, at) for at in range(len(groups))]
            graph |= {key: (merged, group) for key, group in zip(left, groups, strict=True)}
            if len(left) == 1:
                break
        ends += left
    graph[layer] = (beside, ends, source.grid) if len(ends) > 1 else ends[0]
    whole = HighLevelGraph.from_collections(layer, graph, dependencies=source.collections)
    return Delayed(layer, whole)
