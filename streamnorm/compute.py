"""A whole data set -> one value: threads that read, decode and measure; one fold in order."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, overload

from streamnorm import threads
from streamnorm.checkpoint import Checkpoint, Clock, identity_of
from streamnorm.exact import ExactMoments
from streamnorm.folding import Fold
from streamnorm.labels import Label, labels_of, listed
from streamnorm.layout import ChannelAxis
from streamnorm.measure import NanPolicy, check_nan_policy
from streamnorm.moments import Moments
from streamnorm.progress import Bar, Progress
from streamnorm.reading import Plan, outcomes
from streamnorm.sources.items import Choice, Inputs
from streamnorm.sources.registry import open_source
from streamnorm.stacks import stack_for

__all__ = ["compute"]


@overload
def compute(
    source: Any,
    *,
    channel_axis: ChannelAxis | Literal["auto"] = "auto",
    exact: Literal[False] = False,
    nan_policy: NanPolicy = "propagate",
    workers: int | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    select: Any = None,
    transform: Callable[[Any], Any] | None = None,
    include: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
    indices: Sequence[int] | None = None,
    mode: str | None = None,
    progress: Progress | bool | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    label: Label | str | None = None,
) -> Moments: ...
@overload
def compute(
    source: Any,
    *,
    channel_axis: ChannelAxis | Literal["auto"] = "auto",
    exact: Literal[True],
    nan_policy: NanPolicy = "propagate",
    workers: int | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    select: Any = None,
    transform: Callable[[Any], Any] | None = None,
    include: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
    indices: Sequence[int] | None = None,
    mode: str | None = None,
    progress: Progress | bool | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    label: Label | str | None = None,
) -> ExactMoments: ...
@overload
def compute(
    source: Any,
    *,
    channel_axis: ChannelAxis | Literal["auto"] = "auto",
    exact: bool = False,
    nan_policy: NanPolicy = "propagate",
    workers: int | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    select: Any = None,
    transform: Callable[[Any], Any] | None = None,
    include: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
    indices: Sequence[int] | None = None,
    mode: str | None = None,
    progress: Progress | bool | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    label: Label | str | None = None,
) -> Moments | ExactMoments: ...
def compute(
    source: Any,
    *,
    channel_axis: ChannelAxis | Literal["auto"] = "auto",
    exact: bool = False,
    nan_policy: NanPolicy = "propagate",
    workers: int | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    select: Any = None,
    transform: Callable[[Any], Any] | None = None,
    include: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
    indices: Sequence[int] | None = None,
    mode: str | None = None,
    progress: Progress | bool | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    label: Label | str | None = None,
) -> Moments | ExactMoments:
    """Measure a whole data set in one pass.

    Parameters
    ----------
    source : path, array, DataLoader, or iterable of arrays
        A folder of images (recursive, sizes may differ), an image, ``.npy`` or ``.npz`` file, a
        glob, a list of files; an array or memory map; a torch DataLoader; any iterable.
    channel_axis : int, tuple of int, None or "auto"
        The axis that is kept. "auto": the last for images; 1 for 2-D arrays and for 4-D and up;
        for others it asks.
    exact, nan_policy
        As for `measure`. With ``exact=True`` the result does not depend on the order of the items.
    workers : int, optional
        Threads that read, decode and measure. Default as for ``threads`` of `measure`. The bits do
        not depend on it. An iterator's batches are measured one by one, since it may fill one
        buffer again and again; only its own work and the measuring use threads then.
    on_error : {"raise", "skip"}
        What to do with a file that cannot be read or decoded. Skipped ones are counted and listed
        in ``value.meta.report``, and warned of. An array that does not fit is always an error.
    select : int, str or callable, optional
        Which item of a tuple (default the first), which key of a dict, or which array of an
        ``.npz`` file to measure.
    transform : callable, optional
        Applied to every item before it is measured; recorded by its name.
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

    Returns
    -------
    Moments or ExactMoments
        Bit for bit that of ``merge(measure(item) for item in items)``. ``value.meta.report`` says
        what was read, skipped, ignored, converted and omitted.

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
    if isinstance(channel_axis, str) and channel_axis != "auto":
        msg = f"channel_axis must be an int, a tuple of ints, None or 'auto', got {channel_axis!r}"
        raise TypeError(msg)
    skips = on_error == "skip"
    choice = Choice(
        select, _listed(include), _listed(exclude), indices, mode,
        skips=skips, copies=transform is not None,
    )  # fmt: skip
    workers = threads.resolve(workers, "workers")
    opened = open_source(source, channel_axis, choice)
    plan = Plan(channel_axis, nan_policy, exact, transform)
    fold = Fold(opened, skips, stack_for(exact))
    asked = label is not None or checkpoint is not None
    inputs = opened.inputs() if asked and opened.inputs is not None else None
    named = None if label is None else _with_digest(label, inputs)
    kept = Clock()
    if checkpoint is not None:
        kept = Checkpoint(checkpoint, identity_of(opened, inputs, plan, choice, on_error))
    kept.resume(fold)
    left = () if kept.finished else outcomes(opened, plan, workers, fold.done)
    with Bar(opened, progress, fold.done) as bar:
        for outcome in left:
            fold.add(outcome)
            kept.keep(fold)
            bar.advance(outcome.size)
    fold.form()
    kept.finish(fold)
    value = fold.finish(plan, kept.seconds, kept.finished)
    return value if named is None else value.with_meta(labels=(named,))


def _with_digest(given: Label | str, inputs: Inputs | None) -> Label:
    several = labels_of(given)
    if len(several) != 1:
        msg = f"label= names one part of the data, got {len(several)}: {listed(several)}"
        raise ValueError(msg)
    (label,) = several
    if label.digest or inputs is None:
        return label
    sizes = json.dumps(inputs.sizes).encode()
    return replace(label, digest=hashlib.sha256(sizes).hexdigest())


def _listed(globs: str | Sequence[str]) -> tuple[str, ...]:
    return (globs,) if isinstance(globs, str) else tuple(globs)
