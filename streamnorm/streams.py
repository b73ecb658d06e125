"""One array of a source, piece by piece: what its pieces have in common, and their moments."""

from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from math import prod
from types import MappingProxyType
from typing import Any, NoReturn

import numpy as np

from streamnorm.columns import with_nulls
from streamnorm.exact import ExactMoments
from streamnorm.measure import meta_of
from streamnorm.meta import NO_META, Pass, Provenance
from streamnorm.moments import Moments
from streamnorm.packing import from_bytes, to_bytes
from streamnorm.partial import Partial
from streamnorm.pending import rows_of
from streamnorm.reading import Part
from streamnorm.sampling import with_errors
from streamnorm.sources.items import Packing
from streamnorm.stacks import Stack, Total, Weighings, stack_for
from streamnorm.value import merge
from streamnorm.weighted import WeightedMoments

__all__ = ["Form", "Stream", "Value", "form_of"]

Value = Moments | ExactMoments | WeightedMoments


@dataclass(frozen=True, slots=True)
class Form:
    """What all pieces must have in common with the first one."""

    name: str
    shape: tuple[int, ...]
    channel_shape: tuple[int, ...]
    channels: int
    dtype: str
    names: tuple[str, ...] | None


@dataclass
class Stream:
    """Merges the pieces of one array, in their order.

    Files of one series may pack their numbers with scales and offsets of their own. Stored numbers
    are added up by themselves for each of these, and scaled at the end.
    """

    exact: bool
    each: bool = False
    keeps: bool = False
    like: Form | None = None
    stacks: dict[Packing | None, Stack | Total | Weighings] = field(default_factory=dict)
    dtypes: dict[str, None] = field(default_factory=dict)
    converted: Counter[str] = field(default_factory=Counter)
    nulls: int = 0
    per_row: set[int] = field(default_factory=set)
    kept: list[Partial] = field(default_factory=list)

    def push(self, part: Part, form: "Form | None") -> None:
        """Merge a piece of this form; see `form_of`."""
        self.like = form
        self.nulls += part.nulls
        done = part.measured
        if done is None:
            return
        # That they differ is all that is asked of them; images have a million shapes.
        if part.shape and len(self.per_row) < 2:
            rows = done.rows.size * part.shape[0]
            self.per_row |= {prod(part.shape) // rows} if rows else set()
        self.dtypes[done.dtype] = None
        if part.converted:
            self.converted.update(part.converted)
        stack = self.stacks.get(part.packing)
        if stack is None:
            stack = self.stacks[part.packing] = stack_for(self.exact, each=self.each)
        if self.keeps:
            # The stack merges in place.
            self.kept.append(rows_of(done.rows).copy())
        stack.push(done.rows, some=done.some)

    def value(self, name: str | None, form: "Form", entry: Pass) -> Value:
        """Return all pieces merged; `entry` is what is known of the pass, of all arrays."""
        values = [
            _scaled(self._folded(stack, form), packing) for packing, stack in self.stacks.items()
        ]
        whole = with_nulls(merge(values), self.nulls, self.per_row, f"pieces of {name}")
        names = form.names
        if name and names is None and whole.channels == 1:
            names = (name,)
        report = replace(
            entry.report,
            read=sum(stack.parts for stack in self.stacks.values()),
            converted=MappingProxyType(dict(self.converted)),
            omitted=int(whole.omitted.sum()),
        )
        entry = replace(
            entry, array=name or entry.array, dtype="+".join(self.dtypes), report=report
        )
        if entry.sample is not None:
            sample = with_errors(entry.sample, np.stack(self.kept), whole, each=self.each)
            entry = replace(entry, sample=sample)
        return whole.with_meta(names=names, provenance=Provenance((entry,)))

    def to_json(self) -> dict[str, Any]:
        """Return all that it holds, as plain JSON values."""
        return {
            "like": None if self.like is None else asdict(self.like),
            "stacks": [
                (packing, stack.parts, _held(stack)) for packing, stack in self.stacks.items()
            ],
            "dtypes": list(self.dtypes),
            "converted": self.converted,
            "nulls": self.nulls,
            "per_row": sorted(self.per_row),
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any], exact: bool, each: bool) -> "Stream":
        """Go on from what `to_json` gave."""
        stacks: dict[Packing | None, Stack | Total | Weighings] = {}
        for packing, parts, held in plain["stacks"]:
            stack = stack_for(exact, each=each)
            stack.resume(parts, [(rank, from_bytes(b64decode(t)).rows.copy()) for rank, t in held])
            stacks[None if packing is None else (packing[0], packing[1])] = stack
        return cls(
            exact,
            each,
            False,
            None if plain["like"] is None else _form_from_json(plain["like"]),
            stacks,
            dict.fromkeys(plain["dtypes"]),
            Counter(plain["converted"]),
            plain["nulls"],
            set(plain["per_row"]),
        )

    @staticmethod
    def _folded(stack: Stack | Total | Weighings, form: Form) -> Any:
        return stack.value(stack.fold(form.channels), meta_of(form.channel_shape))


def _scaled(value: Any, packing: Packing | None) -> Any:
    return value if packing is None else value.affine(*packing)


def _held(stack: Stack | Total | Weighings) -> list[tuple[int, str]]:
    return [
        (rank, b64encode(to_bytes(stack.value(rows.copy(), NO_META))).decode())
        for rank, rows in stack.held
    ]


def form_of(item: str, part: Part, like: Form | None, one_kind: bool) -> Form | None:
    """Return the form that a piece must have: that of the first piece, or its own.

    Raises
    ------
    ValueError
        If its channels, their names, or under `one_kind` its dtype, are others.
    """
    done = part.measured
    if done is None:
        return like
    if (
        like is not None
        and done.channel_shape == like.channel_shape
        and part.names == like.names
        and (not one_kind or done.dtype == like.dtype)
    ):
        return like
    own = Form(item, part.shape, done.channel_shape, done.rows.size, done.dtype, part.names)
    if like is not None:
        _refuse(own, like)
    return own


def _form_from_json(plain: Mapping[str, Any]) -> Form:
    names = None if plain["names"] is None else tuple(plain["names"])
    shapes = {name: tuple(plain[name]) for name in ("shape", "channel_shape")}
    return Form(**{**plain, **shapes, "names": names})


def _refuse(mine: Form, theirs: Form) -> NoReturn:
    if mine.channel_shape != theirs.channel_shape:
        msg = (
            f"{mine.name} has {mine.channels} channels (shape {mine.shape}) but "
            f"{theirs.name} has {theirs.channels} (shape {theirs.shape}); measure them apart, or "
            f"make them alike with transform="
        )
        raise ValueError(msg)
    if mine.names != theirs.names:
        msg = (
            f"the channels of {mine.name} are named {mine.names} but those of {theirs.name} "
            f"{theirs.names}; measure them apart"
        )
        raise ValueError(msg)
    msg = (
        f"{mine.name} is {mine.dtype} but {theirs.name} is {theirs.dtype}: their scales differ, so "
        f"their pixels cannot be pooled; convert one kind, or choose one with include="
    )
    raise ValueError(msg)
