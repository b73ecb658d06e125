"""Values -> plain JSON values, and back, checked; nothing is lost in between."""

import math
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from streamnorm import readers
from streamnorm.exact import ExactMoments
from streamnorm.labels import Label
from streamnorm.limbs import COUNTS
from streamnorm.meta import Meta, Pass, Provenance
from streamnorm.moments import Moments
from streamnorm.rationals import known
from streamnorm.value import Value
from streamnorm.weighted import WeightedMoments

__all__ = ["KINDS", "SEVERAL", "Held", "from_document", "to_document"]

_ENVELOPE = (
    "format",
    "version",
    "kind",
    "channels",
    "channel_shape",
    "names",
    "labels",
    "unlabelled",
)
_BEHIND = ("provenance", "checksum")
SEVERAL = "several"
"""The kind of a document that holds several values, by name."""
One = Moments | ExactMoments | WeightedMoments
Held = One | Mapping[str, One]
_SPELLED = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_POWER = re.compile(r"(-?[1-9][0-9]*)\*2\^(-?[0-9]+)")
_MOST_BITS = 4400
"""More than any sum of float64, or its exponent, has."""


def to_document(value: Held) -> dict[str, Any]:
    """Return everything that a value holds, or each of several by their names."""
    if isinstance(value, Mapping):
        return {
            "kind": SEVERAL,
            "values": {name: to_document(one) for name, one in value.items()},
        }
    meta = value.meta
    return {
        "kind": _kind_of(value),
        "channels": value.channels,
        "channel_shape": None if meta.channel_shape is None else list(meta.channel_shape),
        "names": None if meta.names is None else list(meta.names),
        **({"labels": [label.to_json() for label in meta.labels]} if meta.labels else {}),
        **({"unlabelled": True} if meta.unlabelled else {}),
        **(_exact_fields(value) if isinstance(value, ExactMoments) else _fields(value)),
        "provenance": {
            "passes": [entry.to_json() for entry in meta.provenance.passes],
            "further": meta.provenance.further,
            "digest": meta.provenance.digest,
        },
    }


def from_document(document: Mapping[str, Any]) -> Any:
    """Return the value that a document of a known kind holds, or several by their names.

    Raises
    ------
    AttributeError, KeyError, OverflowError, TypeError, ValueError
        If it is not what `to_document` gives, or its numbers could come from no data.
    """
    if document["kind"] == SEVERAL:
        return _several(document)
    make, fields = KINDS[document["kind"]]
    channels = _whole(document["channels"])
    if unknown := set(document) - {*_ENVELOPE, *fields, *_BEHIND}:
        msg = f"it has unknown fields {sorted(unknown)}"
        raise ValueError(msg)
    given = {}
    for name, read in fields.items():
        values = document[name]
        if not isinstance(values, list) or len(values) != channels:
            msg = f"{name} must list {channels} numbers, one per channel"
            raise ValueError(msg)
        given[name] = [read(name, value) for value in values]
    return make(given, _meta(document))


def _several(document: Mapping[str, Any]) -> dict[str, Any]:
    values = document["values"]
    if not isinstance(values, dict) or not values:
        msg = "values must be an object of at least one value"
        raise ValueError(msg)
    if unknown := set(document) - {"format", "version", "kind", "values", "checksum"}:
        msg = f"it has unknown fields {sorted(unknown)}"
        raise ValueError(msg)
    if any(value["kind"] not in KINDS for value in values.values()):
        msg = f"its values must be of kind {' or '.join(map(repr, KINDS))}"
        raise ValueError(msg)
    return {name: from_document(value) for name, value in values.items()}


def _kind_of(value: Value) -> str:
    if isinstance(value, ExactMoments):
        return "exact moments"
    return "weighted moments" if isinstance(value, WeightedMoments) else "moments"


def _fields(moments: Moments | WeightedMoments) -> dict[str, Any]:
    reads = KINDS[_kind_of(moments)][1]
    lists = {name: getattr(moments, name).tolist() for name in reads}
    return {
        name: values if reads[name] is _integer else [_spell(value) for value in values]
        for name, values in lists.items()
    }


def _exact_fields(moments: ExactMoments) -> dict[str, Any]:
    return {
        **{name: getattr(moments, name).tolist() for name in COUNTS},
        "sum": list(map(_spell_power, moments.sum)),
        "sum_of_squares": list(map(_spell_power, moments.sum_of_squares)),
        "minimum": list(map(_spell_extreme, moments.finite_minimum)),
        "maximum": list(map(_spell_extreme, moments.finite_maximum)),
    }


def _moments(fields: dict[str, list[Any]], meta: Meta) -> Moments:
    return Moments(**_arrays(fields, _MOMENTS), meta=meta)


def _weighted_moments(fields: dict[str, list[Any]], meta: Meta) -> WeightedMoments:
    return WeightedMoments(**_arrays(fields, _WEIGHTED), meta=meta)


def _arrays(fields: dict[str, list[Any]], reads: "_Reads") -> dict[str, Any]:
    arrays = {
        name: np.array(values, np.int64 if reads[name] is _integer else np.float64)
        for name, values in fields.items()
    }
    empty = arrays["count"] == 0
    if any(not np.isnan(arrays[name][empty]).all() for name in ("mean", "minimum", "maximum")):
        msg = "a channel with count 0 has a mean or an extreme"
        raise ValueError(msg)
    return arrays


def _exact_moments(fields: dict[str, list[Any]], meta: Meta) -> ExactMoments:
    counts = {name: np.array(fields[name], np.int64) for name in COUNTS}
    others = {name: values for name, values in fields.items() if name not in COUNTS}
    return ExactMoments(**counts, **others, meta=meta)


def _meta(document: Mapping[str, Any]) -> Meta:
    shape, names, provenance = (document[k] for k in ("channel_shape", "names", "provenance"))
    if not isinstance(names, list | None) or not isinstance(shape, list | None):
        msg = "names and channel_shape must be lists or null"
        raise TypeError(msg)
    return Meta(
        names=None if names is None else tuple(names),
        channel_shape=None if shape is None else tuple(map(_whole, shape)),
        provenance=Provenance(
            tuple(Pass.from_json(entry) for entry in provenance["passes"]),
            _whole(provenance["further"]),
            _text(provenance["digest"]),
        ),
        labels=tuple(Label.from_json(label) for label in document.get("labels", ())),
        unlabelled=document.get("unlabelled", False) is True,
    )


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


def _integer(name: str, value: Any) -> int:
    if type(value) is not int:
        msg = f"{name} must be whole numbers"
        raise ValueError(msg)
    return value


def _float(name: str, value: Any) -> float:
    if type(value) not in (int, float) and value not in _SPELLED:
        msg = f"{name} must be numbers, or one of {', '.join(_SPELLED)}"
        raise ValueError(msg)
    return _SPELLED[value] if isinstance(value, str) else float(value)


def _spell(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def _spell_power(number: Fraction) -> str:
    """Write a sum as an odd integer times a power of two: one way for every number."""
    odd, exponent = readers.odd_and_power(number)
    return f"{odd}*2^{exponent}" if odd else "0"


def _power(name: str, value: Any) -> Fraction:
    found = _POWER.fullmatch(value) if isinstance(value, str) and len(value) < _MOST_BITS else None
    if value == "0":
        return Fraction(0)
    if found is None or not int(found[1]) % 2 or abs(int(found[2])) > _MOST_BITS:
        msg = (
            f"{name} must be odd integers times powers of two, such as '-3*2^-5', or '0'; got "
            f"{str(value)[:40]!r}"
        )
        raise ValueError(msg)
    number = int(found[1]) * Fraction(2) ** int(found[2])
    if _spell_power(number) != value:
        msg = f"{name} must be in its one form, {_spell_power(number)!r} instead of {value!r}"
        raise ValueError(msg)
    return number


def _spell_extreme(number: Fraction | None) -> float | str:
    """Write a float64 as a number, and other integers as text."""
    if number is None:
        return "NaN"
    value = float(number)
    return value if Fraction(value) == number else str(number)


def _extreme(name: str, value: Any) -> Fraction | None:
    if isinstance(value, str) and re.fullmatch(r"-?[1-9][0-9]{15,19}", value):
        number = Fraction(int(value))
        if Fraction(float(number)) != number:
            return number
    is_number = type(value) in (int, float) and math.isfinite(value) and float(value) == value
    if value == "NaN" or is_number:
        return known(name, [math.nan if value == "NaN" else value], 1)[0]
    msg = f"{name} must be finite numbers, integers beyond float64 as text, or NaN"
    raise ValueError(msg)


_Reads = Mapping[str, Callable[[str, Any], Any]]
_MOMENTS: _Reads = {
    "count": _integer,
    "omitted": _integer,
    "mean": _float,
    "m2": _float,
    "minimum": _float,
    "maximum": _float,
}
_EXACT: _Reads = {
    **dict.fromkeys(COUNTS, _integer),
    "sum": _power,
    "sum_of_squares": _power,
    "minimum": _extreme,
    "maximum": _extreme,
}
_WEIGHTED: _Reads = {
    "count": _integer,
    "weight": _float,
    "weight_squared": _float,
    "omitted": _integer,
    "mean": _float,
    "m2": _float,
    "minimum": _float,
    "maximum": _float,
}
KINDS: Mapping[str, tuple[Callable[..., Any], _Reads]] = {
    "moments": (_moments, _MOMENTS),
    "weighted moments": (_weighted_moments, _WEIGHTED),
    "exact moments": (_exact_moments, _EXACT),
}
"""For every kind of value how to make it, and how its fields are read, in their order."""
