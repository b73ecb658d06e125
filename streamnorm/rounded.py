"""What both values of rounded sums share: readers of records with count, mean, m2 and extremes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamnorm.fields import Bools, Counts, Floats
from streamnorm.meta import Meta
from streamnorm.value import Value

__all__ = ["Rounded"]


class Rounded(Value):
    """Statistics of every channel in one array of records: `Moments` and `WeightedMoments`."""

    __slots__ = ()

    @property
    def count(self) -> Counts:
        return self._field("count")

    @property
    def mean(self) -> Floats:
        return self._field("mean")

    @property
    def m2(self) -> Floats:
        return self._field("m2")

    @property
    def minimum(self) -> Floats:
        return self._field("minimum")

    @property
    def maximum(self) -> Floats:
        return self._field("maximum")

    @property
    def omitted(self) -> Counts:
        return self._field("omitted")

    @property
    def extremes_known(self) -> Bools:
        rows = self._rows
        known = ~(np.isnan(rows["minimum"]) | np.isnan(rows["maximum"]))
        known |= (rows["count"] == 0) | np.isnan(rows["mean"])
        return np.asarray(known)

    @property
    def constant(self) -> Bools:
        # Extremes count too: the squares of tiny deviations can underflow to 0, never the reverse.
        return np.asarray((self.m2 == 0) | (self.minimum == self.maximum))

    def std(self, ddof: float = 0) -> Floats:
        return np.sqrt(self.variance(ddof))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        mine, theirs = self._rows, other._rows
        return mine.shape == theirs.shape and all(
            np.array_equal(mine[name], theirs[name], equal_nan=name not in ("count", "omitted"))
            for name in mine.dtype.names or ()
        )

    def __hash__(self) -> int:
        return hash((self.count.tobytes(), np.nan_to_num(self.mean, nan=0.5).tobytes()))

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self._rows.tobytes(), self._meta)

    def _field(self, name: str) -> NDArray[Any]:
        values = np.ascontiguousarray(self._rows[name])
        values.flags.writeable = False
        return values


def _restored(kind: type[Rounded], data: bytes, meta: Meta) -> Rounded:
    rows: NDArray[np.void] = np.frombuffer(data, kind.empty(0).rows.dtype).copy()
    return kind.of_rows(rows, meta)
