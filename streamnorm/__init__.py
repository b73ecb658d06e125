"""Mean and spread of every channel of a data set, in one pass.

Batches, files and shards are measured to partial results that merge into the statistics of the
whole::

    import streamnorm as sn

    part = sn.measure(batch, channel_axis=1)      # Moments of one batch
    total = sn.compute("data/train", workers=8)   # a folder, file, array, loader or iterable
    both = sn.merge([part, total])                # or part + total
    norm = sn.Normalize.from_moments(total)       # norm(x), norm.inverse(y)
    sn.save(total, "train.stats.json")
"""

from streamnorm.accumulator import Accumulator
from streamnorm.channels import concat
from streamnorm.compute import compute
from streamnorm.errors import StateFileError, StreamnormWarning
from streamnorm.exact import ExactMoments
from streamnorm.labels import Label
from streamnorm.measure import measure
from streamnorm.moments import Moments
from streamnorm.normalize import Normalize
from streamnorm.state import load, save
from streamnorm.value import merge
from streamnorm.version import __version__
from streamnorm.weighing import measure_weighted
from streamnorm.weighted import WeightedMoments

__all__ = [
    "Accumulator",
    "ExactMoments",
    "Label",
    "Moments",
    "Normalize",
    "StateFileError",
    "StreamnormWarning",
    "WeightedMoments",
    "__version__",
    "compute",
    "concat",
    "load",
    "measure",
    "measure_weighted",
    "merge",
    "save",
]
