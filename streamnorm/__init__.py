"""Mean and spread of every channel of a data set, in one pass."""

from streamnorm.accumulator import Accumulator
from streamnorm.measure import measure
from streamnorm.moments import Moments, merge
from streamnorm.version import __version__

__all__ = ["Accumulator", "Moments", "__version__", "measure", "merge"]
