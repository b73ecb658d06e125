"""Measured items -> one value: what belongs together is merged in order, the rest is refused."""

import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from streamnorm.errors import StreamnormWarning
from streamnorm.exact import ExactMoments
from streamnorm.measure import meta_of
from streamnorm.meta import LISTED, Pass, Report
from streamnorm.moments import Moments
from streamnorm.origin import new_pass
from streamnorm.pending import rows_of
from streamnorm.reading import Outcome, Plan
from streamnorm.sources.items import Source, Tally
from streamnorm.stacks import Stack, Total

__all__ = ["Fold"]

_FIRST = 64
"""First batches whose results are kept, to recognise workers that repeat each other."""


@dataclass
class Fold:
    """Takes the outcomes of a source in their order."""

    source: Source
    skips: bool
    stack: Stack | Total
    like: Outcome | None = None
    dtypes: dict[str, None] = field(default_factory=dict)
    converted: Counter[str] = field(default_factory=Counter)
    skipped: int = 0
    skipped_items: list[tuple[str, str]] = field(default_factory=list)
    samples: int = 0
    first: list[bytes] = field(default_factory=list)

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
        if self.like is None:
            self.like = outcome
        else:
            _check_alike(outcome, self.like, self.source.one_kind)
        if self.source.audit is not None:
            self.samples += outcome.samples
            if len(self.first) < _FIRST:
                self.first.append(rows_of(measured.rows).tobytes())
        self.dtypes[measured.dtype] = None
        self.converted.update(outcome.converted)
        self.stack.push(measured.rows, some=measured.some)

    def finish(self, plan: Plan, seconds: float) -> Moments | ExactMoments:
        """Return the value with its provenance; warn of what the source says of itself.

        Raises
        ------
        ValueError
            If nothing was read.
        """
        if self.like is None:
            why = ""
            if self.skipped_items:
                name, reason = self.skipped_items[0]
                why = f": all {self.skipped} items were skipped, the first is {name} ({reason})"
            msg = f"{self.source.name} is empty, there is nothing to measure{why}"
            raise ValueError(msg)
        like = self.like.result()
        rows = self.stack.fold(like.rows.size)
        meta = meta_of(like.channel_shape)
        entry = self._pass(plan, int(rows["omitted"].sum()), seconds)
        for text in self._warnings():
            warnings.warn(text, StreamnormWarning, stacklevel=3)
        value: Moments | ExactMoments = self.stack.value(rows, meta.with_pass(entry))
        return value

    def _pass(self, plan: Plan, omitted: int, seconds: float) -> Pass:
        report = Report(
            read=self.stack.parts,
            skipped=self.skipped,
            skipped_items=tuple(self.skipped_items),
            ignored=self.source.ignored,
            converted=MappingProxyType(dict(self.converted)),
            omitted=omitted,
            seconds=seconds,
        )
        return new_pass(
            self.source.name,
            self.source.kind,
            dtype="+".join(self.dtypes),
            transform=None if plan.transform is None else _name(plan.transform),
            decoder=self.source.decoder,
            report=report,
        )

    def _warnings(self) -> list[str]:
        found = []
        if self.source.audit is not None:
            found += self.source.audit(Tally(self.samples, self.first))
        if self.skipped:
            name, why = self.skipped_items[0]
            found.append(f"{self.skipped} item(s) could not be read, for example {name} ({why})")
        return found


def _check_alike(outcome: Outcome, like: Outcome, one_kind: bool) -> None:
    mine, theirs = outcome.result(), like.result()
    if mine.channel_shape != theirs.channel_shape:
        msg = (
            f"{outcome.name} has {mine.rows.size} channels (shape {outcome.shape}) but "
            f"{like.name} has {theirs.rows.size} (shape {like.shape}); measure them apart, or "
            f"make them alike with transform="
        )
        raise ValueError(msg)
    if one_kind and mine.dtype != theirs.dtype:
        msg = (
            f"{outcome.name} is {mine.dtype} but {like.name} is {theirs.dtype}: their scales "
            f"differ, so their pixels cannot be pooled; convert one kind, or choose one with "
            f"include="
        )
        raise ValueError(msg)


def _name(transform: Callable[[Any], Any]) -> str:
    named = transform if hasattr(transform, "__qualname__") else type(transform)
    return f"{named.__module__}.{named.__qualname__}"
