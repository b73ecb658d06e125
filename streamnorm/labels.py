"""Labels: which part of which data a value is of, so that none is counted twice or forgotten."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from operator import index
from typing import Any

__all__ = ["Label", "cut", "labels_of", "listed", "missing", "united"]

_TEXT = re.compile(r"([^#\[\]]+)(?:#([^#\[\]]+))?(?:\[(\d*):(\d*)\])?")
_RESERVED = re.compile(r"[#\[\]\x00-\x1f\x7f]")
_SHOWN = 10
_ENDLESS = 1 << 63


@dataclass(frozen=True, slots=True, order=True)
class Label:
    """Which data a value is of: a source, one of its shards, rows or files of it.

    Written ``source`` or ``source#shard``, either with a range, as in ``source#shard[start:stop]``,
    of which each end may be left out. It says what you say: whether a range is what was read nobody
    checks. `compute` takes one; other values get theirs by ``value.with_meta(labels="train#7")``.

    Parameters
    ----------
    source : str
        The data set, as all its parts name it.
    shard : str
        One of its shards; "" for all of them.
    start, stop : int
        Which rows or files, the last excluded. Default: all.
    digest : str
        Of names and sizes of what was read; `compute` sets it.

    Examples
    --------
    >>> import streamnorm as sn
    >>> print(sn.Label("train", "part-007", 0, 1000))
    train#part-007[0:1000]
    >>> sn.Label.parse("train#part-007[0:1000]").stop
    1000
    """

    source: str
    shard: str = ""
    start: int = 0
    stop: int = _ENDLESS
    digest: str = ""

    def __post_init__(self) -> None:
        texts = (self.source, self.shard, self.digest)
        if not all(isinstance(text, str) for text in texts) or not self.source:
            msg = f"a label needs a source, and shard and digest as text, got {texts}"
            raise ValueError(msg)
        named = self.source, self.shard
        if _RESERVED.search(self.source + self.shard) or named != tuple(map(str.strip, named)):
            msg = (
                f"source and shard of a label must not contain #, [, ] or line breaks, nor begin "
                f"or end with spaces, got {named}"
            )
            raise ValueError(msg)
        if not 0 <= index(self.start) < index(self.stop) <= _ENDLESS:
            msg = f"a label's range must be 0 <= start < stop, got {self.start} and {self.stop}"
            raise ValueError(msg)
        # Of NumPy's integers, which are no JSON.
        object.__setattr__(self, "start", index(self.start))
        object.__setattr__(self, "stop", index(self.stop))

    @classmethod
    def parse(cls, text: str) -> "Label":
        """Read a label as it is written.

        Raises
        ------
        ValueError
            If it is empty, or its range is.
        """
        found = _TEXT.fullmatch(text.strip())
        if found is None:
            msg = f"expected a label such as 'train', 'train#7' or 'train#7[0:1000]', got {text!r}"
            raise ValueError(msg)
        source, shard, start, stop = found.groups()
        return cls(source, shard or "", int(start or 0), int(stop or _ENDLESS))

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "Label":
        """Rebuild what `to_json` gave.

        Raises
        ------
        KeyError, TypeError, ValueError
            If a field is missing, unknown, or of another type.
        """
        return cls(**{**plain, "stop": _ENDLESS if plain["stop"] is None else plain["stop"]})

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return plain | {"stop": None if self.stop == _ENDLESS else self.stop}

    @property
    def whole(self) -> bool:
        """Whether it is not of a range."""
        return (self.start, self.stop) == (0, _ENDLESS)

    @property
    def place(self) -> tuple[str, str]:
        """Source and shard."""
        return self.source, self.shard

    def __str__(self) -> str:
        shard = f"#{self.shard}" if self.shard else ""
        stop = "" if self.stop == _ENDLESS else self.stop
        return f"{self.source}{shard}" + ("" if self.whole else f"[{self.start}:{stop}]")


def labels_of(given: Any) -> tuple[Label, ...]:
    """Return labels given as one or several, as such or as text.

    Raises
    ------
    TypeError
        If they are anything else.
    ValueError
        If they overlap, or a text is no label.
    """
    one = isinstance(given, str | Label) or not isinstance(given, Iterable)
    several = [given] if one else list(given)
    for label in several:
        if not isinstance(label, str | Label):
            msg = f"a label must be a Label or text such as 'train#7', got {label!r}"
            raise TypeError(msg)
    return united(Label.parse(label) if isinstance(label, str) else label for label in several)


def united(labels: Iterable[Label]) -> tuple[Label, ...]:
    """Return labels in their order; ranges that adjoin become one.

    Raises
    ------
    ValueError
        If data would be counted twice.
    """
    found: list[Label] = []
    whole: Label | None = None
    for label in sorted(labels):
        before = found[-1] if found else None
        # Sorted: the label of a whole source, if there is one, comes before those of its shards.
        whole = label if not label.shard else whole
        if whole is not None and label.shard and whole.source == label.source:
            _refuse(whole, label)
        if before is None or before.place != label.place:
            found.append(label)
            continue
        if label.start < before.stop:
            _refuse(before, label)
        if label.start == before.stop and label.digest == before.digest:
            found[-1] = replace(before, stop=label.stop)
        else:
            found.append(label)
    return tuple(found)


def _refuse(one: Label, other: Label) -> None:
    what = f"{one} is there twice" if one == other else f"{one} and {other} overlap"
    if one.digest and other.digest and one.digest != other.digest:
        what += " (although they are of different files: is one named wrongly?)"
    msg = f"{what}: data would be counted twice; name and merge every part once"
    raise ValueError(msg)


def missing(labels: Sequence[Label], expected: Iterable[Label]) -> list[Label]:
    """Return what of the expected data `labels` do not name; digests are not compared."""
    named: dict[tuple[str, str], list[Label]] = {}
    for label in labels:
        named.setdefault(label.place, []).append(label)
    gaps: list[Label] = []
    for wanted in expected:
        # A range of a source is in other rows than the same range of a shard.
        whole = wanted.shard and any(label.whole for label in named.get((wanted.source, ""), ()))
        gaps += [] if whole else _gaps(wanted, named.get(wanted.place, ()))
    return gaps


def _gaps(wanted: Label, there: Sequence[Label]) -> Iterator[Label]:
    """Yield the ranges of `wanted` that none covers; those there are in order, without overlaps."""
    start = wanted.start
    for label in there:
        if label.stop <= start or label.start >= wanted.stop:
            continue
        if label.start > start:
            yield replace(wanted, start=start, stop=label.start)
        start = label.stop
    if start < wanted.stop:
        yield replace(wanted, start=start)


def cut(labels: Sequence[Label], removed: Sequence[Label]) -> tuple[Label, ...]:
    """Return `labels` without what is removed.

    Raises
    ------
    ValueError
        If something is to be removed that is not in them.
    """
    if alien := missing(labels, removed):
        msg = f"cannot take away what is not there: {listed(alien)}"
        raise ValueError(msg)
    places = {label.place for label in labels}
    if inside := [label for label in removed if label.place not in places]:
        msg = (
            f"what is left without {listed(inside)} has no name: the other side is labelled as a "
            f"whole source; leave its label out with with_meta(labels=())"
        )
        raise ValueError(msg)
    return tuple(missing(removed, labels))


def listed(things: Sequence[object]) -> str:
    """Name the first of several, and the number of the others, for a message."""
    more = f" and {len(things) - _SHOWN:,} more" if len(things) > _SHOWN else ""
    return ", ".join(map(str, things[:_SHOWN])) + more
