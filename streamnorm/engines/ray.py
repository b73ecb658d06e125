"""Ray: data sets block by block, and object refs by a tree of tasks."""

import pickle
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from streamnorm.arrow import is_numeric
from streamnorm.engines.answers import ONE, chosen_columns, finished, plain_errors, required
from streamnorm.engines.partitions import NOTHING, Found, How, Partition, merged, renamed
from streamnorm.layout import ChannelAxis
from streamnorm.measure import NanPolicy

__all__ = ["compute"]

ray = required("ray", "ray")
_TOGETHER = 8
"""Values that one task merges; a power of two, so that the tree is that of `streamnorm.merge`."""
_RUNNING = threading.Lock()
"""Held while options of a context are ours: data sets share it."""
_REMEDY = "or ray.init(runtime_env={'pip': ['streamnorm']})"


def compute(
    dataset: Any,
    *,
    columns: str | Sequence[str] | None = None,
    channel_axis: ChannelAxis | str = "auto",
    exact: bool = False,
    nan_policy: NanPolicy = "propagate",
) -> Any:
    """Measure a Ray data set, or objects in Ray's store, where they are.

    Every block becomes one row of some bytes a channel, by one task on one thread. They are merged
    in the order of the blocks, so the bits do not depend on timing or workers. A program measures
    one data set at a time: others wait.

    Parameters
    ----------
    dataset : ray.data.Dataset, or sequence of ray.ObjectRef
        A data set of scalar, list or tensor columns; or refs of arrays, which a tree of tasks
        measures and merges.
    columns : str or sequence of str, optional
        Which columns. Default: all that are numeric.
    channel_axis : int, tuple of int, None or "auto"
        As for `streamnorm.compute`, of batches of rows: axis 0 is that of the rows. A column of
        scalars is one channel.
    exact, nan_policy
        As for `streamnorm.measure`. Nulls are omitted and counted under every policy.

    Returns
    -------
    Moments, ExactMoments, or dict of them
        A dict, in the order of the columns, for a data set; one value if `columns` is a str, and
        for refs. ``meta.report.read`` is the number of blocks.

    Raises
    ------
    TypeError
        If it is neither, or a column holds no numbers.
    ValueError
        If there are no rows at all, a column is not there, or channels differ between blocks, which
        are named.
    ModuleNotFoundError
        If the workers have no streamnorm.

    Examples
    --------
    >>> import ray
    >>> from streamnorm.engines.ray import compute
    >>> compute(ray.data.range(5), columns="id")  # doctest: +SKIP
    Moments(C=1, n=5, mean=[2], std=[1.414])
    """
    how = How(channel_axis, exact, nan_policy).checked()
    name = f"ray {type(dataset).__name__}"
    with plain_errors(_REMEDY):
        if hasattr(dataset, "map_batches"):
            found = _dataset(dataset, columns, how, name)
        else:
            found = {ONE: _refs(dataset, columns, how, name)}
    names = {n: name if n is ONE else f"column {n!r} of {name}" for n in found}
    return finished(found, names, "ray", columns)


def _dataset(dataset: Any, columns: Any, how: How, name: str) -> dict[Any, Found]:
    schema = dataset.schema()
    there = dict(zip(schema.names, schema.types, strict=True)) if schema else {}
    if not there:
        return {ONE: NOTHING}
    numeric = [column for column, kind in there.items() if is_numeric(kind)]
    chosen = chosen_columns(columns, list(there), numeric, name)
    blocks = dataset.select_columns(chosen).map_batches(
        _block, batch_size=None, batch_format=None, fn_args=(chosen, how)
    )
    with _all_in_order(dataset.context):
        rows = blocks.take_all()
    found = [pickle.loads(row["found"]) for row in rows]  # noqa: S301 - our own, a moment ago
    return {
        column: merged([renamed(parts[column], f"block {at}") for at, parts in enumerate(found)])
        for column in chosen
    }


def _block(table: Any, columns: Sequence[str], how: How) -> dict[str, list[bytes]]:
    where = f"a block of {len(table):,} rows, column"
    found = {n: Partition(how, f"{where} {n!r}").add_column(table[n]).found for n in columns}
    return {"found": [pickle.dumps(found)]}


@contextmanager
def _all_in_order(context: Any) -> Iterator[None]:
    """Have blocks come in their order, and none left out because it failed."""
    options = context.execution_options
    with _RUNNING:
        before = options.preserve_order, context.max_errored_blocks
        options.preserve_order, context.max_errored_blocks = True, 0
        try:
            yield
        finally:
            options.preserve_order, context.max_errored_blocks = before


def _refs(refs: Any, columns: Any, how: How, name: str) -> Found:
    """Measure objects by tasks, and merge by tasks, so many at a time."""
    given = list(refs) if isinstance(refs, list | tuple) else []
    if columns is not None or not given or not all(isinstance(r, ray.ObjectRef) for r in given):
        msg = (
            f"cannot read a {name}; expected a ray.data.Dataset, or a list of refs of arrays "
            f"without columns="
        )
        raise TypeError(msg)
    if len(set(given)) < len(given):
        msg = "a ref is there twice: its data would be counted twice; name every object once"
        raise ValueError(msg)
    measure, merge = ray.remote(_object), ray.remote(_merged)
    left = [measure.remote(ref, how, f"object {at}") for at, ref in enumerate(given)]
    while len(left) > 1:
        left = [merge.remote(*left[i : i + _TOGETHER]) for i in range(0, len(left), _TOGETHER)]
    found: Found = ray.get(left[0])
    return found


def _object(array: Any, how: How, name: str) -> Found:
    return Partition(how, name).add([(array, None)]).found


def _merged(*parts: Found) -> Found:
    return merged(parts)
