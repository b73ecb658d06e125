"""Dask: arrays, data frames, bags, delayed parts and xarray objects, chunk by chunk."""

import sys
from collections.abc import Sequence
from itertools import count
from typing import Any
from uuid import uuid4
from weakref import WeakSet

from streamnorm.engines.answers import finished, plain_errors, required
from streamnorm.engines.dask_sources import Source, sources_of
from streamnorm.engines.partitions import How, beside, merged
from streamnorm.layout import ChannelAxis
from streamnorm.measure import NanPolicy

__all__ = ["compute"]

dask = required("dask", "dask")
Delayed = required("dask.delayed", "dask").Delayed
HighLevelGraph = required("dask.highlevelgraph", "dask").HighLevelGraph
_ASKED: WeakSet[Any] = WeakSet()
"""Clients whose workers have streamnorm."""
SPLIT_EVERY = 16
"""A power of two: then the tree is that of `streamnorm.merge` over all chunks, to the bit, unless
some are empty."""


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
        As for `streamnorm.compute`; of a DataArray also the name of a dimension. A column is one
        channel, and so, with "auto", is a variable of a Dataset.
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
        If there are no rows at all, a column is not there, channels differ between partitions,
        which are named, or `split_every` is below 2.
    ModuleNotFoundError
        If the workers have no streamnorm.

    Examples
    --------
    >>> import dask.array as da
    >>> from streamnorm.engines.dask import compute
    >>> compute(da.arange(12, chunks=5).reshape(6, 2))
    Moments(C=2, n=6, mean=[5 6], std=[3.416 3.416])
    """
    given: Any = split_every
    if not isinstance(given, int) or given < 2:
        msg = f"split_every must be a whole number of at least 2, got {split_every!r}"
        raise ValueError(msg)
    how = How(channel_axis, exact, nan_policy).checked()
    sources = sources_of(collection, columns, how)
    names = {name: source.name for name, source in sources.items()}
    trees = {name: _tree(source, split_every) for name, source in sources.items()}
    if lazy:
        return dask.delayed(finished)(trees, names, "dask", columns)
    with plain_errors("or client.register_plugin(PipInstall(['streamnorm']))"):
        _check_workers()
        (values,) = dask.compute(trees)
    return finished(values, names, "dask", columns)


def _check_workers() -> None:
    """Refuse workers without streamnorm: the first task would end them, and the next ones too.

    A cluster is asked once.
    """
    distributed = sys.modules.get("distributed")
    try:
        client = None if distributed is None else distributed.default_client()
    except ValueError:
        return
    if client is not None and client not in _ASKED:
        # What is pickled must not need us. A worker that does not answer may be replaced in time.
        found = client.run(eval, "__import__('streamnorm') and None", on_error="return")
        for error in found.values():
            if isinstance(error, ImportError):
                raise error
        if found:
            _ASKED.add(client)


def _tree(source: Source, split_every: int) -> Any:
    """Measure every part, merge so many values at a time, in their order; then join the pieces.

    Written as a graph: of ten thousand parts Delayed objects take 20 s to make, this half a second.
    """
    layer = f"streamnorm-{uuid4().hex}"
    graph: dict[Any, Any] = {}
    ends = []
    for piece, values in enumerate(source.pieces):
        left = list(values)
        for at, value in enumerate(values):
            if callable(value[0]):
                left[at] = (layer, piece, 0, at)
                graph[left[at]] = value
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
