"""The state file: a value as strict JSON, bit-exact, checksummed, written atomically."""

import glob
import hashlib
import json
import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from streamnorm.documents import KINDS, SEVERAL, from_document, to_document
from streamnorm.errors import StateFileError
from streamnorm.exact import ExactMoments
from streamnorm.moments import Moments
from streamnorm.value import Value
from streamnorm.weighted import WeightedMoments

__all__ = ["load", "remove_temporaries", "save", "write_atomically"]

FORMAT = "streamnorm"
VERSION = 2


def save(moments: Value | Mapping[str, Value], path: str | os.PathLike[str]) -> None:
    """Write a state file.

    Strict JSON that any language reads; floats in the shortest digits that give the same bits
    back, NaN, infinities and exact sums as strings, and a SHA-256 over everything except times. The
    file appears whole or not at all.

    Parameters
    ----------
    moments : Moments or ExactMoments, or a dict of these
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
    several = isinstance(moments, Mapping) and len(moments) > 0
    for value in moments.values() if several and isinstance(moments, Mapping) else [moments]:
        if not isinstance(value, Moments | ExactMoments | WeightedMoments):
            msg = (
                f"expected Moments to save, got {type(value).__name__}; measure the data first, or "
                f"pass an accumulator's .moments"
            )
            raise TypeError(msg)
    held: Any = moments
    document = {"format": FORMAT, "version": VERSION, **to_document(held)}
    document["checksum"] = _checksum(document)
    lines = (f" {json.dumps(key)}: {_strict(value)}" for key, value in document.items())
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    write_atomically(Path(path), text.encode())


def load(path: str | os.PathLike[str], *, verify: bool = True) -> Moments | ExactMoments | Any:
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
    Moments or ExactMoments, or a dict of them
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
    except IsADirectoryError:
        msg = f"{path} is a folder, no state file"
        raise StateFileError(msg) from None
    except UnicodeDecodeError:
        msg = f"{path} is not a state file but a binary one; `streamnorm compute` measures data"
        raise StateFileError(msg) from None
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
        return from_document(document)
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
        _sync(target.parent)
    except OSError as error:
        # Of the file that was asked for, not of one that nobody knows.
        error.filename, error.filename2 = str(path), None
        temporary.unlink(missing_ok=True)
        raise
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _sync(folder: Path) -> None:
    """Let a new name in a folder outlast a loss of power, where the system can be asked to."""
    with suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def remove_temporaries(path: Path) -> None:
    """Remove what processes that were killed have left beside `path` while writing it."""
    target = Path(os.path.realpath(path))
    ours = re.compile(rf"\.{re.escape(target.name)}\.(\d+)-[0-9a-f]{{8}}")
    for left in target.parent.glob(f".{glob.escape(target.name)}.*-*"):
        found = ours.fullmatch(left.name)
        if found and not _runs(int(found[1])):
            left.unlink(missing_ok=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        # Of another user: it may not be signalled, so it is there.
        return isinstance(error, PermissionError)
    return True


def _strict(value: Any) -> str:
    # ASCII: file names need not be text, and a lone surrogate has no UTF-8.
    return json.dumps(value, ensure_ascii=True, allow_nan=False)


def _checksum(document: Mapping[str, Any]) -> str:
    """Hash the canonical form: sorted keys, no spaces, without the checksum itself and times."""
    covered = _timeless({key: value for key, value in document.items() if key != "checksum"})
    values = covered.get("values")
    if isinstance(values, dict):
        covered["values"] = {
            name: _timeless(value) if isinstance(value, dict) else value
            for name, value in values.items()
        }
    text = json.dumps(covered, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _timeless(document: Mapping[str, Any]) -> dict[str, Any]:
    provenance = document.get("provenance")
    if not (isinstance(provenance, dict) and isinstance(provenance.get("passes"), list)):
        return dict(document)
    passes = [
        {k: v for k, v in entry.items() if k != "time"} if isinstance(entry, dict) else entry
        for entry in provenance["passes"]
    ]
    return dict(document) | {"provenance": provenance | {"passes": passes}}


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
    if str(document.get("kind")) not in (*KINDS, SEVERAL):
        expected = " or ".join(map(repr, (*KINDS, SEVERAL)))
        msg = f"{path} holds {document.get('kind')!r}, expected {expected}"
        raise StateFileError(msg)


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        msg = "a field stands in it twice"
        raise ValueError(msg)
    return document


def _refuse_constant(word: str) -> None:
    msg = f"{word} must be written as a string"
    raise ValueError(msg)
