"""Tables in files: Parquet, CSV and Arrow, by pyarrow, a piece of the rows at a time."""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from streamnorm.arrow import batches_of, is_numeric, is_unknown
from streamnorm.columns import columns_among
from streamnorm.layout import ChannelAxis
from streamnorm.sources.items import ONLY, Choice, Item, Named, Reading, auto_axis
from streamnorm.sources.needs import needed
from streamnorm.sources.places import File, Notes

__all__ = [
    "arrow_items",
    "chosen_names",
    "column_axis",
    "csv_items",
    "key_of",
    "parquet_items",
    "readings",
]

_GROUP_BYTES = 1 << 26
"""Of a row group that a thread reads as a whole; larger ones come in batches."""
_BATCH_ROWS = 1 << 16


def column_axis(shape: tuple[int, ...]) -> ChannelAxis:
    """Return the channel axis of a column: one of scalars is one channel."""
    return None if len(shape) == 1 else auto_axis(shape)


def parquet_items(file: File, choice: Choice) -> Iterator[Item]:
    """Yield a Parquet file by its row groups, large ones in batches of rows."""
    parquet = _parquet(file)
    columns = _chosen(file, parquet.schema_arrow, choice)
    metadata = parquet.metadata
    done, total = 0, max(metadata.num_rows, 1)
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group).num_rows
        if _bytes_of(metadata.row_group(group), columns) <= _GROUP_BYTES:
            done += rows
            read = partial(_read_group, file, metadata, group, columns, choice)
            yield Item(_rows(file, done - rows, done), read, done / total)
            continue
        for batch in parquet.iter_batches(_BATCH_ROWS, [group], columns):
            done += len(batch)
            read = partial(readings, batch, columns, choice)
            yield Item(_rows(file, done - len(batch), done), read, done / total)


def _parquet(file: File, metadata: Any = None) -> Any:
    parquet = needed("pyarrow.parquet", "tables", file.name)
    return parquet.ParquetFile(file.path if file.local else file.open(), metadata=metadata)


def _bytes_of(group: Any, columns: Sequence[str]) -> int:
    chunks = map(group.column, range(group.num_columns))
    inside = tuple(f"{column}." for column in columns)
    return sum(
        chunk.total_uncompressed_size
        for chunk in chunks
        if chunk.path_in_schema in columns or chunk.path_in_schema.startswith(inside)
    )


def _read_group(
    file: File, metadata: Any, group: int, columns: Sequence[str], choice: Choice
) -> list[Named]:
    # A file of its own for each: Arrow's readers are not for several threads.
    table = _parquet(file, metadata).read_row_group(group, columns, use_threads=False)
    return readings(table, columns, choice)


def csv_items(file: File, choice: Choice) -> Iterator[Item]:
    """Yield a CSV file block by block.

    Types are those of its first megabyte, but whole numbers may become fractions further on.
    """
    csv = needed("pyarrow.csv", "tables", file.name)
    arrow = needed("pyarrow", "tables", file.name)
    tabs = re.search(r"\.tsv(\.gz)?$", file.name)
    parsing = csv.ParseOptions(delimiter="\t" if tabs else ",")
    # One thread: only then do errors name the row.
    reading = csv.ReadOptions(use_threads=False)
    with _raw(file, arrow) as raw, csv.open_csv(_inflated(file, raw), reading, parsing) as first:
        schema = first.schema
    _check_header(file, schema.names)
    if all(str(kind) == "null" for kind in schema.types):
        msg = "it has names of columns but no values, or none in its first megabyte"
        raise ValueError(msg)
    columns = _chosen(file, schema, choice)
    types = {name: arrow.float64() for name in columns if str(schema.field(name).type) != "bool"}
    converting = csv.ConvertOptions(column_types=types, include_columns=columns)
    size, done = max(file.place.size(file.name), 1), 0
    with (
        _raw(file, arrow) as raw,
        csv.open_csv(_inflated(file, raw), reading, parsing, converting) as batches,
    ):
        for batch in batches:
            done += len(batch)
            read = partial(readings, batch, columns, choice)
            share = min(1.0, raw.tell() / size)
            yield Item(_rows(file, done - len(batch), done), read, share)


def _check_header(file: File, names: Sequence[str]) -> None:
    """Refuse what is separated otherwise; warn of a first row that is more likely one of numbers.

    Raises
    ------
    ValueError
        If a single name holds separators.
    """
    if len(names) == 1 and (found := next((s for s in ";\t|" if s in names[0]), None)):
        msg = (
            f"its first row has no comma but {found!r}: columns are separated by commas, and in "
            f".tsv files by tabs; convert it, or read it with pandas and pass the frame"
        )
        raise ValueError(msg)
    if all(re.fullmatch(r"[-+\d.eE]+", name) for name in names) and not file.arrays:
        file.notes.warnings.append(
            f"{file.name}: the first row is taken for the names of columns, but holds numbers; "
            f"add a row of names, or this row is lost"
        )


def _raw(file: File, arrow: Any) -> Any:
    return arrow.OSFile(file.path) if file.local else arrow.PythonFile(file.open(), mode="r")


def _inflated(file: File, raw: Any) -> Any:
    arrow = needed("pyarrow", "tables", file.name)
    return arrow.CompressedInputStream(raw, "gzip") if file.name.endswith(".gz") else raw


def arrow_items(file: File, choice: Choice) -> Iterator[Item]:
    """Yield an Arrow file, or stream, batch by batch."""
    arrow = needed("pyarrow", "tables", file.name)
    opened = arrow.memory_map(file.path) if file.local else arrow.PythonFile(file.open(), mode="r")
    if opened.read(6) == b"ARROW1":
        opened.seek(0)
        reader = needed("pyarrow.ipc", "tables", file.name).open_file(opened)
        number = max(reader.num_record_batches, 1)
        batches = map(reader.get_batch, range(reader.num_record_batches))
    else:
        opened.seek(0)
        reader = batches = needed("pyarrow.ipc", "tables", file.name).open_stream(opened)
        number = 0
    columns = _chosen(file, reader.schema, choice)
    done = 0
    for at, batch in enumerate(batches, 1):
        done += len(batch)
        share = at / number if number else opened.tell() / max(opened.size(), 1)
        yield Item(
            _rows(file, done - len(batch), done), partial(readings, batch, columns, choice), share
        )


def _rows(file: File, start: int, stop: int) -> str:
    return f"{file.name}, rows {start} to {stop}"


def _chosen(file: File, schema: Any, choice: Choice) -> list[str]:
    kinds = dict(zip(schema.names, schema.types, strict=True))
    numeric = [name for name in schema.names if is_numeric(kinds[name])]
    # Of the first file only: the others are alike.
    notes = Notes() if file.arrays else file.notes
    chosen = chosen_names(choice, schema.names, numeric, file.name, notes)
    if wrong := [name for name in chosen if not is_numeric(kinds[name])]:
        msg = f"column {wrong[0]!r} of type {kinds[wrong[0]]} holds no numbers"
        raise TypeError(msg)
    file.holds(chosen)
    return chosen


def chosen_names(
    choice: Choice, there: Sequence[str], numeric: Sequence[str], source: str, notes: Notes
) -> list[str]:
    """Return the names of the arrays to measure; note which are left out.

    Raises
    ------
    ValueError, TypeError
        As `columns_among`.
    """
    chosen, note = columns_among(choice.select, there, numeric, source, "select")
    notes.warnings += [note] if note else []
    return chosen


def readings(table: Any, columns: Sequence[str], choice: Choice) -> list[Named]:
    """Read rows of an Arrow table, column by column.

    Raises
    ------
    TypeError, ValueError
        Naming the column whose lists are ragged, or that holds no numbers.
    """
    found: list[Named] = []
    if choice.by_sample and len(table) > choice.by_sample:
        for start in range(0, len(table), choice.by_sample):
            found += readings(table.slice(start, choice.by_sample), columns, choice)
        return found
    for name in columns:
        column, key = table.column(name), key_of(name, choice)
        if is_unknown(column):
            found.append((key, Reading(None, nulls=len(column))))
            continue
        try:
            found += [(key, Reading(array, mask)) for array, mask in batches_of(column)]
        except (TypeError, ValueError) as error:
            msg = f"column {name!r}: {error}"
            raise ValueError(msg) from error
    return found


def key_of(name: str, choice: Choice) -> str | None:
    """Return under which name an array is measured: if it alone was asked for, none."""
    # Columns of pandas may be numbers.
    return ONLY if isinstance(choice.select, str) else str(name)
