"""HDF5 files, by h5py."""

from collections.abc import Iterator
from typing import Any

from streamnorm.sources.items import Choice, Item
from streamnorm.sources.needs import needed
from streamnorm.sources.places import File
from streamnorm.sources.variables import Variable, variable_items

__all__ = ["hdf5_items"]


def hdf5_items(file: File, choice: Choice) -> Iterator[Item]:
    """Yield the data sets of all groups of a file."""
    library = needed("h5py", "hdf5", file.name)
    opened = library.File(file.path if file.local else file.open(), "r")
    found: list[Variable] = []
    opened.visititems(lambda path, node: found.extend(_variables(path, node, library)))
    yield from variable_items(file, found, choice)


def _variables(path: str, node: Any, library: Any) -> Iterator[Variable]:
    if not isinstance(node, library.Dataset) or node.shape is None:
        return
    attributes = dict(node.attrs)
    scale = attributes.get("CLASS") == b"DIMENSION_SCALE"
    yield Variable(
        path,
        node.shape,
        node.dtype.kind,
        # A dimension's own scale is named as the dimension is.
        (path.rpartition("/")[2],) if scale else ("",) * len(node.shape),
        node.chunks,
        attributes,
        node.__getitem__,
    )
