"""Iterables of arrays, and torch DataLoaders with an audit of what they really yielded."""

import sys
from collections.abc import Iterable, Iterator, Sized
from functools import partial
from typing import Any

from streamnorm.arrays import type_name
from streamnorm.sources.items import Choice, Item, Reading, Source, Tally, auto_axis, pick

__all__ = ["from_iterable", "from_loader", "is_loader"]


def from_iterable(batches: Iterable[Any], choice: Choice) -> Source:
    """Read batches as they come."""
    choice.refuse("an iterable", "include", "exclude", "mode", "indices")
    total = len(batches) if isinstance(batches, Sized) else None
    return Source(type_name(batches), "iterable", _items(batches, choice), total, auto_axis)


def _items(batches: Iterable[Any], choice: Choice) -> Iterator[Item]:
    for number, batch in enumerate(batches):
        yield Item(f"batch {number}", partial(_pick, batch, choice.select))


def _pick(batch: Any, select: Any) -> Reading:
    return Reading(pick(batch, select))


def is_loader(source: Any) -> bool:
    """Whether `source` is a torch DataLoader; torch is not imported to find out."""
    data = sys.modules.get("torch.utils.data")
    return data is not None and isinstance(source, data.DataLoader)


def from_loader(loader: Any, choice: Choice) -> Source:
    """Read a DataLoader; afterwards say where what it yielded is not its data set, once each."""
    choice.refuse("a DataLoader", "include", "exclude", "mode", "indices")
    total = None if _iterable_dataset(loader) else len(loader)
    name = f"{type_name(loader)} over {type_name(loader.dataset)}"
    audit = partial(_audit, loader)
    return Source(name, "DataLoader", _items(loader, choice), total, auto_axis, audit=audit)


def _audit(loader: Any, tally: Tally) -> list[str]:
    """Compare the samples seen with the data set, and name the cause of a difference."""
    length = len(loader.dataset) if hasattr(loader.dataset, "__len__") else None
    seen = None if loader.batch_size is None and loader.batch_sampler is None else tally.samples
    of = "" if length is None else f" of {length}"
    sampler = getattr(loader.batch_sampler, "sampler", loader.sampler)
    found = []
    if hasattr(sampler, "num_replicas"):
        found += _distributed(sampler, length)
    elif getattr(sampler, "replacement", False):
        found.append(
            f"the sampler {type(sampler).__name__} draws with replacement: some of the {seen} "
            f"samples were counted several times and others never; pass a loader without it"
        )
    elif _iterable_dataset(loader):
        found += _repeated(loader, tally, seen, length)
    elif seen is not None and length is not None and seen != length:
        if getattr(loader, "drop_last", False) and seen < length:
            cause = f"drop_last=True dropped the last {length - seen}; pass drop_last=False"
        else:
            cause = f"the sampler {type(sampler).__name__} chose them"
        found.append(f"{seen}{of} samples were seen: {cause}")
    return found


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


def _repeated(loader: Any, tally: Tally, seen: int | None, length: int | None) -> list[str]:
    workers = loader.num_workers
    more = seen is not None and length is not None and seen > length
    # Without a length: batches come from the workers in turn, and equal first ones betray it.
    first = tally.first[:workers]
    same = workers > 1 and len(first) == workers and len(set(first)) == 1
    if more or same:
        what = (
            f"each of the {workers} workers read the whole IterableDataset, so every sample was "
            f"counted {workers} times; shard it in __iter__ by torch.utils.data.get_worker_info()"
        )
        return [what]
    if seen is not None and length is not None and seen != length:
        return [f"{seen} of {length} samples were seen: the IterableDataset ended early"]
    return []
