"""A pass that survives being killed: how far it is, in a file that is always whole."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from streamnorm.arrays import as_array, name_of
from streamnorm.errors import StateFileError, warn
from streamnorm.folding import Fold
from streamnorm.labels import listed
from streamnorm.origin import now
from streamnorm.reading import Plan
from streamnorm.sources.inputs import Inputs
from streamnorm.sources.items import Source
from streamnorm.state import remove_temporaries, write_atomically
from streamnorm.tensors import on_device
from streamnorm.version import __version__

__all__ = ["INTERVAL", "Checkpoint", "Clock", "identity_of"]

INTERVAL = 5.0
"""Seconds between two checkpoints, at least."""
_SHARE = 0.01
"""Of the time of a pass, what checkpoints may take at most."""
_FORMAT = "streamnorm checkpoint"
_VERSION = 3

Identity = Mapping[str, Any]


def identity_of(source: Source, inputs: Inputs | None, plan: Plan, on_error: str) -> Identity:
    """Return, as JSON values, what must be the same for a pass to be gone on with.

    Raises
    ------
    ValueError
        If the source does not give the same items again.
    """
    if source.once or inputs is None:
        msg = f"checkpoint= needs a source that can be read again in parts: {source.once}"
        raise ValueError(msg)
    choice = plan.choice
    how = {
        "source": source.name,
        "kind": source.kind,
        "streamnorm": __version__,
        "decoder": source.decoder,
        "channel_axis": choice.channel_axis,
        "exact": plan.exact,
        "nan_policy": plan.nan_policy,
        "transform": plan.transform,
        "on_error": on_error,
        "select": choice.select,
        "include": choice.include,
        "exclude": choice.exclude,
        "indices": None if choice.indices is None else np.asarray(choice.indices).tolist(),
        "mode": choice.mode,
        "mask": choice.mask,
        "nodata": choice.nodata,
        "weigh": choice.weigh,
        "by_folder": choice.by_folder,
    }
    how |= dict(inputs.ways)
    return {
        "how": {name: _plain(value) for name, value in how.items()},
        "inputs": inputs.sizes,
        "looks": inputs.looks(),
    }


def _plain(value: Any) -> str:
    if callable(value):
        return name_of(value)
    if isinstance(value, list | tuple):
        return _short(f"[{', '.join(map(_plain, value))}]")
    if hasattr(value, "dtype") and not isinstance(value, np.generic):
        array, _, _ = as_array(value.cpu() if on_device(value) else value)
        content = hashlib.sha256(array.tobytes()).hexdigest()
        return f"{array.dtype} {array.shape} sha256 {content}"
    # NumPy's integers are written in another way.
    return _short(repr(value.item() if isinstance(value, np.generic) else value))


def _short(text: str) -> str:
    return text if len(text) < 200 else f"sha256 {hashlib.sha256(text.encode()).hexdigest()}"


class Clock:
    """How long a pass takes, where nothing is kept of it."""

    finished: str | None = None
    _before = 0.0

    def __init__(self) -> None:
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Time that the pass has taken, of all attempts together."""
        return self._before + time.perf_counter() - self._began

    def resume(self, fold: Fold) -> None:
        """Begin."""

    def keep(self, fold: Fold) -> None:
        """Go on."""

    def finish(self, fold: Fold) -> None:
        """End."""


class Checkpoint(Clock):
    """The file of one pass over one source.

    Parameters
    ----------
    path : path-like
        Where it is or will be.
    identity : mapping
        What the pass is of; see `identity_of`.

    Attributes
    ----------
    finished : str or None
        When the pass was done, as in provenance, if it is: then the file holds its result.
    """

    def __init__(self, path: str | os.PathLike[str], identity: Identity) -> None:
        super().__init__()
        self._path = Path(path)
        self._identity = json.dumps(identity)
        self._known: Identity = json.loads(self._identity)
        self._next = 0.0

    def resume(self, fold: Fold) -> None:
        """Take up what the file holds; begin it where there is none.

        Raises
        ------
        StateFileError
            If it is no checkpoint, or was damaged.
        ValueError
            If it is of other data, or of another way to measure them; the message lists what.
        OSError
            If it cannot be read or written.
        """
        if self._path.exists():
            identity, state = self._read()
            self._refuse_changes(identity)
            fold.resume(state["fold"])
            self._before, self.finished = state["seconds"], state["finished"]
            if self.finished:
                what = f"{self._path} holds the result of a pass that was done at {self.finished}"
                warn(f"{what}: remove it to read the data again")
        else:
            self._write(fold)
        remove_temporaries(self._path)

    def keep(self, fold: Fold) -> None:
        """Write how far the pass is, if it is time."""
        if time.perf_counter() >= self._next:
            self._write(fold)

    def finish(self, fold: Fold) -> None:
        """Write that the pass is done: from now on the file gives its result."""
        if self.finished is None:
            self.finished = now()
            self._write(fold)

    def _write(self, fold: Fold) -> None:
        begun = time.perf_counter()
        state = {"fold": fold.to_json(), "seconds": self.seconds, "finished": self.finished}
        head = json.dumps({"format": _FORMAT, "version": _VERSION})
        lines = [head, self._identity, json.dumps(state)]
        write_atomically(self._path, "\n".join([*lines, _checksum(lines), ""]).encode())
        ended = time.perf_counter()
        self._next = ended + max(INTERVAL, (ended - begun) / _SHARE)

    def _read(self) -> tuple[Identity, Mapping[str, Any]]:
        try:
            *lines, checksum = self._path.read_text(encoding="utf-8").splitlines()
            head, identity, state = map(json.loads, lines)
            known = (head["format"], head["version"]) == (_FORMAT, _VERSION)
        except (KeyError, TypeError, ValueError):
            known = False
        if not known or checksum != _checksum(lines):
            msg = (
                f"{self._path} is no checkpoint that this streamnorm has written, or is damaged; "
                f"name another file, or, if it is a checkpoint, remove it to start anew"
            )
            raise StateFileError(msg)
        return identity, state

    def _refuse_changes(self, identity: Identity) -> None:
        old, new = dict(identity["how"]), self._known["how"]
        if old.get("on_error") == repr("raise"):
            # Nothing was skipped yet: whoever met a bad file may go on without it.
            old["on_error"] = new["on_error"]
        found = [f"{k} was {old.get(k)}, is {v}" for k, v in new.items() if old.get(k) != v]
        found += _changes(identity["inputs"], self._known["inputs"])
        found = found or _other_contents(identity["looks"], self._known["looks"])
        if found:
            msg = (
                f"{self._path} is of another pass, so it cannot be gone on with: "
                f"{'; '.join(found)}; remove it to start anew, or undo the change"
            )
            raise ValueError(msg)


def _checksum(lines: Sequence[str]) -> str:
    return "sha256:" + hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _changes(old: Sequence[Sequence[Any]], new: Sequence[Sequence[Any]]) -> list[str]:
    if old == new:
        return []
    before, after = (dict(map(tuple, inputs)) for inputs in (old, new))
    found: dict[str, Callable[[], list[str]]] = {
        "added": lambda: [name for name in after if name not in before],
        "removed": lambda: [name for name in before if name not in after],
        "resized": lambda: [
            f"{name} ({before[name]:,} to {size:,})"
            for name, size in after.items()
            if before.get(name, size) != size
        ],
    }
    said = [f"{len(n):,} {what}: {listed(n)}" for what, names in found.items() if (n := names())]
    return said or ["the order of its inputs has changed"]


def _other_contents(old: Sequence[Sequence[str]], new: Sequence[Sequence[str]]) -> list[str]:
    other = [name for (name, mine), (_, theirs) in zip(new, old, strict=True) if mine != theirs]
    what = f"{len(other):,} of {len(new):,} files looked into have another content: {listed(other)}"
    return [what] if other else []
