"""The one place that decides precision: what a stored number becomes before it is summed."""

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

__all__ = ["Precision", "Summed", "precision_of"]


class Summed(Enum):
    """How the values of one block are added up. Between blocks everything is float64."""

    INTEGERS = "as integers, exactly"
    CENTRED = "as float64, after an integer was subtracted in integers"
    FLOATS = "as float64"


@dataclass(frozen=True, slots=True)
class Precision:
    """The decision for one stored dtype.

    Attributes
    ----------
    name : str
        The dtype as users know it ("bfloat16" too, which NumPy has no name for).
    kernel : numpy.dtype
        What a block is converted to before a kernel sees it; holds every stored value exactly.
    summed : Summed
        How the kernel adds up.
    """

    name: str
    kernel: np.dtype[np.generic]
    summed: Summed

    def convert(self, block: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return `block` C-contiguous and in the kernel's dtype; itself where it already is."""
        if self.name == "bfloat16":
            return (np.ascontiguousarray(block).astype(np.uint32) << 16).view(np.float32)
        return np.ascontiguousarray(block, self.kernel)


_SUMMED = {
    "bool": Summed.INTEGERS,
    "int8": Summed.INTEGERS,
    "uint8": Summed.INTEGERS,
    "int16": Summed.INTEGERS,
    "uint16": Summed.INTEGERS,
    "int32": Summed.CENTRED,
    "uint32": Summed.CENTRED,
    "int64": Summed.CENTRED,
    "uint64": Summed.CENTRED,
    "float16": Summed.FLOATS,
    "bfloat16": Summed.FLOATS,
    "float32": Summed.FLOATS,
    "float64": Summed.FLOATS,
}
_WIDENED = {"bool": "uint8", "float16": "float32", "bfloat16": "float32"}


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
    return Precision(name, np.dtype(_WIDENED.get(name, name)), _SUMMED[name])
