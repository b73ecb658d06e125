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
    with file.open() as stream, library.File(file.path if file.local else stream, "r") as opened:
        links: list[str] = []
        found = list(_variables(opened, library, links))
        if links and not file.arrays:
            what = f"{file.name}: links are not followed: {', '.join(links)}"
            file.notes.warnings.append(what)
        yield from variable_items(file, found, choice, eager=True)


def _variables(group: Any, library: Any, links: list[str], path: str = "") -> Iterator[Variable]:
    for name in group:
        node = None
        if isinstance(group.get(name, getlink=True), library.HardLink):
            node = group[name]
        else:
            # What it names is somewhere else in the file, or in a file of its own.
            links.append(path + name)
        if isinstance(node, library.Group):
            yield from _variables(node, library, links, f"{path}{name}/")
        elif isinstance(node, library.Dataset) and node.shape is not None:
            yield _variable(path + name, node)


def _variable(path: str, node: Any) -> Variable:
    attributes = dict(node.attrs)
    scale = attributes.get("CLASS") == b"DIMENSION_SCALE"
    return Variable(
        path,
        node.shape,
        # NumPy's long doubles are no numbers that can be measured.
        node.dtype.kind if node.dtype.itemsize <= 8 else "O",
        # A dimension's own scale is named as the dimension is.
        (path.rpartition("/")[2],) if scale else ("",) * len(node.shape),
        node.chunks,
        attributes,
        node.__getitem__,
    )
