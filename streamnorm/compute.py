"""A whole data set -> one value: threads that read, decode and measure; one fold in order."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypedDict, Unpack, overload

from streamnorm import threads
from streamnorm.checkpoint import Checkpoint, Clock, identity_of
from streamnorm.errors import warn
from streamnorm.exact import ExactMoments
from streamnorm.folding import Fold
from streamnorm.labels import Label, labels_of, listed
from streamnorm.masks import checked_mask, checked_nodata
from streamnorm.measure import NanPolicy, check_nan_policy
from streamnorm.meta import Contents
from streamnorm.moments import Moments
from streamnorm.progress import Bar, Progress
from streamnorm.reading import Plan, outcomes
from streamnorm.sources.inputs import Inputs
from streamnorm.sources.items import Axes, Choice
from streamnorm.sources.registry import open_source

__all__ = ["compute"]


class _Options(TypedDict, total=False):
    """What `compute` takes besides its source, for those who check types."""

    channel_axis: Axes
    nan_policy: NanPolicy
    workers: int | None
    on_error: Literal["raise", "skip"]
    select: Any
    transform: Callable[[Any], Any] | None
    mask: Any
    nodata: Any
    channels: Sequence[str] | Mapping[str, Sequence[str]] | None
    include: str | Sequence[str]
    exclude: str | Sequence[str]
    indices: Sequence[int] | None
    mode: str | None
    progress: Progress | bool | None
    checkpoint: str | os.PathLike[str] | None
    label: Label | str | None
    split: str
    sample: int | None
    weigh: Literal["pixel", "image"]
    by_folder: bool


# Any beside them: what has several named arrays gives a dict, which only running tells.
@overload
def compute(
    source: Any, *, exact: Literal[False] = False, **options: Unpack[_Options]
) -> Moments | Any: ...
@overload
def compute(
    source: Any, *, exact: Literal[True], **options: Unpack[_Options]
) -> ExactMoments | Any: ...
@overload
def compute(source: Any, *, exact: bool, **options: Unpack[_Options]) -> Any: ...
def compute(
    source: Any,
    *,
    channel_axis: Axes = "auto",
    exact: bool = False,
    nan_policy: NanPolicy = "propagate",
    workers: int | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    select: Any = None,
    transform: Callable[[Any], Any] | None = None,
    mask: Any = None,
    nodata: Any = "auto",
    channels: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    include: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
    indices: Sequence[int] | None = None,
    mode: str | None = None,
    progress: Progress | bool | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    label: Label | str | None = None,
    split: str = "",
    sample: int | None = None,
    weigh: Literal["pixel", "image"] = "pixel",
    by_folder: bool = False,
) -> Any:
    """Measure a whole data set in one pass.

    Parameters
    ----------
    source : path, array, table, DataLoader, or iterable of arrays
        A file, a folder, a glob, a list of files, or a URL that fsspec opens: images (recursive,
        sizes may differ), tar shards of them, GeoTIFF, NIfTI, sound, idx, ``.npy``, ``.npz``,
        Parquet, CSV, Arrow, zarr, HDF5, NetCDF; ``streamnorm sources`` lists them, and what each
        needs. Or an array or memory map, a table of pandas, Polars or Arrow, an xarray object, a
        torch DataLoader, any iterable of arrays, or of dicts of them.
    channel_axis : int, tuple of int, None, "auto", or dict of these
        The axis that is kept, or one for each named array. "auto": the last for images; the bands
        of rasters; 1 for 2-D arrays and for 4-D and up, for others it asks; one channel for a
        column of scalars, and for each variable of a file.
    exact, nan_policy
        As for `measure`. With ``exact=True`` the result does not depend on the order of the items.
    workers : int, optional
        Threads that read, decode and measure. Default as for ``threads`` of `measure`. The bits do
        not depend on it. An iterator's batches are measured one by one, since it may fill one
        buffer again and again; only its own work and the measuring use threads then.
    on_error : {"raise", "skip"}
        What to do with a file that cannot be read or decoded, or does not fit the others, as of
        another number of channels. Skipped ones are counted and listed in ``value.meta.report``,
        and warned of. If most do not fit the first one, that is an error.
    select : int, str, list of str or callable, optional
        Which item of a tuple (default the first), which key of a dict, which array of an ``.npz``
        file, or which columns or variables to measure; a single name gives a single value.
    transform : callable, optional
        Applied to every item before it is measured; recorded by its name.
    mask : array of bool, int, str or callable, optional
        True where a value counts: of the shape of the array, or one that broadcasts to every item;
        where it lies in a batch that is a tuple or dict; or what makes it of a batch, such as
        ``lambda batch: batch["label"] == 3`` for a region. Made of a batch, it has as many
        axes as the batch: of samples it is ``[:, None]``. The others are counted as omitted.
    nodata : "auto", None, float, or sequence of float or None
        Which stored values mean "nothing here". "auto": those that the format declares. A number,
        or one for each channel: these too, compared in the dtype of the data. None: all that is
        stored is data (but nulls of tables, which have no value).
    channels : sequence of str, or dict of these, optional
        Names of the channels; of each array if there are several, unless all have the same.
    include, exclude : str or sequence of str
        Globs on the paths below a folder, or on the paths of a list of images.
    indices : sequence of int, optional
        Which rows of an array, or which files in their order, to read.
    mode : str, optional
        Pillow's name of the mode to convert every image to, for example "RGB" or "L". Default:
        one channel if all images are grey, else RGB.
    progress : bool or callable, optional
        A bar on stderr; default only on a terminal. Or a callable of (items done, total or None).
    checkpoint : path-like, optional
        A file in which to keep how far the pass is, about every 5 s. Killed at any moment, the
        same call goes on where it was; every item counts once, and the result has the bits of an
        undisturbed pass. When it is done the file holds the result, and the same call gives it
        again, until you remove the file. Of a transform or another callable only its name is
        compared, of files names and sizes and a few places in sixteen of them, of arrays and data
        sets their shapes and lengths.
    label : Label or str, optional
        Which part of which data this is, such as "train#part-007": see `Label` and `merge`.
    split : str
        Which split of the data this is, such as "train", for provenance.
    sample : int, optional
        Read only so many images, or samples along axis 0, drawn at random (the same ones every
        time), for a first answer. ``value.meta.provenance.passes[0].sample`` has the standard
        errors, clustered by image; files of samples are marked.
    weigh : {"pixel", "image"}
        "image": every image counts the same, whatever its size; the result is `WeightedMoments`.
    by_folder : bool
        Images of each folder below the source by themselves, such as classes: a dict, whose
        ``merge(result.values())`` is that of all.

    Returns
    -------
    Moments or ExactMoments, or a dict of them
        Bit for bit that of ``merge(measure(item) for item in items)``. ``value.meta.report`` says
        what was read, skipped, ignored, converted and omitted. A table, a file of several variables
        and batches that are dicts give a dict, in their order. Numbers that are packed with a scale
        and an offset are added up as they are stored, and scaled at the end (``exact=True``:
        unpacked to float64 first).

    Raises
    ------
    FileNotFoundError
        If a path does not exist.
    ValueError
        If the source is empty, an item cannot be read, channels differ between items, 8- and
        16-bit images are mixed, or the channel axis is not clear. With ``checkpoint``, if the
        source cannot be read again in parts (a generator, a shuffling loader), or has changed.
    OSError
        If a file, or the checkpoint, cannot be read or written. The checkpoint is as before.
    TypeError
        If the source or its items are nothing that can be measured.

    Examples
    --------
    >>> import numpy as np, streamnorm as sn
    >>> sn.compute(np.arange(24.0).reshape(2, 3, 2, 2))
    Moments(C=3, n=8, mean=[7.5 11.5 15.5], std=[6.103 6.103 6.103])
    >>> batches = ((np.full((4, 2), float(k)), "label") for k in range(3))
    >>> sn.compute(batches).meta.report.read
    3
    """
    check_nan_policy(nan_policy)
    if on_error not in ("raise", "skip"):
        msg = f"on_error must be 'raise' or 'skip', got {on_error!r}"
        raise ValueError(msg)
    choice = Choice(
        _checked_axes(channel_axis), select, _listed(include), _listed(exclude), indices, mode,
        checked_mask(mask), checked_nodata(nodata), sample, "image" if weigh == "image" else "",
        by_folder=by_folder, by_sample=int(weigh == "image" or sample is not None),
        skips=on_error == "skip", copies=transform is not None,
    )  # fmt: skip
    _check_weighing(choice, weigh, exact, checkpoint)
    workers = threads.resolve(workers, "workers")
    opened = open_source(source, choice)
    if by_folder and opened.kind != "image files":
        msg = f"by_folder= needs a folder of images, not {opened.kind}"
        raise ValueError(msg)
    if choice.weigh and not opened.single:
        msg = f"weigh='image' needs a source of images, one an item, not {opened.kind}"
        raise ValueError(msg)
    plan = Plan(choice, nan_policy, exact, transform).fits(opened)
    # What batches are made of is asked only where something depends on it: it takes time.
    asked = label is not None or checkpoint is not None or opened.kind not in ("iterable", "table")
    inputs = opened.inputs() if asked and opened.inputs is not None else None
    contents = Contents() if inputs is None else inputs.contents
    fold = Fold(opened, plan, split, contents, channels)
    named = None if label is None else _with_digest(label, inputs)
    kept = Clock()
    if checkpoint is not None:
        kept = Checkpoint(checkpoint, identity_of(opened, inputs, plan, on_error))
    kept.resume(fold)
    left = () if kept.finished else outcomes(opened, plan, workers, fold.done)
    with Bar(opened, progress, fold.done) as bar:
        for outcome in left:
            fold.add(outcome)
            kept.keep(fold)
            bar.advance(outcome)
    fold.check()
    kept.finish(fold)
    values = fold.finish(kept.seconds, kept.finished)
    _warn_of_axes(channel_axis, values)
    labels = {} if named is None else {"labels": (named,)}
    if isinstance(values, dict):
        given = _names_of(values, channels)
        return {
            name: value.with_meta(**_labelled(named, name, by_folder), **given[name])
            for name, value in values.items()
        }
    if channels is None and isinstance(select, str) and values.channels == 1:
        channels = [select]
    return values.with_meta(**labels, **({} if channels is None else {"names": channels}))


def _check_weighing(choice: Choice, weigh: str, exact: bool, checkpoint: Any) -> None:
    if weigh not in ("pixel", "image"):
        msg = f"weigh must be 'pixel' or 'image', got {weigh!r}"
        raise ValueError(msg)
    if exact and (choice.weigh or choice.sample is not None):
        msg = "exact=True is for all values alike: leave weigh='image' and sample= out"
        raise ValueError(msg)
    if choice.sample is not None and choice.sample < 1:
        msg = f"sample= takes a number of at least 1, got {choice.sample}"
        raise ValueError(msg)
    if choice.sample is not None and checkpoint is not None:
        msg = "a sample is read at once: leave checkpoint= out, or sample="
        raise ValueError(msg)


def _checked_axes(given: Any) -> Axes:
    for axis in given.values() if isinstance(given, Mapping) else (given,):
        if isinstance(axis, str) and axis != "auto":
            msg = f"channel_axis must be an int, a tuple of ints, None or 'auto', got {axis!r}"
            raise TypeError(msg)
    return given  # type: ignore[no-any-return]


def _names_of(values: Mapping[str, Any], channels: Any) -> dict[str, dict[str, Any]]:
    """Return the channel names that were given for each of several arrays."""
    if channels is not None and not isinstance(channels, Mapping):
        if all(value.channels == len(channels) for value in values.values()):
            return {name: {"names": channels} for name in values}
        msg = f"the source holds the arrays {list(values)}; pass channels= as a dict of names"
        raise TypeError(msg)
    given = channels or {}
    if unknown := [name for name in given if name not in values]:
        msg = f"channels= names {unknown[0]!r}, which is not among the arrays {list(values)}"
        raise ValueError(msg)
    return {name: {"names": given[name]} if name in given else {} for name in values}


def _warn_of_axes(asked: Any, values: Any) -> None:
    names = list(values) if isinstance(values, dict) else []
    if isinstance(asked, Mapping) and (unknown := [name for name in asked if name not in names]):
        there = f"the arrays {names}" if names else "one array"
        warn(f"channel_axis= names {unknown[0]!r}, but the source holds {there}")


def _labelled(named: Label | None, name: str, by_folder: bool) -> dict[str, Any]:
    """Return the label of one of several arrays; those of folders are different data."""
    if named is None:
        return {}
    if by_folder:
        shard = f"{named.shard}/{name}" if named.shard else name
        # The digest is that of all folders together.
        named = replace(named, shard=shard, digest="")
    return {"labels": (named,)}


def _with_digest(given: Label | str, inputs: Inputs | None) -> Label:
    several = labels_of(given)
    if len(several) != 1:
        msg = f"label= names one part of the data, got {len(several)}: {listed(several)}"
        raise ValueError(msg)
    (label,) = several
    if label.digest or inputs is None:
        return label
    return replace(label, digest=inputs.digest)


def _listed(globs: str | Sequence[str]) -> tuple[str, ...]:
    return (globs,) if isinstance(globs, str) else tuple(globs)
