"""Channels of several values, side by side in one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from streamnorm.limbs import widened
from streamnorm.meta import Meta, Provenance
from streamnorm.value import Value

__all__ = ["alike", "concat", "with_rows"]

V = TypeVar("V", bound=Value)


def concat(values: Iterable[V] | Mapping[str, V]) -> V:
    """Put the channels of several values side by side, for example those of a table.

    Parameters
    ----------
    values : iterable of Moments or of ExactMoments, or dict of these
        The channels come in this order. Of a dict, an array of one channel gives it its name; the
        channels of others are called ``name[0]``, or ``name.red`` where they have names.

    Returns
    -------
    Moments or ExactMoments
        Without names, if one of a list has none, or names repeat.

    Raises
    ------
    ValueError
        If there are no values, or they are labelled as different parts of the data.
    TypeError
        If one is something else, or both kinds are among them.

    Examples
    --------
    >>> import streamnorm as sn
    >>> table = {"speed": sn.measure([[1.0], [3.0]]), "arm": sn.measure([[0.0, 4.0]])}
    >>> whole = sn.concat(table)
    >>> whole.meta.names
    ('speed', 'arm[0]', 'arm[1]')
    >>> whole.mean.tolist()
    [2.0, 0.0, 4.0]
    """
    if isinstance(values, Value):
        msg = "expected several values to put side by side, got one"
        raise TypeError(msg)
    named = isinstance(values, Mapping)
    given: list[V] = list(values.values() if isinstance(values, Mapping) else values)
    if not given:
        msg = "nothing to put side by side: expected at least one value"
        raise ValueError(msg)
    kinds = {type(value) for value in given}
    if len(kinds) > 1 or not isinstance(given[0], Value):
        what = " and ".join(sorted(kind.__name__ for kind in kinds))
        msg = f"expected Moments, ExactMoments or WeightedMoments, all of one kind; got {what}"
        raise TypeError(msg)
    names = _keyed(values) if named and isinstance(values, Mapping) else _own(given)
    rows = np.concatenate(alike([value.rows for value in given]))
    return with_rows(given[0], rows, _joined([value.meta for value in given], names))


def alike(records: Sequence[NDArray[np.void]]) -> Sequence[NDArray[np.void]]:
    """Return records of one dtype: those of exact sums may be on either grid."""
    return records if len({rows.dtype for rows in records}) == 1 else list(map(widened, records))


def with_rows(like: V, rows: NDArray[np.void], meta: Meta) -> V:
    """Return a value of the same kind, of records that are its own from now on."""
    return type(like).of_rows(rows, meta)


def _keyed(values: Mapping[str, Value]) -> tuple[str, ...]:
    names: list[str] = []
    for key, value in values.items():
        own = value.meta.names
        if value.channels == 1:
            names.append(key)
        elif own is None:
            names += [f"{key}[{at}]" for at in range(value.channels)]
        else:
            names += [f"{key}.{name}" for name in own]
    return tuple(names)


def _own(values: Sequence[Value]) -> tuple[str, ...] | None:
    if any(value.meta.names is None for value in values):
        return None
    names = tuple(name for value in values for name in value.meta.names or ())
    return names if len(set(names)) == len(names) else None


def _joined(metas: Sequence[Meta], names: tuple[str, ...] | None) -> Meta:
    labels = {meta.labels for meta in metas}
    if len(labels) > 1:
        msg = "the values are labelled as different parts of the data; merge the parts first"
        raise ValueError(msg)
    provenance = Provenance()
    for meta in metas:
        # The errors of a sample are of its own channels only.
        provenance += meta.without_errors().provenance
    unlabelled = any(meta.unlabelled for meta in metas)
    return replace(
        metas[0], names=names, channel_shape=None, provenance=provenance, unlabelled=unlabelled
    )
