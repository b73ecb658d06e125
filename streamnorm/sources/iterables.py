"""Iterables of arrays, and torch DataLoaders with an audit of what they really yielded."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sized
from functools import partial
from itertools import islice
from typing import Any

from streamnorm.arrays import holds_numbers, name_of, pick, shape_of, type_name
from streamnorm.sources.inputs import Inputs
from streamnorm.sources.items import (
    ONLY,
    Choice,
    Item,
    Named,
    Reading,
    Source,
    Tally,
    auto_axis,
    describe,
)
from streamnorm.sources.places import Notes

__all__ = ["from_iterable", "from_loader", "is_loader"]


def from_iterable(batches: Iterable[Any], choice: Choice, name: str) -> Source:
    """Read batches as they come; `name` is that of what gives them."""
    choice.refuse("an iterable", "include", "exclude", "mode", "indices", "sample")
    total = len(batches) if isinstance(batches, Sized) else None
    notes = Notes()
    items = _items(batches, choice, notes)
    lasts = isinstance(batches, list | tuple)
    once = f"what a {name} gives cannot be read from its middle on; pass a list, or files"
    return Source(
        name,
        "iterable",
        items,
        total,
        auto_axis,
        lasting=lasts,
        mask=choice.mask,
        inputs=partial(_as_inputs, batches, choice) if lasts else None,
        once="" if lasts else once,
        notes=notes,
    )


def _as_inputs(batches: Iterable[Any], choice: Choice) -> Inputs:
    sizes = []
    for number, batch in enumerate(batches):
        for name, array in _arrays_of(batch, choice, Notes()).items():
            of = "" if name is None else f", {name}"
            what = f"batch {number}{of}, {describe(array)}, {getattr(array, 'dtype', '')}"
            sizes.append((what, int(getattr(array, "nbytes", 0))))
    return Inputs(sizes)


def _items(batches: Iterable[Any], choice: Choice, notes: Notes, start: int = 0) -> Iterator[Item]:
    keys: list[str | None] | None = None
    for number, batch in enumerate(batches, start):
        arrays = _arrays_of(batch, choice, notes if keys is None else Notes())
        if keys is not None and keys != list(arrays):
            msg = f"batch {number} has the keys {list(arrays)} but earlier ones {keys}"
            raise ValueError(msg)
        keys = list(arrays)
        yield Item(f"batch {number}", partial(_readings, batch, arrays))


def _readings(batch: Any, arrays: Mapping[str | None, Any]) -> list[Named]:
    return [
        (name, Reading(array, batch=batch, samples=_samples_in(array)))
        for name, array in arrays.items()
    ]


def _samples_in(array: Any) -> int:
    shape = shape_of(array) if hasattr(array, "shape") else ()
    return shape[0] if shape else 1


def _arrays_of(batch: Any, choice: Choice, notes: Notes) -> dict[str | None, Any]:
    """Return what a batch holds that is to be measured, by name if it is a dict."""
    several = isinstance(choice.select, list | tuple)
    if not isinstance(batch, Mapping) or (choice.select is not None and not several):
        return {ONLY: pick(batch, choice.select)}
    wrong = [key for key in batch if not isinstance(key, str)]
    if wrong:
        msg = f"the keys of a batch must be text, got {wrong[0]!r}; pass select= to take one array"
        raise TypeError(msg)
    if several:
        return {key: pick(batch, key) for key in choice.select}
    # An array of a mask compares element by element.
    mask = choice.mask if isinstance(choice.mask, str) else None
    found = {k: v for k, v in batch.items() if k != mask and holds_numbers(v)}
    if left := [key for key in batch if key not in found and key != mask]:
        what = f"keys left out, as they hold no arrays of numbers: {', '.join(left)}"
        notes.warnings.append(what)
    if not found:
        msg = f"none of the keys {list(batch)} holds an array of numbers; pass select="
        raise ValueError(msg)
    return found


def is_loader(source: Any) -> bool:
    """Whether `source` is a torch DataLoader; torch is not imported to find out."""
    data = sys.modules.get("torch.utils.data")
    return data is not None and isinstance(source, data.DataLoader)


def from_loader(loader: Any, choice: Choice) -> Source:
    """Read a DataLoader; afterwards say where what it yielded is not its data set, once each."""
    choice.refuse("a DataLoader", "include", "exclude", "mode", "indices", "sample")
    total = None if _iterable_dataset(loader) else len(loader)
    name = f"{type_name(loader)} over {type_name(loader.dataset)}"
    notes = Notes()
    return Source(
        name,
        "DataLoader",
        _items(loader, choice, notes),
        total,
        auto_axis,
        mask=choice.mask,
        notes=notes,
        audit=partial(_audit, loader),
        inputs=None if total is None else partial(_samples, loader),
        once=_why_once(loader),
        rest=partial(_rest, loader, choice, notes),
    )


def _samples(loader: Any) -> Inputs:
    each = getattr(loader.batch_sampler, "batch_size", None) or 0
    sizes = [
        ("samples", len(loader.dataset)),
        ("samples of a batch", each),
        ("batches", len(loader)),
    ]
    return Inputs(sizes, ways=[("collate_fn", name_of(loader.collate_fn))])


def _why_once(loader: Any) -> str:
    """Say why another pass over a loader would give other batches, if it would."""
    if _iterable_dataset(loader):
        return f"a {type_name(loader.dataset)} cannot be read from its middle on"
    data = sys.modules["torch.utils.data"]
    if type(loader).__iter__ is not data.DataLoader.__iter__:
        return f"a {type_name(loader)} makes its batches itself; pass a plain DataLoader"
    if loader.num_workers and not getattr(loader, "in_order", True):
        return "a loader with in_order=False gives batches as they are ready; pass in_order=True"
    batches = loader.batch_sampler
    chooses = loader.sampler if batches is None else getattr(batches, "sampler", batches)
    if type(chooses) is data.SequentialSampler and type(batches) in (data.BatchSampler, type(None)):
        return ""
    return (
        f"the {type(chooses).__name__} of the loader may choose other samples the next time; pass "
        f"a loader with shuffle=False and no sampler of its own"
    )


def _rest(loader: Any, choice: Choice, notes: Notes, start: int) -> Iterator[Item]:
    """Yield the batches from a position on; samples of those before are not read."""
    data = sys.modules["torch.utils.data"]
    batches = loader.batch_sampler
    left = list(islice(loader.sampler if batches is None else batches, start, None))
    chosen = {"sampler": left, "batch_size": None} if batches is None else {"batch_sampler": left}
    same = (
        "collate_fn",
        "generator",
        "multiprocessing_context",
        "num_workers",
        "pin_memory",
        "prefetch_factor",
        "timeout",
        "worker_init_fn",
    )
    options = {name: getattr(loader, name) for name in same}
    yield from _items(data.DataLoader(loader.dataset, **chosen, **options), choice, notes, start)


def _audit(loader: Any, tally: Tally) -> list[str]:
    """Compare the samples seen with the data set, and name the cause of a difference."""
    length = len(loader.dataset) if hasattr(loader.dataset, "__len__") else None
    batches = loader.batch_sampler
    seen = tally.samples if batches is not None or loader.batch_size is not None else None
    if _iterable_dataset(loader):
        return _iterable(loader, tally, seen, length)
    sampler = getattr(batches, "sampler", loader.sampler if batches is None else batches)
    if getattr(sampler, "replacement", False):
        what = (
            f"the sampler {type(sampler).__name__} draws with replacement: some of the {seen} "
            f"samples were counted several times and others never; pass a loader without it"
        )
        return [what]
    found = _distributed(sampler, length) if hasattr(sampler, "num_replicas") else []
    expected = len(sampler) if hasattr(sampler, "num_replicas") else length
    if seen is not None and expected is not None and seen != expected:
        found.append(f"{seen} of {expected} samples were seen: {_cause(loader, sampler)}")
    return found


def _cause(loader: Any, sampler: Any) -> str:
    if _drops_last(loader):
        return "drop_last=True dropped the last, incomplete batch; pass drop_last=False"
    return f"the sampler {type(sampler).__name__} chose them"


def _drops_last(loader: Any) -> bool:
    return bool(getattr(loader.batch_sampler, "drop_last", loader.drop_last))


def _distributed(sampler: Any, length: int | None) -> list[str]:
    if length is None or sampler.total_size == length:
        return []
    if sampler.total_size > length:
        what = (
            f"DistributedSampler padded {length} samples to {sampler.total_size} for "
            f"{sampler.num_replicas} ranks: {sampler.total_size - length} are counted twice"
        )
    else:
        what = (
            f"DistributedSampler with drop_last=True dropped {length - sampler.total_size} of "
            f"{length} samples"
        )
    return [f"{what}; shard with range(rank, {length}, {sampler.num_replicas}) instead"]


def _iterable_dataset(loader: Any) -> bool:
    return isinstance(loader.dataset, sys.modules["torch.utils.data"].IterableDataset)


def _iterable(loader: Any, tally: Tally, seen: int | None, length: int | None) -> list[str]:
    workers = loader.num_workers
    remedy = "shard it in __iter__ by torch.utils.data.get_worker_info()"
    if seen is not None and length is not None and seen != length:
        if workers > 1 and seen > length:
            what = f"each of the {workers} workers read the whole IterableDataset"
            return [f"{what}: {seen} samples were counted instead of {length}; {remedy}"]
        if seen < length and _drops_last(loader):
            return [f"{seen} of {length} samples were seen: {_cause(loader, None)}"]
        what = f"the IterableDataset gave {seen} samples although its length is {length}"
        return [f"{what}; correct its __iter__ or its __len__"]
    # Without a length: batches come from the workers in turn, and equal first ones betray it.
    first = tally.first[:workers]
    if length is None and workers > 1 and len(first) == workers and len(set(first)) == 1:
        what = f"the first batches of all {workers} workers are equal"
        return [f"{what}: did each read the whole IterableDataset? if so, {remedy}"]
    return []
