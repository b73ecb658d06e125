"""The one place that decides precision: what a stored number becomes before it is summed."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum

import numpy as np

__all__ = ["Precision", "Summed", "precision_of", "scales_may_differ"]


class Summed(Enum):
    """How the values of one block are added up. Between blocks everything is float64."""

    INTEGERS = "as integers, exactly"
    CENTRED = "as float64, after an integer was subtracted in integers"
    FLOATS = "as float64, which holds every value exactly"


@dataclass(frozen=True, slots=True)
class Precision:
    """The decision for one stored dtype.

    Attributes
    ----------
    name : str
        The dtype as users know it ("bfloat16" too, which NumPy has no name for).
    bits : numpy.dtype
        How a kernel reads the memory: one dtype for all that are read alike.
    summed : Summed
        How the kernel adds up.
    flip : int
        For signed integers that are read as unsigned: their highest bit, which makes the unsigned
        number the signed one plus half of the range; else 0.
    """

    name: str
    bits: np.dtype[np.generic]
    summed: Summed
    flip: int = 0

    @property
    def is_float(self) -> bool:
        """Whether the stored numbers are floats."""
        return "float" in self.name

    @property
    def range(self) -> tuple[int, int]:
        """The least and the greatest integer of an integer dtype."""
        if self.name == "bool":
            return 0, 1
        info = np.iinfo(self.name)
        return int(info.min), int(info.max)


_SUMMED = {
    "bool": Summed.INTEGERS,
    "int8": Summed.INTEGERS,
    "uint8": Summed.INTEGERS,
    "int16": Summed.INTEGERS,
    "uint16": Summed.INTEGERS,
    "int32": Summed.FLOATS,
    "uint32": Summed.FLOATS,
    "int64": Summed.CENTRED,
    "uint64": Summed.CENTRED,
    "float16": Summed.FLOATS,
    "bfloat16": Summed.FLOATS,
    "float32": Summed.FLOATS,
    "float64": Summed.FLOATS,
}
_BITS = {
    "bool": "uint8",
    "int8": "uint8",
    "int16": "uint16",
    "float16": "int16",
    "bfloat16": "uint16",
}
_FLIP = {"int8": 1 << 7, "int16": 1 << 15}


def precision_of(name: str) -> Precision:
    """Decide how values of the dtype called `name` are summed.

    Raises
    ------
    TypeError
        For complex, object, string, date and extended-precision dtypes.
    """
    if name not in _SUMMED:
        msg = (
            f"expected real numbers (bool, an integer of 8 to 64 bits, float16, bfloat16, float32 "
            f"or float64) but got dtype {name}; convert first, for example with "
            f"array.astype('float64')"
        )
        raise TypeError(msg)
    return Precision(name, np.dtype(_BITS.get(name, name)), _SUMMED[name], _FLIP.get(name, 0))


def scales_may_differ(names: Collection[str]) -> bool:
    """Whether data of these dtypes may be of different scales, such as 0 to 255 and 0 to 1."""
    return len(names) > 1 and not all("float" in name for name in names)
