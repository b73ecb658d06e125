"""Measured items -> values: what belongs together is merged in order, the rest is refused."""

from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from streamnorm.arrays import name_of
from streamnorm.dtypes import scales_may_differ
from streamnorm.errors import warn
from streamnorm.fields import checked_names
from streamnorm.meta import LISTED, Contents, Pass, Report, Sample
from streamnorm.origin import new_pass
from streamnorm.partial import Partial
from streamnorm.pending import rows_of
from streamnorm.reading import Outcome, Part, Plan
from streamnorm.sources.items import ONLY, Source, Tally
from streamnorm.streams import Form, Stream, Value, form_of

__all__ = ["Fold"]
_FIRST = 64
"""First batches whose results are kept, to recognise workers that repeat each other."""


@dataclass
class Fold:
    """Takes the outcomes of a source in their order."""

    source: Source
    plan: Plan
    split: str = ""
    contents: Contents = field(default_factory=Contents)
    channels: Any = None
    watch: Callable[[str | None, Partial], None] | None = None
    streams: dict[str | None, Stream] = field(default_factory=dict)
    read: int = 0
    skipped: int = 0
    misfits: int = 0
    skipped_items: list[tuple[str, str]] = field(default_factory=list)
    samples: int = 0
    first: list[bytes] = field(default_factory=list)
    _ignored: int = field(init=False)
    _ignored_inside: int = 0

    def __post_init__(self) -> None:
        self._ignored = self.source.ignored

    @property
    def ignored(self) -> int:
        """Files, and pieces inside of files, that were left out by their names."""
        # Whoever goes on meets again what was met before.
        return self._ignored + max(self._ignored_inside, self.source.notes.ignored)

    def add(self, outcome: Outcome) -> None:
        """Merge one outcome, or count it as skipped.

        Raises
        ------
        ValueError
            If it could not be read and is not to be skipped, or does not fit the earlier ones.
        """
        skips = self.plan.choice.skips
        if outcome.error is not None and skips:
            self._skip(outcome.item.name, outcome.error)
            return
        parts = outcome.result()
        forms: dict[str | None, Form | None] = {}
        # All are looked at before any is merged: nothing is half-counted.
        try:
            for name, part in parts:
                like = forms.get(name)
                if like is None and name in self.streams:
                    like = self.streams[name].like
                forms[name] = form_of(outcome.item.name, part, like, self.source.one_kind)
        except ValueError as error:
            if not skips:
                raise
            self.misfits += 1
            self._skip(outcome.item.name, error)
            return
        if self.source.audit is not None:
            self._audit([part for _, part in parts])
        self.read += 1
        for name, part in parts:
            stream = self.streams.get(name)
            if stream is None:
                stream = self.streams[name] = self._stream()
                self._check_names(name, part)
            if self.watch is not None and part.measured is not None:
                # The stream merges in place.
                self.watch(name, rows_of(part.measured.rows).copy())
            stream.push(part, forms[name])

    def _check_names(self, name: str | None, part: Part) -> None:
        """Refuse names of channels that do not fit, before all the data are read."""
        given = self.channels
        if isinstance(given, Mapping) and name is ONLY:
            msg = f"{self.source.name} is one array: pass channels= as a list of names"
            raise TypeError(msg)
        if isinstance(given, Mapping):
            given = given.get(name)
        elif name is not ONLY:
            return
        if given is not None and part.measured:
            _check_given(given, "" if name is ONLY else f" of {name}", part.measured.rows.size)

    def _stream(self) -> Stream:
        each = self.plan.choice.weigh == "image"
        return Stream(self.plan.exact, each, keeps=self.source.drawn is not None)

    def _audit(self, parts: Sequence[Part]) -> None:
        self.samples += max((part.samples for part in parts), default=0)
        if len(self.first) < _FIRST:
            rows = [rows_of(part.measured.rows).tobytes() for part in parts if part.measured]
            self.first.append(b"".join(rows))

    def _skip(self, name: str, error: Exception) -> None:
        self.skipped += 1
        if len(self.skipped_items) < LISTED:
            self.skipped_items.append((name, str(error)))

    @property
    def done(self) -> int:
        """Items taken so far."""
        return self.read + self.skipped

    def to_json(self) -> dict[str, Any]:
        """Return all that it holds, as plain JSON values."""
        return {
            "streams": [(name, stream.to_json()) for name, stream in self.streams.items()],
            "read": self.read,
            "skipped": self.skipped,
            "misfits": self.misfits,
            "skipped_items": self.skipped_items,
            "samples": self.samples,
            "first": [b64encode(data).decode() for data in self.first],
            # A checkpoint or an output among the files would be counted the next time.
            "ignored": self._ignored,
            "ignored_inside": max(self._ignored_inside, self.source.notes.ignored),
        }

    def resume(self, plain: Mapping[str, Any]) -> None:
        """Go on from what `to_json` gave."""
        self.streams = {
            name: Stream.from_json(stream, self.plan.exact, self.plan.choice.weigh == "image")
            for name, stream in plain["streams"]
        }
        self.read = plain["read"]
        self.skipped = plain["skipped"]
        self.misfits = plain["misfits"]
        self.skipped_items = [(name, reason) for name, reason in plain["skipped_items"]]
        self.samples = plain["samples"]
        self.first = list(map(b64decode, plain["first"]))
        self._ignored = plain["ignored"]
        self._ignored_inside = plain["ignored_inside"]

    def check(self) -> None:
        """Refuse to have read nothing, or to have skipped most for not being like the first.

        Raises
        ------
        ValueError
            If that is so.
        """
        if self.misfits > self.read:
            name, reason = self.skipped_items[0]
            msg = (
                f"{self.misfits:,} items of {self.source.name} do not fit the first one, and only "
                f"{self.read:,} do: is that the odd one? ({name}: {reason})"
            )
            raise ValueError(msg)
        if any(stream.like for stream in self.streams.values()):
            return
        why = ""
        if nulls := sum(stream.nulls for stream in self.streams.values()):
            why = f": it holds nothing but {nulls:,} nulls"
        if self.skipped_items:
            name, reason = self.skipped_items[0]
            why = f": all {self.skipped} items were skipped, the first is {name} ({reason})"
        msg = f"{self.source.name} is empty, there is nothing to measure{why}"
        raise ValueError(msg)

    def finish(self, seconds: float, time: str | None = None) -> Value | dict[str, Value]:
        """Return the value, or one for each name, with its provenance; warn of what went wrong.

        Raises
        ------
        ValueError
            If nothing was read.
        """
        self.check()
        for text in self._warnings():
            warn(text)
        entry = self._pass(seconds)
        entry = entry if time is None else replace(entry, time=time)
        values = {}
        for name, stream in self.streams.items():
            if stream.like is not None:
                values[name] = stream.value(name, stream.like, entry)
                if self.plan.choice.by_folder:
                    # They are parts of one whole: what was left out is counted in the first.
                    left = Report(seconds=entry.report.seconds)
                    entry = replace(entry, report=left)
        alone = values.get(ONLY)
        return {str(name): value for name, value in values.items()} if alone is None else alone

    def _pass(self, seconds: float) -> Pass:
        report = Report(
            skipped=self.skipped,
            skipped_items=tuple(self.skipped_items),
            ignored=self.ignored,
            seconds=seconds,
        )
        transform = self.plan.transform
        entry = new_pass(
            self.source.name,
            self.source.kind,
            transform=None if transform is None else name_of(transform),
            decoder=self.source.decoder,
            report=report,
        )
        drawn, choice = self.source.drawn, self.plan.choice
        return replace(
            entry,
            split=self.split,
            contents=self.contents,
            array=choice.select if isinstance(choice.select, str) else "",
            weigh=choice.weigh,
            sample=None if drawn is None else Sample(*drawn),
        )

    def _warnings(self) -> list[str]:
        found = list(self.source.notes.warnings)
        if self.source.audit is not None:
            found += self.source.audit(Tally(self.samples, self.first))
        for name, stream in self.streams.items():
            if scales_may_differ(stream.dtypes):
                what = f"{name!r} of {self.source.name}" if name else self.source.name
                found.append(
                    f"{what} holds {' and '.join(stream.dtypes)}: are their scales the same?"
                )
        if empty := [str(name) for name, stream in self.streams.items() if stream.like is None]:
            found.append(f"{', '.join(empty)} of {self.source.name} left out: nothing but nulls")
        if self.skipped:
            name, why = self.skipped_items[0]
            found.append(f"{self.skipped} item(s) could not be read, for example {name} ({why})")
        return found


def _check_given(given: Any, of: str, channels: int) -> None:
    names = checked_names(given, channels, of)
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        msg = f"the channel name {twice[0]!r} is there twice: channels need names of their own"
        raise ValueError(msg)
