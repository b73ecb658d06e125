"""NetCDF files, by netCDF4."""

from collections.abc import Iterator
from io import BytesIO
from typing import IO, Any

from streamnorm.sources.classic import length_of_classic
from streamnorm.sources.items import Choice, Item
from streamnorm.sources.needs import needed
from streamnorm.sources.places import File
from streamnorm.sources.variables import Variable, variable_items

__all__ = ["netcdf_items"]


def netcdf_items(file: File, choice: Choice) -> Iterator[Item]:
    """Yield the variables of all groups of a file.

    The NetCDF library is not for several threads, not even in several files, and closes a file
    when it is collected as garbage, on any of them: so all is read and closed here.
    """
    library = needed("netCDF4", "netcdf", file.name)
    # What is not a local file must be read as a whole.
    data = None if file.local else file.place.read(file.name)
    with library.Dataset(file.path if file.local else "in-memory.nc", memory=data) as opened:
        with open(file.path, "rb") if data is None else BytesIO(data) as stream:
            _check_length(stream)
        opened.set_auto_maskandscale(False)
        variables = list(_variables(opened, "", library.default_fillvals))
        yield from variable_items(file, variables, choice, eager=True)


def _check_length(stream: IO[bytes]) -> None:
    """Raise if a file ends before its values, which the library would read as zeros."""
    needs = length_of_classic(stream)
    there = stream.seek(0, 2)
    if there < needs:
        msg = f"it has {there:,} of {needs:,} bytes: was it cut off?"
        raise ValueError(msg)


def _variables(group: Any, path: str, defaults: dict[str, Any]) -> Iterator[Variable]:
    for name, variable in group.variables.items():
        dtype = getattr(variable.dtype, "str", "O")
        chunks = variable.chunking()
        yield Variable(
            path + name,
            tuple(variable.shape),
            # Of a type of variable length it is that of the elements.
            getattr(variable.datatype, "kind", "O"),
            tuple(variable.dimensions),
            tuple(chunks) if isinstance(chunks, list) else None,
            {key: variable.getncattr(key) for key in variable.ncattrs()},
            variable.__getitem__,
            # Of a single byte every value may be data.
            None if dtype[2:] == "1" else defaults.get(dtype[1:]),
        )
    for name, inner in group.groups.items():
        yield from _variables(inner, f"{path}{name}/", defaults)
