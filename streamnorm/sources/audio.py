"""Sound files, by soundfile: samples from -1 to 1, as audio libraries give them."""

from collections.abc import Iterator
from functools import partial

from streamnorm.sources.items import ITEM_VALUES, Choice, Item, Packing, Reading
from streamnorm.sources.needs import needed
from streamnorm.sources.places import File

__all__ = ["audio_items"]

_STORED: dict[str, tuple[str, Packing | None]] = {
    "PCM_S8": ("int16", (2.0**-15, 0.0)),
    "PCM_U8": ("int16", (2.0**-15, 0.0)),
    "PCM_16": ("int16", (2.0**-15, 0.0)),
    "PCM_24": ("int32", (2.0**-31, 0.0)),
    "PCM_32": ("int32", (2.0**-31, 0.0)),
    "DOUBLE": ("float64", None),
}
"""How samples of a kind are read without loss, and scaled at the end."""


def audio_items(file: File, choice: Choice) -> Iterator[Item]:
    """Yield blocks of frames."""
    library = needed("soundfile", "audio", file.name)
    _refuse_cut(file)
    with file.open() as stream, library.SoundFile(stream) as sound:
        dtype, packing = _STORED.get(sound.subtype, ("float32", None))
        step = sound.frames if choice.by_sample else max(1, ITEM_VALUES // sound.channels)
        start = 0
        while start < sound.frames:
            block = sound.read(step, dtype)
            if not len(block):
                msg = f"it ends after {start} of {sound.frames} frames: was it cut off?"
                raise ValueError(msg)
            name, start = f"{file.name}, from frame {start}", start + len(block)
            yield Item(name, partial(Reading, block, packing=packing), start / sound.frames)


def _refuse_cut(file: File) -> None:
    """Refuse a WAV file that is shorter than it says; libsndfile takes what is there."""
    with file.open() as stream:
        head = stream.read(8)
    size = int.from_bytes(head[4:], "little")
    # Whoever writes into a pipe does not know the size.
    known = head[:4] == b"RIFF" and size not in (0, 0xFFFFFFFF)
    there = file.place.size(file.name)
    if known and size + 8 > there >= 0:
        msg = f"it has {there:,} of {size + 8:,} bytes: was it cut off?"
        raise ValueError(msg)
