"""The state file: moments as strict JSON, bit-exact, checksummed, written atomically."""

import hashlib
import json
import math
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from streamnorm.errors import StateFileError
from streamnorm.meta import Meta, Pass, Provenance
from streamnorm.moments import Moments

__all__ = ["load", "save", "write_atomically"]

FORMAT = "streamnorm"
VERSION = 1
_INTEGERS = ("count", "omitted")
_FLOATS = ("mean", "m2", "minimum", "maximum")
_KEYS = frozenset(
    ["format", "version", "kind", "channels", "channel_shape", "names", "provenance", "checksum"]
) | {*_INTEGERS, *_FLOATS}
_SPELLED = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def save(moments: Moments, path: str | os.PathLike[str]) -> None:
    """Write a state file.

    Strict JSON that any language reads; floats in the shortest digits that give the same bits
    back, NaN and infinities as strings, and a SHA-256 over everything except times. The file
    appears whole or not at all.

    Parameters
    ----------
    moments : Moments
        What to save, with its names and provenance.
    path : path-like
        Where to; an existing file is replaced.

    Examples
    --------
    >>> import streamnorm as sn
    >>> sn.save(sn.measure([[1.0], [2.0]]), "train.stats.json")
    >>> sn.load("train.stats.json").mean.tolist()
    [1.5]
    """
    if not isinstance(moments, Moments):
        msg = f"expected Moments to save, got {type(moments).__name__}"
        raise TypeError(msg)
    document = _document(moments)
    document["checksum"] = _checksum(document)
    lines = (f" {json.dumps(key)}: {_strict(value)}" for key, value in document.items())
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    write_atomically(Path(path), text.encode())


def load(path: str | os.PathLike[str], *, verify: bool = True) -> Moments:
    """Read a state file.

    Parameters
    ----------
    path : path-like
        A file that `save` wrote, with any release.
    verify : bool
        False accepts a missing or wrong checksum, for files written by hand. The fields are
        checked all the same.

    Returns
    -------
    Moments
        With the bits that were saved.

    Raises
    ------
    StateFileError
        If the file is truncated, foreign, changed, of a newer version, or its numbers could come
        from no data.
    FileNotFoundError
        If there is none.
    """
    path = Path(path)
    try:
        document = json.loads(
            path.read_bytes(), parse_constant=_refuse_constant, object_pairs_hook=_without_doubles
        )
    except (RecursionError, ValueError) as error:
        msg = f"{path} is not a state file: it is no strict JSON ({error}); was it cut off?"
        raise StateFileError(msg) from error
    _check_header(path, document)
    if verify and document.get("checksum") != _checksum(document):
        what = "has a wrong checksum" if "checksum" in document else "has no checksum"
        msg = (
            f"{path} {what}: it was changed after it was saved; save it again, or pass "
            f"verify=False if you trust it"
        )
        raise StateFileError(msg)
    try:
        return _moments(document)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        what = f"field {error} is missing" if isinstance(error, KeyError) else str(error)
        msg = f"{path} is not a valid state file: {what}"
        raise StateFileError(msg) from error


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` so that `path` holds either its old content or all of the new.

    A link is followed; what is no regular file (a device, a pipe) is written to as it is.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        target.write_bytes(data)
        return
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        # Of the file that was asked for, not of one that nobody knows.
        error.filename, error.filename2 = str(path), None
        temporary.unlink(missing_ok=True)
        raise
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _document(moments: Moments) -> dict[str, Any]:
    meta = moments.meta
    fields = {name: getattr(moments, name).tolist() for name in (*_INTEGERS, *_FLOATS)}
    for name in _FLOATS:
        fields[name] = [_spell(value) for value in fields[name]]
    return {
        "format": FORMAT,
        "version": VERSION,
        "kind": "moments",
        "channels": moments.channels,
        "channel_shape": None if meta.channel_shape is None else list(meta.channel_shape),
        "names": None if meta.names is None else list(meta.names),
        **fields,
        "provenance": {
            "passes": [entry.to_json() for entry in meta.provenance.passes],
            "further": meta.provenance.further,
            "digest": meta.provenance.digest,
        },
    }


def _strict(value: Any) -> str:
    # ASCII: file names need not be text, and a lone surrogate has no UTF-8.
    return json.dumps(value, ensure_ascii=True, allow_nan=False)


def _spell(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def _checksum(document: Mapping[str, Any]) -> str:
    """Hash the canonical form: sorted keys, no spaces, without the checksum itself and times."""
    covered = {key: value for key, value in document.items() if key != "checksum"}
    provenance = covered.get("provenance")
    if isinstance(provenance, dict) and isinstance(provenance.get("passes"), list):
        timeless = [
            {k: v for k, v in entry.items() if k != "time"} if isinstance(entry, dict) else entry
            for entry in provenance["passes"]
        ]
        covered["provenance"] = provenance | {"passes": timeless}
    text = json.dumps(covered, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _check_header(path: Path, document: Any) -> None:
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        msg = f'{path} is not a streamnorm state file: it has no "format": "{FORMAT}"'
        raise StateFileError(msg)
    version = document.get("version")
    if type(version) is not int or version < 1:
        msg = f"{path} has no valid version, got {version!r}"
        raise StateFileError(msg)
    if version > VERSION:
        msg = (
            f"{path} is of state version {version}, this streamnorm reads up to {VERSION}; "
            f"upgrade with: pip install -U streamnorm"
        )
        raise StateFileError(msg)
    if document.get("kind") != "moments":
        msg = f"{path} holds {document.get('kind')!r}, expected 'moments'"
        raise StateFileError(msg)


def _moments(document: Mapping[str, Any]) -> Moments:
    channels = _whole(document["channels"])
    if unknown := set(document) - _KEYS:
        msg = f"it has unknown fields {sorted(unknown)}"
        raise ValueError(msg)
    fields = {name: _numbers(name, document[name], channels) for name in (*_INTEGERS, *_FLOATS)}
    shape, names, provenance = (document[k] for k in ("channel_shape", "names", "provenance"))
    if not isinstance(names, list | None) or not isinstance(shape, list | None):
        msg = "names and channel_shape must be lists or null"
        raise TypeError(msg)
    meta = Meta(
        names=None if names is None else tuple(names),
        channel_shape=None if shape is None else tuple(map(_whole, shape)),
        provenance=Provenance(
            tuple(Pass.from_json(entry) for entry in provenance["passes"]),
            _whole(provenance["further"]),
            _text(provenance["digest"]),
        ),
    )
    empty = fields["count"] == 0
    if any(not np.isnan(fields[name][empty]).all() for name in ("mean", "minimum", "maximum")):
        msg = "a channel with count 0 has a mean or an extreme"
        raise ValueError(msg)
    return Moments(**fields, meta=meta)


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        msg = f"expected a whole number of at least 0, got {value!r}"
        raise ValueError(msg)
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        msg = f"expected text, got {value!r}"
        raise TypeError(msg)
    return value


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        msg = "a field stands in it twice"
        raise ValueError(msg)
    return document


def _numbers(name: str, values: Any, channels: int) -> np.ndarray[Any, Any]:
    if not isinstance(values, list) or len(values) != channels:
        msg = f"{name} must list {channels} numbers, one per channel"
        raise ValueError(msg)
    if name in _INTEGERS:
        if not all(type(value) is int for value in values):
            msg = f"{name} must be whole numbers"
            raise ValueError(msg)
        return np.array(values, np.int64)
    if any(type(v) not in (int, float) and v not in _SPELLED for v in values):
        msg = f"{name} must be numbers, or one of {', '.join(_SPELLED)}"
        raise ValueError(msg)
    return np.array([_SPELLED[v] if isinstance(v, str) else v for v in values], np.float64)


def _refuse_constant(word: str) -> None:
    msg = f"{word} must be written as a string"
    raise ValueError(msg)
