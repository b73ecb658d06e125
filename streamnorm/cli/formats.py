"""Moments as text: a table for people, and what other tools read."""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from streamnorm.exact import ExactMoments
from streamnorm.value import Value

__all__ = ["as_json", "as_table", "as_torchvision", "as_yaml", "rows_as_text"]

_COLUMNS = ("channel", "count", "mean", "std", "min", "max")


def as_table(moments: Value, ddof: float) -> str:
    """One row a channel."""
    names = moments.meta.names or tuple(map(str, range(moments.channels)))
    omitted = bool(moments.omitted.any())
    rows: list[tuple[str, ...]] = [(*_COLUMNS, "omitted") if omitted else _COLUMNS]
    columns = [moments.mean, moments.std(ddof), moments.minimum, moments.maximum]
    known, counts = moments.extremes_known, moments.count
    for c, name in enumerate(names):
        numbers = [f"{column[c]:.10g}" for column in columns]
        if not known[c]:
            numbers[2:] = ["unknown" if text == "nan" else text for text in numbers[2:]]
        row = (name, f"{counts[c]:,}", *numbers)
        rows.append((*row, f"{moments.omitted[c]:,}") if omitted else row)
    return rows_as_text(rows)


def rows_as_text(rows: Sequence[Sequence[str]]) -> str:
    """Align cells: the first column left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def as_json(moments: Value, ddof: float) -> str:
    """Strict JSON; NaN and infinities as null."""
    report = moments.meta.report
    digest = {"digest": moments.digest()} if isinstance(moments, ExactMoments) else {}
    plain = {
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
        "report": {
            "read": report.read,
            "skipped": report.skipped,
            "skipped_items": [list(item) for item in report.skipped_items],
            "ignored": report.ignored,
            "converted": dict(report.converted),
        },
    }
    return json.dumps(plain, indent=1, allow_nan=False) + "\n"


def as_torchvision(moments: Value, ddof: float) -> str:
    """Return a line for a torchvision pipeline.

    Raises
    ------
    ValueError
        If a mean or std is undefined: the line would not run.
    """
    if not (np.isfinite(moments.mean).all() and np.isfinite(moments.std(ddof)).all()):
        msg = "a mean or std is NaN or infinite, so there is nothing to normalize with"
        raise ValueError(msg)
    return f"transforms.Normalize(mean={_list(moments.mean)}, std={_list(moments.std(ddof))})\n"


def as_yaml(moments: Value, ddof: float) -> str:
    """YAML 1.2; its numbers are JSON's, with YAML's own words for NaN and infinity."""
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
    return "\n".join([*lines, f"ddof: {ddof:g}"]) + "\n"


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
