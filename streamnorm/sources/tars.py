"""Images in tar shards, as WebDataset lays them out; read as a stream, never unpacked."""

import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from typing import Any, BinaryIO

from streamnorm.sources.files import in_file_order
from streamnorm.sources.images import colour_rule, wanted
from streamnorm.sources.inputs import inputs_of
from streamnorm.sources.items import Choice, Item, Source
from streamnorm.sources.pictures import check_mode, decoder, is_image, read_picture
from streamnorm.sources.places import File, Files, Notes

__all__ = ["from_tars"]

_BLOCK = 512
"""Bytes of zero, at least, that end a tar file."""
_MOST_BYTES = 1 << 30
"""Of one picture in a shard: what claims more is no picture."""


def from_tars(files: Files, choice: Choice) -> Source:
    """Read the images in tar files, in the order in which they lie."""
    choice.refuse("tar files", "select", "indices", "sample")
    check_mode(choice.mode)
    mode = choice.mode or colour_rule(_headers(files, choice))
    notes = Notes()
    items, size = in_file_order(files, choice, partial(_items, mode=mode), notes)
    return Source(
        files.shown,
        "tar files of images",
        items,
        None,
        lambda _: -1,
        decoder(),
        files.ignored,
        one_kind=True,
        group=16,
        single=True,
        size=size,
        mask=choice.mask,
        inputs=partial(inputs_of, files.names, files.place, colours=mode),
        notes=notes,
    )


def _items(file: File, choice: Choice, mode: str | None) -> Iterator[Item]:
    for name, data, place in _pictures(file, choice):
        if data is None:
            file.notes.ignored += 1
        else:
            yield Item(f"{file.name}:{name}", partial(read_picture, data, mode), place)


def _headers(files: Files, choice: Choice) -> Iterator[BytesIO]:
    """Yield every picture until somebody has seen enough."""
    for name in files.names:
        try:
            for _, data, _ in _pictures(File(files.place, name), choice):
                if data is not None:
                    yield BytesIO(data)
        except (OSError, ValueError, tarfile.TarError):
            # What is broken speaks up when it is read.
            continue


def _pictures(file: File, choice: Choice) -> Iterator[tuple[str, bytes | None, float]]:
    """Yield name, bytes and place of every member; no bytes where it is no picture."""
    with _damage_named(), file.open() as stream, tarfile.open(fileobj=stream, mode="r|*") as shard:
        size = max(file.place.size(file.name), 1)
        for member in shard:
            _refuse_escape(member.name)
            if member.isdir():
                continue
            if not (member.isfile() and is_image(member.name) and wanted(member.name, choice)):
                yield member.name, None, 0.0
                continue
            if member.size > _MOST_BYTES:
                msg = f"its member {member.name} claims {member.size:,} bytes, which is no picture"
                raise ValueError(msg)
            data: Any = shard.extractfile(member)
            yield member.name, data.read(), min(1.0, stream.tell() / size)
        _refuse_cut(stream, size)


def _refuse_cut(stream: BinaryIO, size: int) -> None:
    """Refuse a file that ends after some member: tarfile takes what is there."""
    stream.seek(0)
    if stream.read(2) == b"\x1f\x8b":
        return
    stream.seek(max(0, size - _BLOCK))
    if any(stream.read(_BLOCK)):
        msg = "it does not end as a tar file does: was it cut off?"
        raise ValueError(msg)


def _refuse_escape(name: str) -> None:
    """Refuse names that would leave the folder that the shard stands for."""
    if os.path.isabs(name) or ".." in name.replace("\\", "/").split("/"):
        msg = f"its member {name!r} leads out of the archive; nothing of it is trusted"
        raise ValueError(msg)


@contextmanager
def _damage_named() -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, OSError) as error:
        msg = f"it is damaged, or no tar file: {error}"
        raise ValueError(msg) from error
