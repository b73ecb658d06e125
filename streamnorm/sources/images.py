"""Image files: folders, lists and globs of them."""

from collections.abc import Iterable, Iterator
from functools import partial
from io import BytesIO

from streamnorm.sources.arrays import checked_indices
from streamnorm.sources.files import wanted_of
from streamnorm.sources.inputs import inputs_of
from streamnorm.sources.items import Choice, Item, Named, Source, drawn
from streamnorm.sources.pictures import check_mode, decoder, in_colour, read_file
from streamnorm.sources.places import File, Files

__all__ = ["colour_rule", "from_images"]


def from_images(files: Files, choice: Choice) -> Source:
    """Read image files in the order of their names, or in the order given."""
    choice.refuse("image files", "select")
    files = wanted_of(files, choice)
    names = files.names
    there, some = len(names), drawn(len(names), choice)
    if choice.indices is not None:
        some = checked_indices(choice.indices, len(names))
    names = names if some is None else [names[i] for i in some]
    check_mode(choice.mode)
    mode = choice.mode or colour_rule(_pictures(files, names))
    read = _read_of_folder if choice.by_folder else read_file
    items = (Item(name, partial(read, File(files.place, name), mode)) for name in names)
    return Source(
        files.shown,
        "image files",
        items,
        len(names),
        lambda _: -1,
        decoder(),
        files.ignored,
        one_kind=True,
        group=16,
        pictures=True,
        single=True,
        drawn=None if choice.sample is None else (len(names), there),
        mask=choice.mask,
        inputs=partial(inputs_of, names, files.place, colours=mode),
    )


def _read_of_folder(file: File, mode: str | None) -> list[Named]:
    """Read an image as one of its folder: the first one below that of the source."""
    folder, slash, _ = file.name.partition("/")
    return [(folder if slash else ".", read_file(file, mode))]


def colour_rule(pictures: Iterable[str | BytesIO]) -> str | None:
    """Return the mode of all, given their headers: RGB if one is in colour."""
    return "auto RGB" if any(map(in_colour, pictures)) else None


def _pictures(files: Files, names: Iterable[str]) -> Iterator[str | BytesIO]:
    place = files.place
    for name in names:
        yield place.path(name) if place.system is None else BytesIO(place.read(name))
