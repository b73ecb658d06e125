"""What attributes say of stored numbers: which are missing, and how they are packed.

The CF conventions, chapters 2.5.1 (missing data) and 8.1 (packed data), which NetCDF, and much of
what is in zarr and HDF5, follow.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamnorm.arrays import Array
from streamnorm.masks import both, where_not
from streamnorm.sources.items import Packing, Reading

__all__ = ["Convention", "is_aside", "named_aside"]


@dataclass(frozen=True, slots=True)
class Convention:
    """How the stored numbers of one variable are to be read.

    Attributes
    ----------
    missing : tuple of float
        Stored values that mean "nothing here".
    lowest, highest : float or None
        Stored values outside of these are missing too.
    packing : (float, float) or None
        Scale and offset.
    unsigned : bool
        Whether signed integers stand for unsigned ones.
    """

    missing: tuple[Any, ...] = ()
    lowest: Any = None
    highest: Any = None
    packing: Packing | None = None
    unsigned: bool = False

    @classmethod
    def of(cls, attributes: Mapping[str, Any], default: Any = None) -> "Convention":
        """Read the attributes of a variable.

        Parameters
        ----------
        attributes : mapping
        default : number, optional
            What the format fills with where nothing was written, unless the attributes say.
        """
        given = {name: _numbers(value) for name, value in attributes.items()}
        missing = [*given.get("_FillValue", ()), *given.get("missing_value", ())]
        if default is not None and not given.get("_FillValue"):
            missing.append(default)
        ends = given.get("valid_range", ())
        lowest, highest = (ends[0], ends[1]) if len(ends) == 2 else (None, None)
        scale, offset = (
            float((given.get(name) or (neutral,))[0])
            for name, neutral in (("scale_factor", 1.0), ("add_offset", 0.0))
        )
        return cls(
            tuple(missing),
            (given.get("valid_min") or (lowest,))[0],
            (given.get("valid_max") or (highest,))[0],
            None if (scale, offset) == (1.0, 0.0) else (scale, offset),
            _text(attributes.get("_Unsigned", "")).lower() == "true",
        )

    def reading(self, stored: Any, *, declared: bool) -> Reading:
        """Return what was stored, with its mask unless nothing is to be missing."""
        array: Array = np.asarray(stored)
        if self.unsigned and array.dtype.kind == "i":
            array = array.view(array.dtype.str.replace("i", "u"))
        mask = None
        if declared:
            for value in self.missing:
                mask = both(mask, where_not(array, self._meant(value, array), None))
            for given, keeps in ((self.lowest, np.greater_equal), (self.highest, np.less_equal)):
                if given is not None:
                    within = keeps(array, self._meant(given, array))
                    # A NaN is no number outside: it is left to nan_policy.
                    mask = both(mask, within | (array != array))  # noqa: PLR0124
        return Reading(array, None if mask is None or mask.all() else mask, self.packing)

    def _meant(self, value: Any, array: Array) -> Any:
        """Return a limit as values are: it is written as the signed number that is stored."""
        wraps = self.unsigned and array.dtype.kind == "u" and value < 0
        return value + (1 << 8 * array.dtype.itemsize) if wraps else value


def named_aside(attributes: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return what the attributes of all variables of a group name as coordinates and the like."""
    roles = ("coordinates", "bounds", "grid_mapping")
    return {name for of in attributes for role in roles for name in _text(of.get(role, "")).split()}


def is_aside(name: str, dimensions: tuple[str, ...], named: Collection[str]) -> bool:
    """Whether a variable only describes others: a coordinate, its bounds, or what has no axis.

    Parameters
    ----------
    name : str
    dimensions : tuple of str
        Names of its axes.
    named : collection of str
        See `named_aside`.
    """
    return not dimensions or dimensions == (name,) or name in named


def _numbers(value: Any) -> list[Any]:
    """Return the numbers of an attribute; none where it holds something else."""
    array = np.ravel(np.asarray(value))
    return array.tolist() if array.dtype.kind in "biuf" else []


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
