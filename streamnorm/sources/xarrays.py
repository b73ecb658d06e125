"""xarray objects in memory, or opened and still in their files."""

from dataclasses import replace
from functools import partial
from typing import Any

from streamnorm.arrays import type_name
from streamnorm.masks import batch_mask
from streamnorm.sources.files import one_channel
from streamnorm.sources.items import ONLY, Choice, Source, auto_axis
from streamnorm.sources.places import HERE, File, Notes
from streamnorm.sources.variables import Variable, variable_items

__all__ = ["from_xarray", "is_xarray"]


def is_xarray(source: Any) -> bool:
    """Whether it is a Dataset or DataArray, without importing xarray."""
    return type(source).__module__.partition(".")[0] == "xarray" and hasattr(source, "dims")


def from_xarray(source: Any, choice: Choice) -> Source:
    """Read a Dataset as its variables, a DataArray as an array."""
    choice.refuse("an xarray object", "include", "exclude", "mode", "indices", "sample")
    name = type_name(source)
    notes = Notes()
    several = hasattr(source, "data_vars")
    named = source.data_vars.items() if several else [("array", source)]
    variables = [_variable(str(name), array) for name, array in named]
    # Coordinates are no data here, but say which variables are their bounds.
    said = [dict(coordinate.attrs) for coordinate in source.coords.values()] if several else []
    if not several:
        axis = choice.axis(ONLY, partial(auto_axis, source.shape))
        choice = replace(choice, channel_axis=axis, select="array")
    items = variable_items(File(HERE, name, notes), variables, choice, others=said)
    once = f"a {name} has no identity by which to go on with it; pass its file"
    return Source(
        name,
        "xarray",
        items,
        None,
        one_channel if several else auto_axis,
        mask=batch_mask(choice.mask),
        once=once,
        notes=notes,
    )


def _variable(name: str, array: Any) -> Variable:
    encoding = array.encoding
    decoded = array.dtype.kind == "f" and {"_FillValue", "missing_value"} & set(encoding)
    return Variable(
        name,
        array.shape,
        array.dtype.kind,
        ("",) * array.ndim,
        encoding.get("chunksizes"),
        # What the file declares missing was made NaN by xarray: it is never data.
        dict(array.attrs) | ({"_FillValue": float("nan")} if decoded else {}),
        lambda block: array.variable[block].to_numpy(),
    )
