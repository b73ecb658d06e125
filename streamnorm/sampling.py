"""How far the answer of a sample may be from that of the whole."""

from dataclasses import replace

import numpy as np

from streamnorm.fields import Floats
from streamnorm.meta import Sample
from streamnorm.partial import Partial
from streamnorm.value import Value

__all__ = ["with_errors"]


def with_errors(sample: Sample, rows: Partial, whole: Value, *, each: bool) -> Sample:
    r"""Return a sample with its standard errors, clustered by image.

    Pixels of an image resemble each other, so the images are what was drawn, not the pixels. The
    mean is a ratio of totals over images, :math:`\bar x = \sum w_i \bar x_i / \sum w_i`; by
    linearisation (Cochran 1977, Sampling Techniques, 3rd ed., eq. 6.13) its variance is

    .. math::
        \frac{1 - n/N}{(\sum w_i)^2}\,\frac{n}{n-1} \sum e_i^2, \qquad
        e_i = w_i (\bar x_i - \bar x) ,

    and that of the variance is the same with
    :math:`e_i = w_i (s_i^2 + (\bar x_i - \bar x)^2 - s^2)`; the error of the std is that of the
    variance over twice the std.

    Parameters
    ----------
    sample : Sample
    rows : array of PARTIAL, shape (n, C)
        One row for each image.
    whole : Moments or WeightedMoments
        Of all of them together.
    each : bool
        Whether every image has the weight 1, instead of its number of pixels.
    """
    if len(rows) < 2:
        unknown = (None,) * whole.channels
        return replace(sample, mean_error=unknown, std_error=unknown)
    count = rows["count"].astype(np.float64)
    n = len(rows)
    with np.errstate(all="ignore"):
        weight = (count > 0) * 1.0 if each else count
        mean = np.where(count > 0, rows["mean"], 0.0) - whole.mean
        spread = np.where(count > 0, rows["m2"] / count, 0.0)
        share = (1 - sample.taken / sample.of) * n / (n - 1) / weight.sum(0) ** 2
        of_mean = np.sqrt(share * ((weight * mean) ** 2).sum(0))
        of_variance = share * ((weight * (spread + mean**2 - whole.variance())) ** 2).sum(0)
        of_std = np.sqrt(of_variance) / (2 * whole.std())
    return replace(sample, mean_error=_known(of_mean), std_error=_known(of_std))


def _known(values: Floats) -> tuple[float | None, ...]:
    return tuple(value if np.isfinite(value) else None for value in values.tolist())
