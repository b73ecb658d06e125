"""Tables in memory: pandas, Polars and Arrow, a piece of the rows at a time."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from streamnorm.arrays import type_name
from streamnorm.arrow import is_numeric
from streamnorm.sources.items import ITEM_VALUES, Choice, Item, Named, Reading, Source
from streamnorm.sources.needs import needed
from streamnorm.sources.places import Notes
from streamnorm.sources.tables import chosen_names, column_axis, key_of, readings

__all__ = ["from_frame", "is_frame"]


def is_frame(source: Any) -> bool:
    """Whether it is a table: of pandas, or anything that hands out Arrow's stream of columns."""
    kind = type(source)
    pandas = hasattr(kind, "iloc") and hasattr(kind, "columns")
    return (
        pandas
        or (hasattr(kind, "__arrow_c_stream__") and not hasattr(kind, "__array__"))
        or (hasattr(kind, "__arrow_c_stream__") and hasattr(kind, "columns"))
    )


def from_frame(frame: Any, choice: Choice) -> Source:
    """Read a table column by column; what is missing is what the table says is missing."""
    choice.refuse("a table", "include", "exclude", "mode", "indices", "sample")
    name = type_name(frame)
    notes = Notes()
    pandas = hasattr(type(frame), "iloc")
    items = (_pandas if pandas else _arrow)(frame, choice, name, notes)
    once = f"a {name} in memory has no identity by which to go on with it; pass a file"
    return Source(name, "table", items, None, column_axis, mask=choice.mask, once=once, notes=notes)


def _arrow(frame: Any, choice: Choice, name: str, notes: Notes) -> Iterator[Item]:
    arrow = needed("pyarrow", "tables", f"a {name}")
    reader = arrow.RecordBatchReader.from_stream(frame)
    kinds = dict(zip(reader.schema.names, reader.schema.types, strict=True))
    numeric = [column for column, kind in kinds.items() if is_numeric(kind)]
    columns = chosen_names(choice, reader.schema.names, numeric, f"the {name}", notes)
    done = 0
    for batch in reader:
        done += len(batch)
        read = partial(readings, batch, columns, choice)
        yield Item(f"rows {done - len(batch)} to {done}", read)


def _pandas(frame: Any, choice: Choice, name: str, notes: Notes) -> Iterator[Item]:
    numeric = [c for c, dtype in frame.dtypes.items() if dtype.kind in "biuf"]
    # Lists in a column are objects to pandas: asked for, they are tried.
    columns = chosen_names(choice, list(frame.columns), numeric, f"the {name}", notes)
    step = choice.by_sample or max(1, ITEM_VALUES // max(len(columns), 1))
    for start in range(0, len(frame), step):
        piece = frame.iloc[start : start + step]
        read = partial(_pandas_rows, piece, columns, choice, name)
        yield Item(f"rows {start} to {start + len(piece)}", read)


def _pandas_rows(piece: Any, columns: list[Any], choice: Choice, name: str) -> list[Named]:
    found: list[Named] = []
    for column in columns:
        series = piece[column]
        if isinstance(series.dtype, np.dtype) and series.dtype.kind != "O":
            # NaN is a number here as it is elsewhere.
            found.append((key_of(column, choice), Reading(series.to_numpy())))
            continue
        arrow = needed("pyarrow", "tables", f"a {name}")
        table = arrow.table({column: arrow.array(series, from_pandas=False)})
        found += readings(table, [column], choice)
    return found
