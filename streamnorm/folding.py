"""Measured items -> one value: what belongs together is merged in order, the rest is refused."""

from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any

from streamnorm.arrays import name_of
from streamnorm.dtypes import scales_may_differ
from streamnorm.errors import warn
from streamnorm.exact import ExactMoments
from streamnorm.measure import Measured, meta_of
from streamnorm.meta import LISTED, NO_META, Pass, Report
from streamnorm.moments import Moments
from streamnorm.origin import new_pass
from streamnorm.packing import from_bytes, to_bytes
from streamnorm.pending import rows_of
from streamnorm.reading import Outcome, Plan
from streamnorm.sources.items import Source, Tally
from streamnorm.stacks import Stack, Total

__all__ = ["Fold"]
_FIRST = 64
"""First batches whose results are kept, to recognise workers that repeat each other."""


@dataclass(frozen=True, slots=True)
class Form:
    """What all items must have in common with the first one."""

    name: str
    shape: tuple[int, ...]
    channel_shape: tuple[int, ...]
    channels: int
    dtype: str


@dataclass
class Fold:
    """Takes the outcomes of a source in their order."""

    source: Source
    skips: bool
    stack: Stack | Total
    like: Form | None = None
    dtypes: dict[str, None] = field(default_factory=dict)
    converted: Counter[str] = field(default_factory=Counter)
    skipped: int = 0
    skipped_items: list[tuple[str, str]] = field(default_factory=list)
    samples: int = 0
    first: list[bytes] = field(default_factory=list)
    ignored: int = field(init=False)

    def __post_init__(self) -> None:
        self.ignored = self.source.ignored

    def add(self, outcome: Outcome) -> None:
        """Merge one outcome, or count it as skipped.

        Raises
        ------
        ValueError
            If it could not be read and is not to be skipped, or does not fit the earlier ones.
        """
        if outcome.measured is None and self.skips:
            self.skipped += 1
            if len(self.skipped_items) < LISTED:
                self.skipped_items.append((outcome.name, str(outcome.error)))
            return
        measured = outcome.result()
        form = _form(outcome.name, outcome.shape, measured)
        if self.like is None:
            self.like = form
        else:
            _check_alike(form, self.like, self.source.one_kind)
        if self.source.audit is not None:
            self.samples += outcome.samples
            if len(self.first) < _FIRST:
                self.first.append(rows_of(measured.rows).tobytes())
        self.dtypes[measured.dtype] = None
        self.converted.update(outcome.converted)
        self.stack.push(measured.rows, some=measured.some)

    @property
    def done(self) -> int:
        """Items taken so far."""
        return self.stack.parts + self.skipped

    def to_json(self) -> dict[str, Any]:
        """Return all that it holds, as plain JSON values."""
        held = [
            (rank, _text(to_bytes(self.stack.value(rows.copy(), NO_META))))
            for rank, rows in self.stack.held
        ]
        return {
            "parts": self.stack.parts,
            "held": held,
            "like": None if self.like is None else asdict(self.like),
            "dtypes": list(self.dtypes),
            "converted": self.converted,
            "skipped": self.skipped,
            "skipped_items": self.skipped_items,
            "samples": self.samples,
            "first": list(map(_text, self.first)),
            # A checkpoint or an output among the files would be counted the next time.
            "ignored": self.ignored,
        }

    def resume(self, plain: Mapping[str, Any]) -> None:
        """Go on from what `to_json` gave."""
        held = [(rank, from_bytes(b64decode(text)).rows.copy()) for rank, text in plain["held"]]
        self.stack.resume(plain["parts"], held)
        self.like = None if plain["like"] is None else _form_from_json(plain["like"])
        self.dtypes = dict.fromkeys(plain["dtypes"])
        self.converted = Counter(plain["converted"])
        self.skipped = plain["skipped"]
        self.skipped_items = [(name, reason) for name, reason in plain["skipped_items"]]
        self.samples = plain["samples"]
        self.first = list(map(b64decode, plain["first"]))
        self.ignored = plain["ignored"]

    def form(self) -> Form:
        """Return what all items have in common.

        Raises
        ------
        ValueError
            If nothing was read.
        """
        if self.like is not None:
            return self.like
        why = ""
        if self.skipped_items:
            name, reason = self.skipped_items[0]
            why = f": all {self.skipped} items were skipped, the first is {name} ({reason})"
        msg = f"{self.source.name} is empty, there is nothing to measure{why}"
        raise ValueError(msg)

    def finish(self, plan: Plan, seconds: float, time: str | None = None) -> Moments | ExactMoments:
        """Return the value with its provenance; warn of what the source says of itself.

        Raises
        ------
        ValueError
            If nothing was read.
        """
        form = self.form()
        rows = self.stack.fold(form.channels)
        meta = meta_of(form.channel_shape)
        entry = self._pass(plan, int(rows["omitted"].sum()), seconds)
        entry = entry if time is None else replace(entry, time=time)
        for text in self._warnings():
            warn(text)
        value: Moments | ExactMoments = self.stack.value(rows, meta.with_pass(entry))
        return value

    def _pass(self, plan: Plan, omitted: int, seconds: float) -> Pass:
        report = Report(
            read=self.stack.parts,
            skipped=self.skipped,
            skipped_items=tuple(self.skipped_items),
            ignored=self.ignored,
            converted=MappingProxyType(dict(self.converted)),
            omitted=omitted,
            seconds=seconds,
        )
        return new_pass(
            self.source.name,
            self.source.kind,
            dtype="+".join(self.dtypes),
            transform=None if plan.transform is None else name_of(plan.transform),
            decoder=self.source.decoder,
            report=report,
        )

    def _warnings(self) -> list[str]:
        found = []
        if self.source.audit is not None:
            found += self.source.audit(Tally(self.samples, self.first))
        if scales_may_differ(self.dtypes):
            kinds = " and ".join(self.dtypes)
            found.append(f"{self.source.name} holds {kinds}: are their scales the same?")
        if self.skipped:
            name, why = self.skipped_items[0]
            found.append(f"{self.skipped} item(s) could not be read, for example {name} ({why})")
        return found


def _form(name: str, shape: tuple[int, ...], measured: Measured) -> Form:
    return Form(name, shape, measured.channel_shape, measured.rows.size, measured.dtype)


def _form_from_json(plain: Mapping[str, Any]) -> Form:
    shapes = {name: tuple(plain[name]) for name in ("shape", "channel_shape")}
    return Form(**{**plain, **shapes})


def _text(data: bytes) -> str:
    return b64encode(data).decode()


def _check_alike(mine: Form, theirs: Form, one_kind: bool) -> None:
    if mine.channel_shape != theirs.channel_shape:
        msg = (
            f"{mine.name} has {mine.channels} channels (shape {mine.shape}) but "
            f"{theirs.name} has {theirs.channels} (shape {theirs.shape}); measure them apart, or "
            f"make them alike with transform="
        )
        raise ValueError(msg)
    if one_kind and mine.dtype != theirs.dtype:
        msg = (
            f"{mine.name} is {mine.dtype} but {theirs.name} is {theirs.dtype}: their scales "
            f"differ, so their pixels cannot be pooled; convert one kind, or choose one with "
            f"include="
        )
        raise ValueError(msg)
