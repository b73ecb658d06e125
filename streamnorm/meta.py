"""What is known about moments besides their numbers: names, shape, where they came from."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any

from streamnorm.labels import Label, united

__all__ = ["LISTED", "NO_META", "Contents", "Meta", "Pass", "Provenance", "Report", "Sample"]

LISTED = 100
"""Passes and skipped items that are listed one by one; beyond, only counted."""
_IN_MEMORY = ("array", "iterable", "table", "xarray", "DataLoader")
"""Kinds of sources whose names and sizes say nothing of what is in them."""


@dataclass(frozen=True, slots=True)
class Report:
    """What happened while a data set was read.

    Attributes
    ----------
    read : int
        Items measured: files, members of tars, batches, or blocks of what is large.
    skipped : int
        Items that could not be read, under ``on_error="skip"``.
    skipped_items : tuple of (str, str)
        Name and reason of the first 100 of them.
    ignored : int
        Files, members and variables that are not of the data by their names, or were excluded.
    converted : mapping of str to int
        Items whose values were changed on reading, by kind of change.
    omitted : int
        Values left out: NaN under ``nan_policy="omit"``, and masked ones.
    seconds : float
        Wall time of the pass.
    """

    read: int = 0
    skipped: int = 0
    skipped_items: tuple[tuple[str, str], ...] = ()
    ignored: int = 0
    converted: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    omitted: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Report") -> "Report":
        kinds = [*self.converted, *(kind for kind in other.converted if kind not in self.converted)]
        both = {k: self.converted.get(k, 0) + other.converted.get(k, 0) for k in kinds}
        return Report(
            self.read + other.read,
            self.skipped + other.skipped,
            (self.skipped_items + other.skipped_items)[:LISTED],
            self.ignored + other.ignored,
            MappingProxyType(both),
            self.omitted + other.omitted,
            self.seconds + other.seconds,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # A mapping proxy cannot be pickled.
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return _report, (values | {"converted": dict(self.converted)},)


def _report(values: dict[str, Any]) -> Report:
    return Report(**values | {"converted": MappingProxyType(values["converted"])})


@dataclass(frozen=True, slots=True)
class Contents:
    """Which files, rows or batches a source was made of.

    Attributes
    ----------
    count : int
    first, last : str
        Names.
    digest : str
        SHA-256 of all names and sizes, in their order: another choice of them has another.
    """

    count: int = 0
    first: str = ""
    last: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """What was drawn of a source, and how far its answer may be from that of the whole.

    Attributes
    ----------
    taken, of : int
        Images, or samples along axis 0.
    mean_error, std_error : tuple of float or None
        Standard errors of mean and std, per channel; None where undefined.
    """

    taken: int
    of: int
    mean_error: tuple[float | None, ...] = ()
    std_error: tuple[float | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass over one source: where numbers came from.

    Attributes
    ----------
    source : str
        What was read, as the user named it.
    kind : str
        "image files", "array", "DataLoader", …
    array : str
        Which of the named arrays of the source; "" where there is only one.
    split : str
        Which part of the data the user said that it is: "train", …
    contents : Contents
        Which files, rows or batches were there.
    weigh : str
        "image" where every image counts the same; "" where every value does.
    sample : Sample or None
        Where only some of it was read.
    dtype : str
        Stored dtypes seen, joined by "+".
    transform : str or None
        Name of what was applied to each item.
    software, decoder, cpu : str
        Versions and processor, for the day when two results differ in the last digit.
    time : str
        UTC, ISO 8601; from SOURCE_DATE_EPOCH where that is set. Not covered by checksums.
    report : Report
        What happened.
    """

    source: str
    kind: str
    dtype: str = ""
    transform: str | None = None
    software: str = ""
    decoder: str = ""
    cpu: str = ""
    time: str = ""
    report: Report = Report()
    array: str = ""
    split: str = ""
    contents: Contents = Contents()
    weigh: str = ""
    sample: Sample | None = None

    @property
    def of_folder(self) -> bool:
        """Whether it is that of one folder of images, read by itself among others."""
        return self.kind == "image files" and bool(self.array)

    @property
    def names_its_data(self) -> bool:
        """Whether names and sizes were there to tell these data from others: those of files."""
        return bool(self.contents.digest) and self.kind not in _IN_MEMORY

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; the seconds stay out, they are of the run, not of the data."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "report"}
        plain["contents"] = asdict(self.contents)
        plain["sample"] = None if self.sample is None else asdict(self.sample)
        report = {f.name: getattr(self.report, f.name) for f in fields(Report)}
        del report["seconds"]
        report["converted"] = dict(self.report.converted)
        report["skipped_items"] = [list(item) for item in self.report.skipped_items]
        return plain | {"report": report}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "Pass":
        """Rebuild what `to_json` gave.

        Raises
        ------
        TypeError, ValueError
            If a field is missing, unknown or of another type.
        """
        report = dict(plain["report"])
        counts = ("read", "skipped", "ignored", "omitted")
        numbers = [report[name] for name in counts] + list(report["converted"].values())
        items = [tuple(item) for item in report["skipped_items"]]
        # Files of version 1 are without.
        contents = dict(plain.get("contents", {}))
        numbers += [contents[name] for name in ("count",) if name in contents]
        texts = [
            v
            for k, v in {**plain, **contents}.items()
            if k not in ("contents", "count", "report", "sample")
            and not (k == "transform" and v is None)
        ]
        texts += [text for item in items for text in item]
        if not all(type(number) is int and number >= 0 for number in numbers):
            msg = f"a report counts in whole numbers of at least 0, got {numbers}"
            raise ValueError(msg)
        if not all(isinstance(text, str) for text in texts) or any(
            len(item) != 2 for item in items
        ):
            msg = "provenance is text, and skipped items are pairs of name and reason"
            raise ValueError(msg)
        report["converted"] = MappingProxyType(dict(report["converted"]))
        report["skipped_items"] = tuple(items)
        made = {"report": Report(**report), "contents": Contents(**contents)}
        return cls(**{**plain, **made, "sample": _sample(plain.get("sample"))})


def _sample(plain: Mapping[str, Any] | None) -> Sample | None:
    if plain is None:
        return None
    errors = {name: tuple(plain[name]) for name in ("mean_error", "std_error")}
    numbers = [number for column in errors.values() for number in column if number is not None]
    if not all(type(number) in (int, float) for number in numbers):
        msg = "the standard errors of a sample must be numbers or null"
        raise ValueError(msg)
    if not all(type(plain[name]) is int for name in ("taken", "of")):
        msg = "a sample is so many of so many, in whole numbers"
        raise ValueError(msg)
    return Sample(**{**plain, **errors})


@dataclass(frozen=True, slots=True)
class Provenance:
    """The passes behind a value, in order; beyond 100 only their number and a digest."""

    passes: tuple[Pass, ...] = ()
    further: int = 0
    digest: str = ""

    def __add__(self, other: "Provenance") -> "Provenance":
        passes = self.passes + other.passes
        folded = passes[LISTED:]
        pieces = [d for d in (self.digest, other.digest) if d] + [_canonical(p) for p in folded]
        digest = pieces[0] if len(pieces) == 1 and not folded else _digest(pieces)
        return Provenance(passes[:LISTED], self.further + other.further + len(folded), digest)


def _digest(pieces: list[str]) -> str:
    return hashlib.sha256("\n".join(pieces).encode()).hexdigest() if pieces else ""


def _canonical(entry: Pass) -> str:
    return json.dumps({**entry.to_json(), "time": ""}, sort_keys=True)


@dataclass(frozen=True, slots=True)
class Meta:
    """The part of a value that its laws do not look at.

    Attributes
    ----------
    names : tuple of str or None
        One name a channel.
    channel_shape : tuple of int or None
        The shape of the kept axes, where several were flattened to channels.
    provenance : Provenance
        Where the numbers came from.
    labels : tuple of Label
        Which parts of which data these are; to merge data that are named twice is an error.
    unlabelled : bool
        Whether data without a label are among those with one.
    """

    names: tuple[str, ...] | None = None
    channel_shape: tuple[int, ...] | None = None
    provenance: Provenance = Provenance()
    labels: tuple[Label, ...] = ()
    unlabelled: bool = False

    @property
    def report(self) -> Report:
        """What happened in all listed passes together."""
        total = Report()
        for entry in self.provenance.passes:
            total += entry.report
        return total

    def __add__(self, other: "Meta") -> "Meta":
        return Meta.joined((self, other))

    @staticmethod
    def joined(metas: Iterable["Meta"]) -> "Meta":
        """Return what is known of all together.

        Raises
        ------
        ValueError
            If names or shapes differ, or labels overlap.
        """
        total, unlabelled = NO_META, False
        labels: list[Label] = []
        for meta in metas:
            labels += meta.labels
            unlabelled |= meta.unlabelled
            if total is NO_META:
                total = meta
            elif meta is not NO_META:
                total = Meta(
                    _agreed("channel names", total.names, meta.names),
                    _agreed("channel shapes", total.channel_shape, meta.channel_shape),
                    total.provenance + meta.provenance,
                )
        named = united(labels)
        return replace(total, labels=named, unlabelled=unlabelled) if named else total

    def of_channels(self, at: Sequence[int]) -> "Meta":
        """Return what is known of some of the channels."""
        names = None if self.names is None else tuple(self.names[i] for i in at)
        chosen = replace(self, names=names, channel_shape=None)
        return _with_errors(chosen, lambda errors: [errors[i] for i in at])

    def times(self, factors: Sequence[float]) -> "Meta":
        """Return what is known of the channels once their values are multiplied."""

        def scaled(errors: Sequence[float | None]) -> list[float | None]:
            pairs = zip(errors, factors, strict=True)
            return [None if error is None else error * abs(factor) for error, factor in pairs]

        return _with_errors(self, scaled)

    def without_errors(self) -> "Meta":
        """Return this without the standard errors of samples."""
        return _with_errors(self, lambda _: ())

    def with_pass(self, entry: Pass) -> "Meta":
        """Return this with one more pass behind it."""
        return replace(self, provenance=self.provenance + Provenance((entry,)))


NO_META = Meta()


def _with_errors(meta: Meta, change: Callable[[Sequence[float | None]], Any]) -> Meta:
    """Return a meta with the standard errors of samples, of all channels, changed."""
    origin = meta.provenance
    if not any(entry.sample and entry.sample.mean_error for entry in origin.passes):
        return meta
    passes = []
    for entry in origin.passes:
        sample = entry.sample
        if sample is not None and sample.mean_error:
            errors = (tuple(change(of)) for of in (sample.mean_error, sample.std_error))
            sample = Sample(sample.taken, sample.of, *errors)
        passes.append(replace(entry, sample=sample))
    return replace(meta, provenance=replace(origin, passes=tuple(passes)))


def _agreed(what: str, mine: Any, theirs: Any) -> Any:
    if mine is not None and theirs is not None and mine != theirs:
        msg = (
            f"cannot combine: {what} differ, {mine} and {theirs}; rename or reshape one side first"
        )
        raise ValueError(msg)
    return theirs if mine is None else mine
