"""Images in tar shards, as WebDataset lays them out; read as a stream, never unpacked."""

import gzip
import os
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from io import BytesIO
from typing import Any, BinaryIO

from streamnorm.sources.files import in_file_order, wanted
from streamnorm.sources.images import colour_rule
from streamnorm.sources.inputs import inputs_of
from streamnorm.sources.items import Choice, Item, Source
from streamnorm.sources.pictures import check_mode, decoder, is_image, read_picture
from streamnorm.sources.places import File, Files, Notes, is_hidden

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
        pictures=True,
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
    size = max(file.place.size(file.name), 1)
    with _damage_named(), file.open() as stored, _inflated(stored) as stream:
        shard = tarfile.TarFile(fileobj=stream)
        links = 0
        while (member := shard.next()) is not None:
            # They would all be kept.
            shard.members.clear()  # type: ignore[attr-defined]
            _refuse_escape(member.name)
            name = member.name.removeprefix("./")
            links += member.islnk() and is_image(name)
            if member.isdir():
                continue
            seen = member.isfile() and is_image(name) and not is_hidden(name)
            if not (seen and wanted(name, choice)):
                yield name, None, 0.0
                continue
            if member.size > _MOST_BYTES:
                msg = f"its member {name} claims {member.size:,} bytes, which is no picture"
                raise ValueError(msg)
            data: Any = shard.extractfile(member)
            yield name, data.read(), min(1.0, stored.tell() / size)
        _refuse_rest(stream, shard.offset)
        if links:
            what = f"{file.name}: {links} links among its members are not followed"
            file.notes.warnings.append(what)


def _inflated(stored: BinaryIO) -> Any:
    compressed = stored.read(2) == b"\x1f\x8b"
    stored.seek(0)
    return gzip.open(stored) if compressed else nullcontext(stored)


def _refuse_rest(stream: BinaryIO, offset: int) -> None:
    """Refuse anything but zeros behind the last member: tarfile takes a damaged header for the end.

    To read all of it also checks what gzip says of the whole.
    """
    stream.seek(offset)
    found = 0
    while piece := stream.read(1 << 20):
        found += len(piece)
        if any(piece):
            msg = f"its headers are damaged from byte {offset:,} on, or another archive follows"
            raise ValueError(msg)
    if found < _BLOCK:
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
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        msg = f"it is damaged, or no tar file: {error}"
        raise ValueError(msg) from error
