"""Statistics that others have computed, taken over; ours, in the forms that others read."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from streamnorm.arrays import type_name
from streamnorm.moments import Moments
from streamnorm.normalize import unit_where_constant
from streamnorm.sources.needs import needed
from streamnorm.value import Value, checked_value, merge

__all__ = ["from_lerobot", "from_scaler", "refuse_batch_norm", "to_lerobot", "to_scaler"]

_FIELDS = ("mean", "std", "min", "max", "count")


def from_scaler(scaler: Any) -> Moments:
    """Take over what a fitted scikit-learn ``StandardScaler`` has learned.

    Parameters
    ----------
    scaler : sklearn.preprocessing.StandardScaler
        Fitted with ``with_std=True``, and without weights: those that add up to a whole number
        cannot be told from counts.

    Returns
    -------
    Moments
        Extremes are unknown; names are those of its features.

    Raises
    ------
    TypeError
        If it is a BatchNorm layer, or something else.
    ValueError
        If it is not fitted, knows no variance, or was fitted with weights.

    Examples
    --------
    >>> from sklearn.preprocessing import StandardScaler
    >>> from streamnorm.exchange import from_scaler
    >>> from_scaler(StandardScaler().fit([[1.0], [3.0]]))
    Moments(C=1, n=2, mean=[2], std=[1])
    """
    refuse_batch_norm(scaler)
    kind = type(scaler)
    if kind.__name__ != "StandardScaler":
        msg = f"expected a fitted StandardScaler, got a {type_name(scaler)}"
        raise TypeError(msg)
    if not hasattr(scaler, "n_samples_seen_") or scaler.var_ is None:
        msg = "the scaler knows no variance: fit it, with with_std=True"
        raise ValueError(msg)
    seen = np.broadcast_to(np.asarray(scaler.n_samples_seen_), np.shape(scaler.mean_))
    if not (seen == np.round(seen)).all():
        msg = "the scaler was fitted with weights: how many values there were is not known"
        raise ValueError(msg)
    value = Moments.from_mean_std(seen.astype(np.int64), scaler.mean_, np.sqrt(scaler.var_))
    names = getattr(scaler, "feature_names_in_", None)
    return value if names is None else value.with_meta(names=tuple(map(str, names)))


def to_scaler(moments: Value) -> Any:
    """Return a fitted scikit-learn ``StandardScaler``; it can go on with ``partial_fit``.

    Parameters
    ----------
    moments : Moments, ExactMoments or WeightedMoments
        One channel a feature.

    Returns
    -------
    sklearn.preprocessing.StandardScaler
    """
    checked_value(moments)
    preprocessing = needed("sklearn.preprocessing", "sklearn", "a scikit-learn scaler")
    scaler = preprocessing.StandardScaler()
    counts = getattr(moments, "weight", moments.count)
    scaler.mean_, scaler.var_ = moments.mean.copy(), moments.variance()
    scaler.scale_ = unit_where_constant(moments)
    scaler.n_samples_seen_ = counts[0] if (counts == counts[0]).all() else counts.copy()
    scaler.n_features_in_ = moments.channels
    if moments.meta.names is not None:
        scaler.feature_names_in_ = np.array(moments.meta.names, object)
    return scaler


def from_lerobot(path: str | os.PathLike[str]) -> dict[str, Moments]:
    """Take over the statistics of a LeRobot data set.

    Of images LeRobot counts frames, not pixels, and looks at some of them only: what it publishes
    is taken as it is.

    Parameters
    ----------
    path : path-like
        ``meta/episodes_stats.jsonl``, whose episodes are merged, or ``meta/stats.json``. Names of
        channels come from ``info.json`` beside it.

    Returns
    -------
    dict of Moments

    Raises
    ------
    ValueError
        If it is no such file, or a feature has no count: then nobody knows how to merge it; the
        message names line and feature.

    Examples
    --------
    >>> import json, pathlib
    >>> from streamnorm.exchange import from_lerobot
    >>> episode = {"mean": [1.0], "std": [0.0], "min": [1.0], "max": [1.0], "count": [5]}
    >>> _ = pathlib.Path("stats.json").write_text(json.dumps({"action": episode}))
    >>> from_lerobot("stats.json")
    {'action': Moments(C=1, n=5, mean=[1], std=[0])}
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        msg = f"{path} is no file of LeRobot's: it holds no text"
        raise ValueError(msg) from None
    if path.suffix == ".jsonl":
        episodes = [
            (f"{path}, line {at}", line) for at, line in enumerate(lines, 1) if line.strip()
        ]
    else:
        episodes = [(str(path), "\n".join(lines))]
    if not episodes:
        msg = f"{path} is empty"
        raise ValueError(msg)
    parts = [_episode(where, text) for where, text in episodes]
    return _named(merge(parts), path.parent / "info.json")


def _episode(where: str, text: str) -> dict[str, Moments]:
    try:
        document = json.loads(text)
    except ValueError as error:
        msg = f"{where} is no JSON: {error}"
        raise ValueError(msg) from error
    stats = document.get("stats", document) if isinstance(document, Mapping) else None
    if not isinstance(stats, Mapping) or not stats:
        msg = f"{where} holds no statistics by feature"
        raise ValueError(msg)
    return {feature: _feature(f"{where}, {feature}", of) for feature, of in stats.items()}


def _feature(where: str, of: Any) -> Moments:
    lost = [name for name in _FIELDS if name not in of] if isinstance(of, Mapping) else _FIELDS
    if lost:
        msg = f"{where} has no {', '.join(lost)}"
        raise ValueError(msg + "; without a count it cannot be merged" * ("count" in lost))
    try:
        mean, std, low, high, count = (np.ravel(np.asarray(of[name])) for name in _FIELDS)
        counts = np.broadcast_to(count.astype(np.int64), mean.shape)
        # Means rounded to float32 may lie beyond the extremes of equal values.
        ends = np.minimum(low, mean), np.maximum(high, mean)
        return Moments.from_mean_std(counts, mean, std, 0, *ends)
    except (TypeError, ValueError) as error:
        msg = f"{where}: {error}"
        raise ValueError(msg) from error


def _named(values: dict[str, Moments], info: Path) -> dict[str, Moments]:
    if not info.exists():
        return values
    features = json.loads(info.read_text(encoding="utf-8")).get("features", {})
    named = {}
    for feature, value in values.items():
        described = features.get(feature, {})
        # Those of images are names of axes: height, width, channel.
        pictures = described.get("dtype") in ("image", "video")
        names = () if pictures else tuple(_flat(described.get("names")))
        fits = len(names) == value.channels and len(set(names)) == len(names)
        named[feature] = value.with_meta(names=names) if fits else value
    return named


def _flat(names: Any) -> Iterable[str]:
    if isinstance(names, str):
        yield names
    elif isinstance(names, Mapping):
        yield from _flat(list(names.values()))
    elif isinstance(names, list):
        for name in names:
            yield from _flat(name)


def to_lerobot(values: Mapping[str, Value]) -> dict[str, dict[str, Any]]:
    """Return statistics in the form of LeRobot's ``meta/stats.json``.

    Parameters
    ----------
    values : dict of Moments
        By feature. Those of features with "image" in their names get LeRobot's shape (C, 1, 1).

    Raises
    ------
    ValueError
        If a number is undefined, an extreme unknown, or counts differ between channels.
    """
    if not isinstance(values, Mapping):
        msg = f"expected a dict of Moments by feature, got {type(values).__name__}"
        raise TypeError(msg)
    return {feature: _as_feature(feature, value) for feature, value in values.items()}


def _as_feature(feature: str, value: Value) -> dict[str, Any]:
    numbers = {
        "mean": value.mean,
        "std": value.std(),
        "min": value.minimum,
        "max": value.maximum,
    }
    for name, of in numbers.items():
        if not np.isfinite(of).all():
            msg = f"the {name} of {feature} is undefined or unknown, which LeRobot has no word for"
            raise ValueError(msg)
    if len(set(value.count.tolist())) > 1:
        msg = f"the channels of {feature} have different counts; LeRobot has one for all"
        raise ValueError(msg)
    shape = (-1, 1, 1) if "image" in feature else (-1,)
    stats: dict[str, Any] = {name: of.reshape(shape).tolist() for name, of in numbers.items()}
    return stats | {"count": [int(value.count[0])]}


def refuse_batch_norm(given: Any) -> None:
    """Refuse the buffers of a BatchNorm layer as moments, and say why.

    Raises
    ------
    TypeError
        If that is what it is.
    """
    if hasattr(given, "running_mean") and hasattr(given, "running_var"):
        msg = (
            "BatchNorm's buffers are no moments: its running variance averages the variances of "
            "batches, without how far their means differ, and by momentum, without a count; they "
            "can only normalize: Normalize.from_batch_norm(layer)"
        )
        raise TypeError(msg)
