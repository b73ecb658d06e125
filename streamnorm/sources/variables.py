"""Variables of NetCDF, HDF5 and zarr files, and of xarray: named arrays, block by block."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from streamnorm.layout import kept_axes
from streamnorm.masks import both, whole_mask
from streamnorm.sources.conventions import Convention, is_aside, named_aside
from streamnorm.sources.files import read_now
from streamnorm.sources.items import ITEM_VALUES, Choice, Item, Named
from streamnorm.sources.places import File, Notes
from streamnorm.sources.tables import chosen_names, key_of

__all__ = ["Blocks", "Variable", "variable_items"]

Blocks = tuple[slice, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """A named array in a file.

    Attributes
    ----------
    name : str
        With the groups that it is in.
    shape : tuple of int
    kind : str
        NumPy's letter for its dtype.
    dimensions : tuple of str
        Names of its axes, "" where they have none.
    chunks : tuple of int or None
        In which pieces it is stored.
    attributes : mapping
    read : callable
        Slices, one an axis -> what is stored there.
    default : number or None
        What the format fills with where nothing was written.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    dimensions: tuple[str, ...]
    chunks: tuple[int, ...] | None
    attributes: Mapping[str, Any]
    read: Callable[[Blocks], Any]
    default: Any = None


def variable_items(
    file: File,
    variables: Sequence[Variable],
    choice: Choice,
    *,
    eager: bool = False,
    others: Sequence[Mapping[str, Any]] = (),
) -> Iterator[Item]:
    """Yield variables one after the other, block by block.

    Parameters
    ----------
    file : File
    variables : sequence of Variable
    choice : Choice
    eager : bool
        Whether blocks are read here, by one thread: for libraries that are not for several, and
        files that are closed when this ends.
    others : sequence of mapping
        Attributes of what is there but cannot be measured.
    """
    asides = _asides(variables, others) if choice.select is None else set()
    there = [variable.name for variable in variables if variable.name not in asides]
    measurable = [v for v in variables if v.kind in "biuf" and v.name not in asides]
    numeric = [variable.name for variable in measurable]
    _note_empty(file, measurable)
    file.notes.ignored += len(asides)
    notes = Notes() if file.arrays else file.notes
    chosen = chosen_names(choice, there, numeric, file.name, notes)
    file.holds(chosen)
    by_name = {variable.name: variable for variable in variables}
    sizes = [math.prod(by_name[name].shape) for name in chosen]
    total, done = max(sum(sizes), 1), 0
    for name in chosen:
        variable = by_name[name]
        convention = Convention.of(variable.attributes, variable.default)
        mask = whole_mask(choice.mask, variable.shape)
        for block in _blocks(variable, choice):
            done += math.prod(part.stop - part.start for part in block)
            later = partial(_read, variable, convention, block, mask, choice)
            read: Callable[[], Any] = read_now(later) if eager else later
            yield Item(f"{file.name}:{name}{_where(block)}", read, done / total)


def _note_empty(file: File, variables: Sequence[Variable]) -> None:
    empty = [variable.name for variable in variables if math.prod(variable.shape) == 0]
    if empty and not file.arrays:
        file.notes.warnings.append(f"{file.name}: arrays without values: {', '.join(empty)}")


def _asides(variables: Sequence[Variable], others: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the names of variables that only describe others, group by group."""
    groups: dict[str, list[Variable]] = {}
    for variable in variables:
        groups.setdefault(variable.name.rpartition("/")[0], []).append(variable)
    found = set()
    for group, there in groups.items():
        named = named_aside([*(variable.attributes for variable in there), *others])
        for variable in there:
            inside = variable.name.removeprefix(f"{group}/")
            if is_aside(inside, variable.dimensions, named):
                found.add(variable.name)
    return found


def _read(
    variable: Variable, convention: Convention, block: Blocks, mask: Any, choice: Choice
) -> list[Named]:
    reading = convention.reading(variable.read(block), declared=choice.declared)
    if mask is not None:
        reading = reading._replace(mask=both(reading.mask, mask[block]))
    return [(key_of(variable.name, choice), reading)]


def _blocks(variable: Variable, choice: Choice) -> Iterator[Blocks]:
    """Cut a variable along its chunks into blocks of about so many values, in C order."""
    shape = variable.shape
    kept = kept_axes(len(shape), choice.axis(key_of(variable.name, choice), lambda: None))
    # What xarray has sliced still tells the chunks of the whole.
    stored = variable.chunks if len(variable.chunks or ()) == len(shape) else None
    block = [
        length if axis in kept else min(chunk, length)
        for axis, (length, chunk) in enumerate(zip(shape, stored or (1,) * len(shape), strict=True))
    ]
    if choice.by_sample and 0 not in kept:
        block[1:] = shape[1:]
    else:
        # The last axes lie closest together.
        for axis in reversed(range(len(shape))):
            others = math.prod(block) // max(block[axis], 1)
            fitting = max(1, ITEM_VALUES // max(others * max(block[axis], 1), 1))
            block[axis] = min(shape[axis], block[axis] * fitting)
    steps = [range(0, length, max(step, 1)) for length, step in zip(shape, block, strict=True)]
    for starts in itertools.product(*steps):
        yield tuple(
            slice(start, min(start + step, length))
            for start, step, length in zip(starts, block, shape, strict=True)
        )


def _where(block: Blocks) -> str:
    return "[" + ", ".join(f"{part.start}:{part.stop}" for part in block) + "]"
