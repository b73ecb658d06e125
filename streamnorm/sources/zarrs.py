"""zarr stores, of version 3 or 2, by zarr."""

import struct
from base64 import b64decode
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from streamnorm.sources.items import Choice, Item
from streamnorm.sources.needs import needed
from streamnorm.sources.places import File, Place
from streamnorm.sources.variables import Variable, variable_items

__all__ = ["is_zarr", "zarr_items"]

_MARKS = ("zarr.json", ".zgroup", ".zarray")


def is_zarr(place: Place, folder: str) -> bool:
    """Whether a folder is a zarr store."""
    return any(place.exists(f"{folder.rstrip('/')}/{mark}") for mark in _MARKS)


def zarr_items(file: File, choice: Choice) -> Iterator[Item]:
    """Yield the arrays of all groups of a store."""
    library = needed("zarr", "zarr", file.name)
    opened = library.open(file.path, mode="r")
    found = list(_variables(opened))
    yield from variable_items(file, found, choice)


def _variables(node: Any, path: str = "") -> Iterator[Variable]:
    if not hasattr(node, "shape"):
        for name, member in sorted(node.members()):
            yield from _variables(member, f"{path}/{name}" if path else name)
        return
    attributes = _with_fill(dict(node.attrs), node)
    names = getattr(node.metadata, "dimension_names", None) or attributes.get("_ARRAY_DIMENSIONS")
    yield Variable(
        path or node.name.strip("/") or "array",
        node.shape,
        node.dtype.kind,
        tuple(name or "" for name in names or [""] * len(node.shape)),
        # Less than a shard is read as a whole shard.
        node.shards or node.chunks,
        attributes,
        node.__getitem__,
    )


def _decoded(fill: str) -> float | str:
    with suppress(ValueError):
        return float(fill)
    with suppress(ValueError, struct.error):
        value: float = struct.unpack("<d", b64decode(fill, validate=True))[0]
        return value
    return fill


def _with_fill(attributes: dict[str, Any], node: Any) -> dict[str, Any]:
    """Return the attributes, with what xarray has put elsewhere: the value of what is missing.

    In version 2 it is zarr's own fill value, which says nothing of that kind where others wrote it;
    in version 3 floats are the base64 of their eight bytes.
    """
    fill = attributes.get("_FillValue")
    if isinstance(fill, str):
        return attributes | {"_FillValue": _decoded(fill)}
    by_xarray = "_ARRAY_DIMENSIONS" in attributes and node.metadata.zarr_format == 2
    if fill is None and by_xarray and node.fill_value is not None:
        return attributes | {"_FillValue": node.fill_value}
    return attributes
