"""Moments as text: a table for people, and what other tools read."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from streamnorm.channels import concat
from streamnorm.errors import warn
from streamnorm.exact import ExactMoments
from streamnorm.exchange import to_lerobot
from streamnorm.fields import channels_where
from streamnorm.value import Value

__all__ = [
    "Held",
    "alone",
    "as_json",
    "as_lerobot",
    "as_table",
    "as_torchvision",
    "as_yaml",
    "rows_as_text",
]

_COLUMNS = ("channel", "count", "mean", "std", "min", "max")


Held = Value | Mapping[str, Value]
"""What a state file holds: one value, or several by name."""


def alone(held: Held, what: str) -> Value:
    """Return the one value that is there.

    Raises
    ------
    ValueError
        If there are several.
    """
    if isinstance(held, Value):
        return held
    msg = f"there are several arrays, {', '.join(held)}: {what} needs one, choose it with --select"
    raise ValueError(msg)


def as_table(held: Held, ddof: float) -> str:
    """One row a channel; several arrays one below the other."""
    moments = held if isinstance(held, Value) else concat(held)
    names = moments.channel_names
    omitted = bool(moments.omitted.any())
    rows: list[tuple[str, ...]] = [(*_COLUMNS, "omitted") if omitted else _COLUMNS]
    columns = [moments.mean, moments.std(ddof), moments.minimum, moments.maximum]
    known, counts = moments.extremes_known, moments.count
    mean_error, std_error = _errors(moments)
    for c, name in enumerate(names):
        numbers = [f"{column[c]:.10g}" for column in columns]
        numbers[0] += mean_error[c]
        numbers[1] += std_error[c]
        if not known[c]:
            numbers[2:] = ["unknown" if text == "nan" else text for text in numbers[2:]]
        row = (name, f"{counts[c]:,}", *numbers)
        rows.append((*row, f"{moments.omitted[c]:,}") if omitted else row)
    return rows_as_text(rows)


def _errors(moments: Value) -> tuple[list[str], list[str]]:
    """Return what stands behind means and stds: their standard errors, of a sample."""
    passes = moments.meta.provenance.passes
    sample = passes[0].sample if len(passes) == 1 else None
    if sample is None:
        return [""] * moments.channels, [""] * moments.channels
    said = [
        [" ± ?" if error is None else f" ± {error:.2g}" for error in errors]
        for errors in (sample.mean_error, sample.std_error)
    ]
    return said[0], said[1]


def rows_as_text(rows: Sequence[Sequence[str]], *, numbers: bool = True) -> str:
    """Align cells: the first column left, the others right where they are numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    other = str.rjust if numbers else str.ljust
    lines = ["  ".join([row[0].ljust(widths[0]), *map(other, row[1:], widths[1:])]) for row in rows]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def as_json(held: Held, ddof: float) -> str:
    """Strict JSON; NaN and infinities as null. Several arrays by their names."""
    if isinstance(held, Value):
        plain = _plain(held, ddof)
    else:
        plain = {name: _plain(value, ddof) for name, value in held.items()}
    return json.dumps(plain, indent=1, allow_nan=False) + "\n"


def _plain(moments: Value, ddof: float) -> dict[str, Any]:
    report = moments.meta.report
    digest = {"digest": moments.digest()} if isinstance(moments, ExactMoments) else {}
    return {
        "channels": moments.channels,
        "names": moments.meta.names,
        "count": moments.count.tolist(),
        "mean": _finite(moments.mean.tolist()),
        "std": _finite(moments.std(ddof).tolist()),
        "ddof": ddof,
        "minimum": _finite(moments.minimum.tolist()),
        "maximum": _finite(moments.maximum.tolist()),
        "omitted": moments.omitted.tolist(),
        **digest,
        "labels": list(map(str, moments.meta.labels)),
        "passes": [entry.to_json() for entry in moments.meta.provenance.passes],
        "report": {
            "read": report.read,
            "skipped": report.skipped,
            "skipped_items": [list(item) for item in report.skipped_items],
            "ignored": report.ignored,
            "converted": dict(report.converted),
        },
    }


def as_torchvision(held: Held, ddof: float) -> str:
    """Return a line for a torchvision pipeline; warn where a std is 0.

    Raises
    ------
    ValueError
        If a mean or std is undefined: the line would not run.
    """
    moments = alone(held, "torchvision's form")
    mean, std = moments.mean, moments.std(ddof)
    if not (np.isfinite(mean).all() and np.isfinite(std).all()):
        msg = "a mean or std is NaN or infinite, so there is nothing to normalize with"
        raise ValueError(msg)
    if (std == 0).any():
        warn(
            f"the std of channel(s) {channels_where(std == 0)} is 0, by which torchvision will not "
            f"divide; put 1 there, as streamnorm's Normalize does"
        )
    return f"transforms.Normalize(mean={_list(mean)}, std={_list(std)})\n"


def as_lerobot(held: Held, ddof: float) -> str:
    """LeRobot's ``stats.json``: the std is of ddof 0 there.

    Raises
    ------
    ValueError
        If the values have no names of features, or another ddof is asked for.
    """
    if isinstance(held, Value) or ddof != 0:
        msg = "LeRobot's form needs named arrays (features), and ddof 0"
        raise ValueError(msg)
    return json.dumps(to_lerobot(held), indent=1, allow_nan=False) + "\n"


def as_yaml(held: Held, ddof: float) -> str:
    """YAML 1.2; its numbers are JSON's, with YAML's own words for NaN and infinity."""
    if isinstance(held, Value):
        return "".join(f"{line}\n" for line in _yaml_lines(held, ddof))
    lines = []
    for name, value in held.items():
        lines += [f"{json.dumps(name)}:", *(f"  {line}" for line in _yaml_lines(value, ddof))]
    return "".join(f"{line}\n" for line in lines)


def _yaml_lines(moments: Value, ddof: float) -> list[str]:
    fields = {
        "count": moments.count,
        "mean": moments.mean,
        "std": moments.std(ddof),
        "minimum": moments.minimum,
        "maximum": moments.maximum,
    }
    lines = [f"{name}: [{', '.join(map(_yaml, v.tolist()))}]" for name, v in fields.items()]
    if moments.meta.names is not None:
        # A JSON string is a YAML string.
        lines.insert(0, f"names: {json.dumps(list(moments.meta.names))}")
    return [*lines, f"ddof: {ddof:g}"]


def _list(values: Any) -> str:
    return "[" + ", ".join(f"{value:.10g}" for value in values.tolist()) + "]"


def _finite(values: list[float]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values]


def _yaml(value: float) -> str:
    if not math.isfinite(value):
        return ".nan" if math.isnan(value) else (".inf" if value > 0 else "-.inf")
    # YAML 1.1 readers take 1e-05 for a string: their floats need a point.
    text = repr(value)
    return text.replace("e", ".0e") if "e" in text and "." not in text else text
