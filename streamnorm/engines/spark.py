"""Spark: data frames partition by partition, and an aggregate for statistics of groups."""

import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from streamnorm.engines.answers import chosen_columns, finished, plain_errors, required
from streamnorm.engines.partitions import How, Partition, merged, renamed, with_nulls
from streamnorm.layout import ChannelAxis
from streamnorm.measure import NanPolicy
from streamnorm.packing import from_bytes, to_bytes

__all__ = ["compute", "from_bytes", "moments"]

functions = required("pyspark.sql.functions", "spark")
arrow = required("pyarrow", "spark")
Decode = Callable[[bytes], Any]
_NUMERIC = frozenset({"byte", "short", "integer", "long", "float", "double", "boolean", "decimal"})
_VECTOR = "vectorudt"
_REMEDY = "or ship it with spark.addArtifacts or --archives"


def compute(
    df: Any,
    *,
    columns: str | Sequence[str] | None = None,
    channel_axis: ChannelAxis | str = "auto",
    exact: bool = False,
    nan_policy: NanPolicy = "propagate",
    decode: Decode | None = None,
) -> Any:
    """Measure a Spark data frame where its partitions are, on classic Spark or Connect.

    Every partition becomes one row of some bytes a channel, by `mapInArrow`. They are merged in the
    order of the partitions, so the bits do not depend on timing or workers; a task that was retried
    or run twice counts once.

    Parameters
    ----------
    df : pyspark.sql.DataFrame
        With columns of numbers, arrays of numbers, ML vectors, or, with `decode`, anything.
    columns : str or sequence of str, optional
        Which columns. Default: all that are numeric.
    channel_axis : int, tuple of int, None or "auto"
        As for `streamnorm.compute`, of batches of rows: axis 0 is that of the rows. A column of
        scalars is one channel. With `decode`, of what it returns; "auto" is then the last.
    exact, nan_policy
        As for `streamnorm.measure`. Nulls are omitted and counted under every policy.
    decode : callable, optional
        Makes an array of every value of the columns, for example of the bytes of an image. A null
        is skipped: ``meta.report.skipped`` counts them, and a warning says so.

    Returns
    -------
    Moments, ExactMoments, or dict of them
        A dict, in the order of the columns; one value if `columns` is a str. ``meta.report.read``
        is the number of partitions with rows.

    Raises
    ------
    TypeError
        If a column holds no numbers.
    ValueError
        If there are no rows at all, a column is not there, or channels differ between partitions,
        which are named.
    ModuleNotFoundError
        If the workers have no streamnorm.

    Examples
    --------
    >>> from streamnorm.engines.spark import compute
    >>> compute(spark.range(5), columns="id")  # doctest: +SKIP
    Moments(C=1, n=5, mean=[2], std=[1.414])
    """
    how = How(channel_axis, exact, nan_policy).checked()
    if not hasattr(df, "mapInArrow"):
        msg = f"expected a Spark DataFrame, got {type(df).__module__}.{type(df).__qualname__}"
        raise TypeError(msg)
    kinds = {field.name: field.dataType for field in df.schema.fields}
    numeric = [n for n, kind in kinds.items() if _is_numeric(kind)]
    chosen = chosen_columns(columns, list(kinds), numeric, "spark DataFrame")
    if decode is not None and channel_axis == "auto":
        how = how._replace(channel_axis=-1)
    work = _measuring(chosen, how, decode)
    with plain_errors(_REMEDY):
        # Plain names: mapInArrow cannot find a column with a dot in its own.
        selected = df.select(*(_plain(n, kinds[n], f"c{i}") for i, n in enumerate(chosen)))
        rows = selected.mapInArrow(work, "partition long, state binary").collect()
    parts = {row.partition: pickle.loads(row.state) for row in rows}  # noqa: S301 - our own
    if len(parts) != len(rows):
        msg = f"Spark gave {len(rows)} results of {len(parts)} partitions; nothing was merged"
        raise RuntimeError(msg)
    found = {
        column: merged([renamed(parts[at][n], f"partition {at}") for at in sorted(parts)])
        for n, column in enumerate(chosen)
    }
    names = {n: f"column {n!r} of spark DataFrame" for n in chosen}
    return finished(found, names, "spark", columns)


def moments(
    column: str,
    *,
    channel_axis: ChannelAxis | str = "auto",
    exact: bool = False,
    nan_policy: NanPolicy = "propagate",
) -> Any:
    """Return an aggregate for ``df.groupBy(...).agg(...)``: the statistics of every group.

    Spark gives all rows of a group to one task. What comes is binary; `from_bytes` makes moments
    of it.

    Parameters
    ----------
    column : str
        A column of numbers or of arrays of numbers.
    channel_axis, exact, nan_policy
        As for `compute`.

    Returns
    -------
    pyspark.sql.Column
        Binary, of numbers without provenance; null for a group of nothing but null lists. Spark
        lets no aggregate of its own stand beside it in one ``agg``.

    Examples
    --------
    >>> from streamnorm.engines import spark as engine
    >>> rows = df.groupBy("site").agg(engine.moments("x").alias("m")).collect()  # doctest: +SKIP
    >>> {row.site: engine.from_bytes(row.m) for row in rows}  # doctest: +SKIP
    {'north': Moments(C=1, n=5, mean=[2], std=[1.414])}
    """
    how = How(channel_axis, exact, nan_policy).checked()

    def of_group(values: Any) -> Any:
        found = Partition(how, f"a group of {len(values):,} rows").add_column(values).found
        value = with_nulls(found)
        return None if value is None else to_bytes(value)

    # By these Spark knows that a whole group is wanted, and one value given.
    of_group.__annotations__ = {"values": arrow.Array, "return": bytes}
    return functions.arrow_udf(of_group, "binary")(column)


def _measuring(columns: Sequence[str], how: How, decode: Decode | None) -> Callable[..., Any]:
    """Return what measures the record batches of one partition, where its number is known."""

    def measure(batches: Iterable[Any]) -> Iterator[Any]:
        task: Any = required("pyspark", "spark").TaskContext.get()
        at = task.partitionId()
        parts = [Partition(how, f"partition {at}, column {name!r}") for name in columns]
        for batch in batches:
            for part, column in zip(parts, batch.columns, strict=True):
                if decode is None:
                    part.add_column(column)
                else:
                    part.skip(column.null_count)
                    part.add((decode(row), None) for row in column.drop_null().to_pylist())
        state = pickle.dumps([part.found for part in parts])
        yield arrow.RecordBatch.from_pydict({"partition": [at], "state": [state]})

    return measure


def _is_numeric(kind: Any) -> bool:
    name = kind.typeName()
    if name == "array":
        return _is_numeric(kind.elementType)
    return name.partition("(")[0] in _NUMERIC or name == _VECTOR


def _plain(name: str, kind: Any, alias: str) -> Any:
    column = functions.col("`" + name.replace("`", "``") + "`")
    if kind.typeName() == _VECTOR:
        column = required("pyspark.ml.functions", "spark").vector_to_array(column)
    return column.alias(alias)
